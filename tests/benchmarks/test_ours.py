from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from benchmarks.measure import BenchmarkError
from benchmarks.ours import watch
from webui.events import (
    Cancelled,
    Event,
    Failed,
    Finished,
    Preview,
    Saved,
    StageDone,
    StageName,
    Step,
)

TICK = 0.02


def stage(name: StageName, *, reused: bool = False) -> StageDone:
    return StageDone(name=name, seconds=0.5, reused=reused)


def step(number: int) -> Step:
    return Step(step=number, steps=3, batch=0, batches=1, seconds_per_step=1, seconds_left=1)


FINISHED = Finished(saved=1, withheld=0, seconds=1)
SAVED = Saved(path="p", seed=1, sha256="0", width=8, height=8)


def told(*events: Event | float) -> Iterator[Event]:
    """Yields the events; a number is a pause before the next one."""
    for event in events:
        if isinstance(event, int | float):
            time.sleep(event)
        else:
            yield event


def test_a_run_is_timed_by_its_events():
    run = watch(
        lambda: told(
            stage("load", reused=True),
            stage("text"),
            step(1),
            *(TICK, step(2)),
            *(TICK, Preview(jpeg=b"", step=2)),
            *(TICK, step(3)),
            stage("denoise"),
            *(TICK, stage("decode")),
            stage("check"),
            *(TICK, SAVED),
            *(TICK, FINISHED),
        )
    )
    assert list(run.stages) == ["load", "text", "denoise", "decode", "check"]
    assert run.stages["text"] == 0.5
    assert len(run.steps) == 2
    assert run.steps[1] >= 2 * TICK
    assert len(run.previews) == 1
    assert TICK <= run.previews[0] <= run.steps[1] - TICK
    assert run.decode >= TICK
    assert run.decoded >= sum(run.steps) + run.decode
    assert run.saved is not None
    assert run.decoded + TICK <= run.saved <= run.whole - TICK


def test_a_withheld_picture_has_no_time_of_saving():
    assert watch(lambda: told(step(1), stage("decode"), FINISHED)).saved is None


def test_a_picture_from_the_cache_is_no_measurement():
    with pytest.raises(BenchmarkError, match="cache answered the stage 'text'"):
        watch(lambda: told(stage("text", reused=True), FINISHED))


@pytest.mark.parametrize(
    "end",
    [
        Failed(message="no such model", kind="NotFoundError"),
        Cancelled(saved=0, seconds=1),
        step(1),
    ],
)
def test_a_run_without_a_picture_is_no_measurement(end: Event):
    with pytest.raises(BenchmarkError):
        watch(lambda: told(step(1), end))
