"""From one full-size checkpoint to another: what leaves memory, and how soon a kept one is back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.figures import Figure, Limit, in_unit
from benchmarks.measure import run_child
from benchmarks.random_models import write_random_model
from benchmarks.workbench import Workbench

SWITCHES = 20
ASKED_DRIFT = Limit(5.0)
ASKED_BACK = Limit(0.2)

_MIB = 1024**2
_SETTLING = 2
"""Switches before memory is first looked at."""


def run(bench: Workbench) -> list[Figure]:
    """Two models of the same size take turns, in a process of their own."""
    first = bench.random_model
    other = first.with_name(f"{first.name}-other")
    write_random_model(other, bench.effort.shape, seed=1)
    names = (first.name, other.name)
    return switches(bench.effort.shape.name, first.parent, names, bench.work)


def switches(
    name: str, models: Path, names: Sequence[str], work: Path, configs: Path | None = None
) -> list[Figure]:
    """The same with two models of a folder, single files where there are configurations for them.

    Args:
        name: What the figures call them.
    """
    task = {
        "models": str(models),
        "names": list(names),
        "configs": None if configs is None else str(configs),
        "work": str(work),
        "switches": SWITCHES + _SETTLING,
    }
    return _figures(name, run_child("benchmarks.keeping_child", task))


def _figures(name: str, measured: dict[str, Any]) -> list[Figure]:
    resident = [held / _MIB for held in measured["resident"][_SETTLING:]]
    drift = max(abs(held / resident[0] - 1) * 100 for held in resident)
    back: list[float] = measured["back"]
    return [
        Figure(
            f"{name}: memory after any of {len(resident)} switches to another checkpoint",
            drift,
            "%",
            f"off {in_unit(resident[0], 'MiB')}, the most; it ends at"
            f" {in_unit(resident[-1], 'MiB')}; {in_unit(median(measured['load']), 's')} a switch",
            ASKED_DRIFT,
            {"resident": resident, "load": measured["load"]},
        ),
        Figure(
            f"{name}: back to a checkpoint that was kept",
            median(back),
            "s",
            f"{len(back)} times, the longest {in_unit(max(back), 's')}",
            ASKED_BACK,
            {"back": back},
        ),
    ]
