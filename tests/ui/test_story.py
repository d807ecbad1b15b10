from __future__ import annotations

from functools import reduce
from typing import get_args

import pytest

from webui.errors import EngineError
from webui.events import (
    Cancelled,
    Event,
    Finished,
    LoraApplied,
    Notice,
    Planned,
    PlanReason,
    Preview,
    Queued,
    Saved,
    StackMeasured,
    StageDone,
    StageName,
    Started,
    Step,
    Withheld,
    failed,
)
from webui.settings import PlanName
from webui.ui.story import Story, headline, memory_line, stage_line
from webui.ui.texts import Catalogue

SAY = Catalogue.load().of("en")


def started(steps: int = 20) -> Started:
    return Started(
        model="m",
        width=256,
        height=256,
        steps=steps,
        seeds=(1,),
        device="cpu",
        dtype="bfloat16",
        layout="channels_last",
    )


def step(number: int, *, batch: int = 0, batches: int = 1) -> Step:
    return Step(
        step=number,
        steps=20,
        batch=batch,
        batches=batches,
        seconds_per_step=0.15,
        seconds_left=125.0,
    )


def stage(name: StageName, seconds: float, *, reused: bool = False, batch: int = 0) -> StageDone:
    return StageDone(name=name, seconds=seconds, reused=reused, batch=batch)


def told(*events: Event) -> Story:
    return reduce(Story.after, events, Story())


@pytest.mark.parametrize(
    ("events", "line"),
    [
        ((), "Waiting for the engine"),
        ((Queued(position=1),), "Next in line"),
        ((Queued(position=2),), "Waiting for 1 job before this one"),
        ((Queued(position=4),), "Waiting for 3 jobs before this one"),
        ((Queued(position=4), started()), "Reading the prompt"),
        ((started(), step(7)), "Step 7 of 20 · 0.15 s per step · 2 min 5 s left"),
        (
            (started(), step(20, batch=0, batches=2)),
            "Batch 1 of 2 · step 20 of 20 · 0.15 s per step · 2 min 5 s left",
        ),
        ((started(), step(20)), "Developing and checking the picture"),
        ((Finished(saved=1, withheld=0, seconds=3.14),), "Done in 3.1 s"),
        (
            (Withheld(seed=1), Finished(saved=0, withheld=1, seconds=61.0)),
            "Done in 1 min 1 s · 1 withheld",
        ),
        ((Cancelled(saved=0, seconds=12.2),), "Stopped after 12 s"),
        ((Finished(saved=1, withheld=0, seconds=4_260.0),), "Done in 1 h 11 min"),
        ((failed(EngineError("It broke.")),), ""),
    ],
)
def test_headline_says_where_the_job_stands(events: tuple[Event, ...], line: str) -> None:
    assert headline(told(*events), SAY) == line


def test_stage_line_tells_reused_stages_from_computed_ones() -> None:
    story = told(
        started(),
        stage("load", 0.0, reused=True),
        stage("text", 0.0, reused=True),
        stage("denoise", 3.1),
        stage("check", 0.2),
    )
    assert stage_line(story, SAY) == "text reused · 20 steps 3.1 s · check 0.20 s"


def test_stage_line_adds_batches_up_and_calls_a_stage_reused_only_when_all_of_it_was() -> None:
    story = told(
        started(),
        stage("load", 1.25),
        stage("denoise", 0.0, reused=True),
        stage("denoise", 2.0, batch=1),
        stage("check", 0.5),
        stage("check", 0.25, batch=1),
        stage("save", 0.0, reused=True, batch=1),
    )
    line = "model 1.2 s · 2 \u00d7 20 steps 2.0 s · check 0.75 s · save reused"
    assert stage_line(story, SAY) == line


@pytest.mark.parametrize(
    ("language", "line", "stages"),
    [
        ("de", "Fertig in 3,1\u00a0s", "20 Schritte 0,50\u00a0s"),
        ("es", "Listo en 3,1\u00a0s", "20 pasos 0,50\u00a0s"),
    ],
)
def test_numbers_are_written_as_the_language_does(language: str, line: str, stages: str) -> None:
    say = Catalogue.load().of(language)
    story = told(started(), stage("denoise", 0.5), Finished(saved=1, withheld=0, seconds=3.14))
    assert headline(story, say) == line
    assert stage_line(story, say) == stages


