from __future__ import annotations

from typing import Any

import pytest

from benchmarks.measure import BenchmarkError
from benchmarks.pose_editor import work_of_frames


def event(name: str, ts: int, dur: int = 0, tid: int = 1) -> dict[str, Any]:
    return {"name": name, "ts": ts, "dur": 2 * dur, "tdur": dur, "pid": 7, "tid": tid}


def test_the_work_of_a_frame_is_that_of_all_tasks_until_the_next_one() -> None:
    trace = [
        event("RunTask", 0, 900),
        event("RunTask", 1_000, 2_000),
        event("FireAnimationFrame", 1_500, 300),
        event("FireAnimationFrame", 1_900, 300),
        event("RunTask", 5_000, 500),
        event("RunTask", 6_000, 8_000, tid=2),
        event("RunTask", 17_000, 4_000),
        event("FireAnimationFrame", 17_100),
        event("RunTask", 40_000, 1_000),
        event("FireAnimationFrame", 40_100),
    ]
    assert work_of_frames(trace) == [2.5, 4.0]
    assert work_of_frames(trace[::-1]) == [2.5, 4.0]


def test_a_trace_without_frames_is_no_measurement() -> None:
    with pytest.raises(BenchmarkError):
        work_of_frames([event("RunTask", 0, 900)])
