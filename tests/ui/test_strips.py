from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from webui.errors import BadRequestError, NotFoundError
from webui.events import Cancelled, Event, Failed, Finished, Saved, Started, Step, Withheld
from webui.generation.families import SD1
from webui.generator import Cancel, Session
from webui.jobs import Jobs
from webui.request import GenerationRequest, parse_request
from webui.ui.brought import BroughtIn
from webui.ui.strips import Strip, Strips, shown
from webui.ui.variants import draft_of

ME = Session(id="me")
ROWS = [{"name": "ink"}, {"name": "neon"}]


class Gated:
    """Makes a picture each time it is let through; what happens else is in the row's name."""

    def __init__(self) -> None:
        self.order: list[tuple[Session, GenerationRequest]] = []
        self.gate = threading.Semaphore(0)

    def generate(
        self, request: GenerationRequest, session: Session, cancel: Cancel
    ) -> Iterator[Event]:
        self.order.append((session, request))
        yield Started(
            model=request.model,
            width=64,
            height=64,
            steps=2,
            seeds=(1,),
            device="cpu",
            dtype="float32",
            layout="contiguous",
        )
        on = {lora.name for lora in request.loras if lora.has_effect}
        yield Step(step=1, steps=2, batch=0, batches=1, seconds_per_step=1, seconds_left=1)
        while not self.gate.acquire(timeout=0.005):
            if cancel.is_set():
                yield Cancelled(saved=0, seconds=0)
                return
        if "broken" in on:
            yield Failed(message="Row 1 is broken.", kind="BrokenFileError", field="loras.0")
            return
        if "red" in on:
            yield Withheld(seed=1)
        else:
            yield Saved(path=f"/d/{len(self.order)}.png", seed=1, sha256="a", width=64, height=64)
        yield Finished(saved=1, withheld=0, seconds=0)

    @property
    def prompts(self) -> list[str]:
        return [request.prompt for _, request in list(self.order)]


def small(request: GenerationRequest) -> GenerationRequest:
    return draft_of(request, 256, SD1.own)


@pytest.fixture
def generator() -> Gated:
    return Gated()


@pytest.fixture
def jobs(generator: Gated) -> Iterator[Jobs]:
    jobs = Jobs(generator)
    yield jobs
    jobs.close()


@pytest.fixture
def strips(jobs: Jobs) -> Strips:
    return Strips(jobs, BroughtIn(), small)


def request(*loras: dict[str, Any], **values: Any) -> GenerationRequest:
    return parse_request({"prompt": "draft", "loras": loras or ROWS, **values})


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def states(strip: Strip) -> list[str]:
    return [draft.state for draft in strip.drafts()]


def test_the_drafts_are_made_in_order_with_one_seed_and_marked_as_drafts(
    generator: Gated, strips: Strips
):
    strip = strips.start(Session(id="me", remote=True), request(), "sweep", 1)
    until(lambda: strip.drafts()[0].done == 0.5)
    assert states(strip) == ["making", *["waiting"] * 4]
    generator.gate.release()
    until(lambda: states(strip)[1] == "making")
    assert strip.drafts()[0].path == Path("/d/1.png")
    generator.gate.release(4)
    until(lambda: states(strip) == ["made"] * 5)
    asked = [made for _, made in generator.order]
    assert [made.loras[1].weight for made in asked] == [0, 0.3, 0.6, 0.9, 1.2]
    assert len({made.seed for made in asked}) == 1
    assert asked[0].seed is not None
    sessions = {session for session, _ in generator.order}
    assert sessions == {Session(id="me", remote=True, previews=False, draft=True)}


def test_what_the_person_asks_for_comes_before_the_next_draft(
    generator: Gated, jobs: Jobs, strips: Strips
):
    strip = strips.start(ME, request(), "without", 0)
    until(lambda: states(strip)[0] == "making")
    own = [jobs.submit(GenerationRequest(prompt=prompt), ME) for prompt in ("one", "two")]
    other = jobs.submit(GenerationRequest(prompt="another's"), Session(id="you"))
    generator.gate.release(2)
    until(lambda: len(generator.order) == 3 and states(strip)[0] != "making")
    assert states(strip) == ["made", "waiting", "waiting"]
    generator.gate.release(4)
    until(lambda: states(strip) == ["made"] * 3)
    assert all(isinstance([*job.follow()][-1], Finished) for job in (*own, other))
    assert [p for p in generator.prompts if p != "another's"] == ["draft", "one", "two"] + [
        "draft"
    ] * 2


