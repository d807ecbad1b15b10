"""Measuring side by side: alternating runs, medians, and processes measured from inside.

Two things are compared only within one run and in turns, since the speed of a machine drifts by
more than the differences that matter here.
"""

from __future__ import annotations

import ctypes
import gc
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from webui.errors import WebuiError
from webui.settings import ROOT

T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """One picture, by whichever side; all times in seconds.

    Attributes:
        decoded: From the call to the decoded picture: what a bare pipeline call does.
        decode: The end of that, from the last step to the picture.
        steps: Between the ends of consecutive steps.
        whole: From the call to the end of everything.
        saved: From the call to the file on disk; None where nothing was saved.
        stages: What the engine reports of itself, by the name of the stage.
        previews: What making and checking each preview took, its linear map excluded.
    """

    decoded: float
    decode: float
    steps: tuple[float, ...]
    whole: float
    saved: float | None = None
    stages: Mapping[str, float] = field(default_factory=dict[str, float])
    previews: tuple[float, ...] = ()


class BenchmarkError(WebuiError):
    """A measurement would not mean what it says, so there is none."""


def alternate(
    candidates: Mapping[str, Callable[[], T]], rounds: int, *, warm_up: bool = True
) -> dict[str, list[T]]:
    """What each candidate measured, one result a round, after an uncounted one to warm up.

    The order is turned round from one round to the next, so that a steady drift of the machine's
    speed adds the same to all.
    """
    results: dict[str, list[T]] = {name: [] for name in candidates}
    names = list(candidates)
    if warm_up:
        for call in candidates.values():
            call()
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            results[name].append(candidates[name]())
    return results


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Ours over theirs, round by round: what both share in a round falls out."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def middle_half(values: Sequence[float]) -> tuple[float, float]:
    """Lower and upper quartile, by linear interpolation between the sorted values."""
    return _at(sorted(values), 0.25), _at(sorted(values), 0.75)


def between(ends: Sequence[float]) -> tuple[float, ...]:
    """The times between consecutive ends."""
    return tuple(b - a for a, b in itertools.pairwise(ends))


def _at(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def memory() -> dict[str, int]:
    """This process's memory in bytes: `peak` and `resident` with mapped files, and `private`.

    From `/proc/self/status`: `getrusage` would carry over the peak of the process that started
    this one.

    Raises:
        BenchmarkError: This is not Linux.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        raise BenchmarkError("Memory is measured from /proc, which only Linux has.") from None
    fields = dict(re.findall(r"^(\w+):\s+(\d+) kB$", status, re.MULTILINE))
    names = {"peak": "VmHWM", "resident": "VmRSS", "private": "RssAnon"}
    return {ours: int(fields[theirs]) * 1024 for ours, theirs in names.items()}


def give_back_memory() -> None:
    """Hands what is free of the heap back to the system, so that what is taken next is seen.

    Raises:
        BenchmarkError: The C library is not the GNU one.
    """
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        raise BenchmarkError("Memory is measured with the GNU C library only.") from None


def run_child(module: str, task: Mapping[str, Any]) -> dict[str, Any]:
    """Runs `python -m module`, which reads `task` as JSON and ends with one line of JSON.

    Raises:
        BenchmarkError: The process failed; with the last line of what it said.
    """
    done = subprocess.run(
        [sys.executable, "-m", module],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()
        reason = said[-1] if said else f"exit code {done.returncode}"
        raise BenchmarkError(f"{module} failed: {reason}")
    return json.loads(done.stdout.strip().splitlines()[-1])