def test_a_single_step_is_a_step() -> None:
    assert stage_line(told(started(steps=1), stage("denoise", 0.5)), SAY) == "1 step 0.50 s"


def test_progress_counts_steps_over_all_batches() -> None:
    assert told(started()).progress == 0
    assert told(started(), step(10)).progress == pytest.approx(0.5)
    assert told(started(), step(10, batch=1, batches=2)).progress == pytest.approx(0.75)
    assert told(Finished(saved=1, withheld=0, seconds=1)).progress == 1


def test_pictures_previews_and_notices_are_kept_in_order_and_notices_once() -> None:
    first, second = (
        Saved(path=f"{n}.png", seed=n, sha256=str(n), width=8, height=8) for n in (1, 2)
    )
    story = told(
        Notice(message="a"),
        Preview(jpeg=b"1", step=1),
        first,
        Notice(message="a"),
        Withheld(seed=3, message="b"),
        Preview(jpeg=b"2", step=2),
        second,
    )
    assert story.saved == (first, second)
    assert story.preview == Preview(jpeg=b"2", step=2)
    assert story.notices == ("a", "b")
    assert story.withheld == 1
    assert story.ending is None


def test_the_loras_that_are_used_are_kept_in_their_order():
    ink, pen = (LoraApplied(name=name, matched=3, total=4) for name in ("ink", "pen"))
    assert told(started(), ink, pen).loras == (ink, pen)


def test_what_the_stack_changes_is_kept():
    measured = StackMeasured(sizes={"ink": {"mid": 0.1}}, overlaps=(("ink", "pen", 0.5),))
    assert told(started(), measured).stack == measured
    assert told(started()).stack is None


GIB = 1024**3


def planned(
    name: PlanName, needs: float, free: float, *, tiled: bool = False, reason: PlanReason = "room"
) -> Planned:
    return Planned(
        name=name,
        tiled=tiled,
        needs=round(needs * GIB),
        whole=round(8.6 * GIB),
        free=round(free * GIB),
        reason=reason,
        why="",
    )


@pytest.mark.parametrize(
    ("plan", "line"),
    [
        (
            planned("resident", 3, 7.4),
            "Memory: the whole model at once (3.0 of 7.4 GiB free)",
        ),
        (
            planned("turns", 7.1, 7.4),
            "Memory: text encoders and denoiser take turns, since all at once would take 8.6 GiB"
            " and 7.4 GiB are free",
        ),
        (
            planned("stream", 5, 4.5, tiled=True),
            "Memory: layers are brought in by groups, decoded in tiles; it needs 5.0 GiB and only"
            " 4.5 GiB are free, so it may not be enough",
        ),
        (
            planned("sequential", 5, 7.4, tiled=True, reason="ran out"),
            "Memory: layers are brought in one by one (slow), decoded in tiles, since memory ran"
            " out (5.0 of 7.4 GiB free)",
        ),
        (
            planned("turns", 3, 20, reason="asked"),
            "Memory: text encoders and denoiser take turns, as asked (3.0 of 20.0 GiB free)",
        ),
        (
            planned("stream", 3, 20, reason="kept"),
            "Memory: layers are brought in by groups, as it was loaded before (3.0 of 20.0 GiB"
            " free)",
        ),
        (
            planned("resident", 8.6, 7.4, reason="asked"),
            "Memory: the whole model at once, as asked; it needs 8.6 GiB and only 7.4 GiB are free,"
            " so it may not be enough",
        ),
    ],
)
def test_memory_line_tells_the_plan_and_why(plan: Planned, line: str) -> None:
    assert memory_line(told(), SAY) == ""
    assert memory_line(told(started(), plan), SAY) == line


@pytest.mark.parametrize("language", ["en", "de", "es"])
@pytest.mark.parametrize("name", get_args(PlanName))
def test_every_plan_has_words(language: str, name: PlanName) -> None:
    say = Catalogue.load().of(language)
    lines = {
        memory_line(told(planned(name, 2.5, 3, reason=reason)), say)
        for reason in get_args(PlanReason)
    }
    assert len(lines) == len(get_args(PlanReason))
    assert all(("2.5" if language == "en" else "2,5") in line for line in lines if "8" not in line)
