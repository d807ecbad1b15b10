from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from webui.errors import BadRequestError
from webui.events import Failed, Finished, HintMade, Preview, Saved, StackMeasured, Started, Step
from webui.generator import Session
from webui.jobs import Job
from webui.request import GenerationRequest
from webui.ui.pictures import Picture
from webui.ui.story import Story
from webui.ui.texts import Catalogue
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
TEXTS = Catalogue.load()


def view(story: Story, latest: Picture | None = None, **options: Any) -> dict[str, Any]:
    job = Job(GenerationRequest(prompt="a hill"), Session(id="s"), lambda _: None)
    say = TEXTS.of(options.pop("language", "en"))
    return Views().of_job(job, story, latest, say, taken_over=False, **options)


def test_equal_states_still_differ_so_that_the_browser_hears_of_both() -> None:
    views, problem = Views(), Problem.of(BadRequestError("No.", field="width"))
    first, second = views.idle(problem=problem), views.idle(problem=problem)
    assert first != second
    assert first["problem"] == second["problem"] == {"message": "No.", "field": "width"}


def test_an_idle_page_is_not_busy_and_says_nothing() -> None:
    idle = Views().idle()
    assert (idle["busy"], idle["waiting"], idle["headline"], idle["problem"]) == (
        False,
        False,
        "",
        None,
    )


def test_a_job_is_busy_until_it_ends_and_waits_until_it_starts() -> None:
    story = Story()
    assert view(story)["waiting"]
    story = story.after(STARTED)
    assert (view(story)["busy"], view(story)["waiting"]) == (True, False)
    assert (view(story)["width"], view(story)["height"]) == (512, 256)
    assert not view(story.after(Finished(saved=0, withheld=0, seconds=1)))["busy"]


def test_a_failed_job_is_a_problem_with_its_field() -> None:
    ending = Failed(message="No such model.", kind="NotFoundError", field="model")
    failed = view(Story().after(ending))
    assert not failed["busy"]
    assert failed["problem"] == {"message": "No such model.", "field": "model"}


def test_a_job_of_another_tab_brings_its_request_along() -> None:
    job = Job(GenerationRequest(prompt="a hill"), Session(id="s"), lambda _: None)
    taken = Views().of_job(job, Story(), None, TEXTS.of("en"), taken_over=True)
    assert taken["asked"]["prompt"] == "a hill"
    assert view(Story())["asked"] is None


def test_both_kinds_of_view_have_the_same_keys() -> None:
    assert set(Views().idle()) == set(view(Story()))


def test_the_view_is_plain_json_and_leaves_texts_as_they_are() -> None:
    running = Step(step=1, steps=4, batch=0, batches=1, seconds_per_step=1, seconds_left=3)
    saved = Saved(path="/out/1.png", seed=1, sha256="ab", width=8, height=8)
    story = Story().after(STARTED).after(running).after(Preview(jpeg=b"\xff\xd8", step=1))
    shown = json.loads(json.dumps(view(story.after(saved), PICTURE)))
    assert shown["preview"] == "data:image/jpeg;base64,/9g="
    assert shown["progress"] == 0.25
    assert shown["saved"] == 1
    assert shown["latest"]["prompt"] == "${x} <b>"
    assert shown["latest"]["url"] == "pictures/ab.png"
    assert "/out" not in json.dumps(shown)


def test_the_hints_of_control_units_go_by_their_places_as_json_has_them() -> None:
    story = Story().after(STARTED).after(HintMade(control=1, jpeg=b"drawn"))
    assert view(story)["hints"] == {"1": "data:image/jpeg;base64,ZHJhd24="}


def test_what_the_stack_changes_is_in_the_view_once_it_is_known() -> None:
    measured = StackMeasured(sizes={"ink": {"mid": 0.1}}, overlaps=(("ink", "pen", 0.5),))
    assert view(Story())["stack"] is None
    stack = json.loads(json.dumps(view(Story().after(measured))["stack"]))
    assert stack["sizes"] == {"ink": {"mid": 0.1}}
    assert stack["overlaps"] == [["ink", "pen", 0.5]]
