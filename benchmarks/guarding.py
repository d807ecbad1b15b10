"""What the picture's guard costs, and that nothing gets past it with things going wrong."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from random import Random
from time import perf_counter

import numpy as np

from benchmarks.faults import FAULTS, Report, Trial
from benchmarks.figures import Figure, Limit, seconds
from benchmarks.workbench import Workbench
from webui.generation.finishing import to_png
from webui.levels import STRICT
from webui.safety.guard import Guard

ASKED_VIEWS = Limit(1.0)
SIDES = (512, 1024, 2048)
LOOKS = 10

RUNS_AT_ONCE = 500
"""By one engine; a new one begins with empty folders."""


def run(bench: Workbench) -> list[Figure]:
    """Judges pictures of noise of several sizes, and runs the engine with faults."""
    return [*_latency(), _faults(bench.effort.faulty_runs)]


def _latency() -> list[Figure]:
    guard = Guard.load(threads=os.cpu_count() or 1)
    figures: list[Figure] = []
    for side in SIDES:
        noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
        data = to_png(noise)
        guard.screen(data, STRICT)
        times: list[float] = []
        for _ in range(LOOKS):
            began = perf_counter()
            guard.screen(data, STRICT)
            times.append(perf_counter() - began)
        asked = ASKED_VIEWS if side == SIDES[0] else None
        what = f"picture guard, {side} px: decoding and all views"
        figures.append(seconds(what, times, asked=asked, beside=f"{os.cpu_count()} threads"))
    return figures


def _faults(count: int) -> Figure:
    shares = [range(n, min(n + RUNS_AT_ONCE, count)) for n in range(0, count, RUNS_AT_ONCE)]
    # The seeds of neighbours make runs alike; drawn ones do not.
    seeds = [[Random(n).getrandbits(48) for n in share] for share in shares]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as processes:
        reports = list(processes.map(_trial, seeds))
    struck = sum((report.struck for report in reports), Counter[str]())
    saved, withheld = (
        sum(getattr(report, name) for report in reports) for name in ("saved", "withheld")
    )
    return Figure(
        f"engine with faults at random, {count:,} runs: pictures or pieces of them that got out"
        " unchecked",
        float(sum(len(report.escaped) for report in reports)),
        "",
        f"{saved:,} pictures saved and {withheld:,} withheld rightly; {len(FAULTS)} kinds of fault,"
        f" each {min(struck[fault] for fault in FAULTS):,} times or more",
        Limit(0),
    )


def _trial(seeds: Sequence[int]) -> Report:
    memory = Path("/dev/shm")
    place = memory if memory.is_dir() else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        trial = Trial(Path(folder))
        try:
            return trial.go(seeds)
        finally:
            trial.close()