def test_a_draft_that_fails_or_is_withheld_leaves_the_others_alone(
    generator: Gated, strips: Strips
):
    strip = strips.start(ME, request({"name": "broken"}, {"name": "red"}), "without", 0)
    generator.gate.release(3)
    until(lambda: shown(strip)["finished"])
    assert states(strip) == ["failed", "withheld", "failed"]
    assert strip.drafts()[0].message == "Row 1 is broken."
    assert all(item["picture"] is None for item in shown(strip)["items"])


def test_a_full_queue_is_a_sentence(generator: Gated):
    jobs = Jobs(generator, max_queued=1)
    jobs.submit(GenerationRequest(), Session(id="running"))
    until(lambda: len(generator.order) == 1)
    jobs.submit(GenerationRequest(), Session(id="waiting"))
    strip = Strips(jobs, BroughtIn(), small).start(ME, request(), "sweep", 0)
    until(lambda: shown(strip)["finished"])
    assert {draft.message for draft in strip.drafts()} == {
        "The queue is full: try again in a while."
    }
    jobs.close()


def test_ending_a_strip_ends_the_draft_at_hand_and_makes_no_more(
    generator: Gated, jobs: Jobs, strips: Strips
):
    strip = strips.start(ME, request(), "sweep", 0)
    until(lambda: states(strip)[0] == "making")
    strips.end(ME, strip.id)
    until(lambda: not jobs.requests())
    assert len(generator.order) == 1
    assert not any(draft.path for draft in strip.drafts())
    with pytest.raises(NotFoundError):
        strips.find(ME, strip.id)


def test_a_strip_that_waits_for_the_person_ends_with_them(
    generator: Gated, jobs: Jobs, strips: Strips
):
    jobs.submit(GenerationRequest(prompt="own"), ME)
    until(lambda: len(generator.order) == 1)
    strip = strips.start(ME, request(), "sweep", 0)
    strips.end(ME, strip.id)
    generator.gate.release()
    until(lambda: not jobs.requests())
    time.sleep(0.05)
    assert generator.prompts == ["own"]


def test_a_new_strip_ends_the_sessions_old_one_and_nobody_elses(generator: Gated, strips: Strips):
    you = Session(id="you")
    yours = strips.start(you, request(), "sweep", 0)
    until(lambda: states(yours)[0] == "making")
    mine = strips.start(ME, request(), "sweep", 0)
    newer = strips.start(ME, request(), "without", 0)
    generator.gate.release(9)
    until(lambda: shown(yours)["finished"] and shown(newer)["finished"])
    assert states(mine).count("made") <= 1
    assert strips.find(you, yours.id) is yours
    for session, name in ((ME, mine.id), (ME, yours.id), (you, newer.id)):
        with pytest.raises(NotFoundError):
            strips.find(session, name)


def test_a_strip_that_nobody_looks_at_any_more_ends(generator: Gated, jobs: Jobs):
    strips = Strips(jobs, BroughtIn(), small, patience=0.2)
    strip = strips.start(ME, request(), "sweep", 0)
    until(lambda: states(strip)[0] == "making")
    time.sleep(0.3)
    generator.gate.release(5)
    time.sleep(0.2)
    assert len(generator.order) == 1


def test_only_so_many_sessions_are_remembered(jobs: Jobs):
    strips = Strips(jobs, BroughtIn(), small, most=1)
    mine = strips.start(ME, request(), "sweep", 0)
    strips.start(Session(id="you"), request(), "sweep", 0)
    with pytest.raises(NotFoundError):
        strips.find(ME, mine.id)


def test_what_cannot_be_compared_is_told_at_once(generator: Gated, strips: Strips):
    with pytest.raises(BadRequestError, match="has no row 6"):
        strips.start(ME, request(), "sweep", 5)
    elsewhere = Session(id="them", remote=True)
    with pytest.raises(NotFoundError) as told:
        strips.start(elsewhere, request(init="a" * 64), "sweep", 0)
    assert told.value.field == "init"
    assert not generator.order
