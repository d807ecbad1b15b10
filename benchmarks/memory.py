"""Peak memory of a process that makes a picture, ours beside plain diffusers' doing the same."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from benchmarks.figures import Figure, Limit
from benchmarks.measure import alternate, ratios, run_child
from benchmarks.recipes import fresh_requests
from benchmarks.workbench import Workbench
from webui.settings import GIB

ASKED_MORE = Limit(10.0)
ASKED_COPIES = Limit(1.1)


def run(bench: Workbench) -> list[Figure]:
    """Both sides load the same model and make the same picture, each in a fresh process."""
    effort, folder = bench.effort, bench.random_model
    request = next(
        fresh_requests(effort.shape.name, side=effort.side, steps=effort.steps, sampler="Euler")
    )
    task = {"model": str(folder), "work": str(bench.work), "request": request.model_dump()}
    runs = alternate(
        {
            side: lambda side=side: run_child("benchmarks.memory_child", task | {"side": side})
            for side in ("plain", "ours")
        },
        effort.children,
        warm_up=False,
    )
    weights = sum(file.stat().st_size for file in folder.glob("*/*.safetensors"))
    return _figures(f"{effort.shape.name}, {effort.side} px", weights, **runs)


def _figures(
    name: str, weights: int, *, plain: list[dict[str, Any]], ours: list[dict[str, Any]]
) -> list[Figure]:
    peaks, bare = _column(ours, "peak"), _column(plain, "peak")
    more = [(ratio - 1) * 100 for ratio in ratios(peaks, bare)]
    copies = [(run["loaded"]["resident"] - run["begun"]["resident"]) / weights for run in ours]
    formats = " and ".join(sorted({run["format"] for run in (*ours, *plain)}))
    return [
        Figure(
            f"{name}: peak memory of our process over plain diffusers'",
            median(more),
            "%",
            f"{median(peaks):.2f} against {median(bare):.2f} GiB in {formats};"
            f" {len(more)} processes each",
            ASKED_MORE,
            {"ours": peaks, "plain": bare},
        ),
        Figure(
            f"{name}: memory that loading the model takes, in copies of its weights",
            median(copies),
            "x",
            f"weights of {weights / GIB:.2f} GiB",
            ASKED_COPIES,
            {"copies": copies},
        ),
    ]


def _column(runs: Sequence[dict[str, Any]], name: str) -> list[float]:
    return [run["done"][name] / GIB for run in runs]
