"""Which calls of the denoiser are run whole, from noise levels alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from webui.generation.speed import GAINS, RUNGS, Call, Rung, fitting, plan_calls, spares
from webui.request import SPEEDS, SpeedName
from webui.settings import PlanName

LEVELS = (14.6, 8.0, 4.0, 2.5, 1.5, 0.9, 0.5, 0.2)
WHOLE, UNGUIDED = Call(True, False), Call(False, False)


def planned(rung: Rung, *, guided: bool = True) -> tuple[Call, ...]:
    return plan_calls(rung, LEVELS, lambda _: None, guided=guided)


def test_in_full_every_call_is_whole() -> None:
    assert planned(RUNGS["full"]) == (WHOLE,) * len(LEVELS)
    assert not RUNGS["full"].leaves_out
    assert not RUNGS["compiled"].leaves_out


def test_guidance_is_left_out_outside_its_levels() -> None:
    calls = planned(Rung(guided_from=1.0, guided_to=10.0))
    assert [call.guided for call in calls] == [False] + [True] * 4 + [False] * 3
    assert not any(call.reused for call in calls)


def test_answers_are_used_again_within_reach_and_never_twice_as_far() -> None:
    calls = planned(Rung(reach=0.25, reused_to=5.0))
    assert [call.reused for call in calls] == [False, False, True, False, True, False, False, False]


def test_what_they_hang_on_has_to_be_the_same() -> None:
    everything = Rung(reach=9.0)
    assert [c.reused for c in planned(everything)] == [False] + [True] * 7
    changing = plan_calls(everything, LEVELS, lambda call: call // 3, guided=True)
    assert [c.reused for c in changing] == [False, True, True, False, True, True, False, True]
    unguided = planned(Rung(reach=9.0, guided_from=1.0))
    assert [c.reused for c in unguided] == [False] + [True] * 4 + [False, True, True]


@pytest.mark.parametrize("guided", [True, False])
def test_a_few_steps_spare_nothing(guided: bool) -> None:
    far_apart = plan_calls(RUNGS["quick"], (14.6, 1.5), lambda _: None, guided=guided)
    assert not spares(far_apart, guided=guided)
    assert spares((*far_apart, Call(False, False)), guided=True)
    assert not spares((Call(False, False),), guided=False)


@pytest.mark.parametrize(
    ("speed", "laid_out", "left"),
    [
        ("compiled", "resident", True),
        ("compiled", "turns", True),
        ("compiled", "sequential", False),
        ("compiled", "fp8", False),
        ("quick", "sequential", True),
        ("quick", "stream", False),
    ],
)
def test_what_a_layout_cannot_do_is_left_out_and_said(
    speed: SpeedName, laid_out: PlanName, left: bool
) -> None:
    rung, sentence = fitting(RUNGS[speed], [laid_out])
    assert (rung == RUNGS[speed]) is left
    assert (sentence is None) is left
    assert rung.guided_from == RUNGS[speed].guided_from


def test_every_rung_tells_what_was_measured() -> None:
    assert set(GAINS) == set(RUNGS) - {"full"} == set(SPEEDS) - {"full"}
    results = (Path(__file__).parents[2] / "benchmarks" / "results.md").read_text("utf-8")
    for speed, (times, likeness) in GAINS.items():
        faster = re.search(rf"speed {speed}, .*: against full \| ([\d.]+) x", results)
        like = re.search(rf"speed {speed}, .*: PSNR to full, median \| ([\d.]+) dB", results)
        assert faster is not None, speed
        assert like is not None, speed
        assert float(faster[1]) == pytest.approx(times, rel=0.2)
        assert float(like[1]) == pytest.approx(likeness, abs=2.0)
