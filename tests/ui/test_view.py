from __future__ import annotations

import json
from pathlib import Path

from webui.errors import BadRequestError
from webui.events import Failed, Finished, Preview, Started, Step
from webui.ui.pictures import Picture
from webui.ui.story import Story
from webui.ui.view import Problem, Views

STARTED = Started(
    model="m",
    width=512,
    height=256,
    steps=4,
    seeds=(1,),
    device="cpu",
    dtype="float32",
    layout="contiguous",
)
PICTURE = Picture(id="ab", path=Path("/out/1.png"), seed=1, width=8, height=8, prompt="${x} <b>")


def test_equal_states_still_differ_so_that_the_browser_hears_of_both() -> None:
    views, problem = Views(), Problem.of(BadRequestError("No.", field="width"))
    first, second = views.show((), problem=problem), views.show((), problem=problem)
    assert first != second
    assert first["problem"] == second["problem"] == {"message": "No.", "field": "width"}


def test_an_idle_page_is_not_busy_and_says_nothing() -> None:
    view = Views().show(())
    assert (view["busy"], view["waiting"], view["headline"], view["problem"]) == (
        False,
        False,
        "",
        None,
    )


def test_a_job_is_busy_until_it_ends_and_waits_until_it_starts() -> None:
    story, views = Story(), Views()
    assert views.show((), story=story)["waiting"]
    story = story.after(STARTED)
    view = views.show((), story=story)
    assert (view["busy"], view["waiting"]) == (True, False)
    assert (view["width"], view["height"]) == (512, 256)
    assert not views.show((), story=story.after(Finished(saved=0, withheld=0, seconds=1)))["busy"]


def test_a_failed_job_is_a_problem_with_its_field() -> None:
    ending = Failed(message="No such model.", kind="NotFoundError", field="model")
    view = Views().show((), story=Story().after(ending))
    assert not view["busy"]
    assert view["problem"] == {"message": "No such model.", "field": "model"}


def test_the_view_is_plain_json_and_leaves_texts_as_they_are() -> None:
    running = Step(step=1, steps=4, batch=0, batches=1, seconds_per_step=1, seconds_left=3)
    story = Story().after(STARTED).after(running).after(Preview(jpeg=b"\xff\xd8", step=1))
    view = json.loads(json.dumps(Views().show((PICTURE,), story=story)))
    assert view["preview"] == "data:image/jpeg;base64,/9g="
    assert view["progress"] == 0.25
    assert view["pictures"][0]["prompt"] == "${x} <b>"
    assert view["pictures"][0]["url"] == "pictures/ab.png"
    assert "/out" not in json.dumps(view)
