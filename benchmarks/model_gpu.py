"""Steps a second on a GPU, beside plain diffusers eager and compiled, and the share of its peak."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

import torch

from benchmarks.figures import Figure, Limit, in_unit
from benchmarks.measure import middle_half, ratios, run_child
from benchmarks.model_files import MODELS, FullModel, write_configs
from benchmarks.workbench import Workbench
from webui.settings import GIB

ASKED_STEP = Limit(2.0)
ASKED_PEAK = Limit(5.0)

STEPS = 30
ROUNDS = 5
SIDE = 1024
"""Of the pictures, in pixels, the same for all models."""

_PEAKS: tuple[tuple[str, float], ...] = (
    ("B200", 2250e12),
    ("H200", 989e12),
    ("H100 NVL", 835e12),
    ("H100 PCIe", 756e12),
    ("H100", 989e12),
    ("A100", 312e12),
    ("L40S", 362e12),
    ("L4", 121e12),
    ("RTX 4090", 165e12),
    ("RTX 3090", 71e12),
)
"""Part of a GPU's name to its bf16 operations a second, dense, as its maker publishes them."""


def run(bench: Workbench) -> list[Figure]:
    """Each model in a process of its own; a row that says why where there is none."""
    full = bench.effort.full
    figures: list[Figure] = []
    for model in (MODELS[name] for name in full.models):
        if not full.quick and not torch.cuda.is_available():
            figures.append(_left_out(model, "there is no GPU here that torch can use"))
            continue
        work = bench.work / f"gpu-{model.config}"
        write_configs(work, model, tiny=full.quick)
        measured = run_child(
            "benchmarks.model_gpu_child",
            {
                "work": str(work),
                "config": model.config,
                "tokens": model.tokens,
                "side": 64 if full.quick else SIDE,
                "steps": 3 if full.quick else STEPS,
                "rounds": 1 if full.quick else ROUNDS,
                "device": "cpu" if full.quick else "cuda",
                "compiled": not full.quick,
            },
        )
        if measured["lacking"] is not None:
            figures.append(_left_out(model, measured["lacking"]))
        else:
            figures += figures_of(model, measured)
    return figures


def figures_of(model: FullModel, measured: Mapping[str, Any]) -> list[Figure]:
    """The rows of one model."""
    ours, eager, compiled = (measured[side] for side in ("ours", "eager", "compiled"))
    name = f"{model.name}, {measured['side']} px on the GPU"
    percent = [(ratio - 1) * 100 for ratio in ratios(ours, eager)]
    low, high = middle_half(percent)
    fast = ""
    if compiled:
        fast = f", {1 / median(compiled):.2f} /s with its repeated blocks compiled"
    peak, said = peak_of(measured["gpu"], measured["product"])
    rate = measured["operations"] / median(ours)
    best = measured["operations"] / min(map(median, filter(None, (eager, compiled))))
    more = (measured["peak"]["ours"] / measured["peak"]["eager"] - 1) * 100
    return [
        Figure(
            f"{name}: steps a second",
            1 / median(ours),
            "/s",
            f"plain diffusers {1 / median(eager):.2f} /s{fast}; {measured['format']},"
            f" {measured['guided']}",
            None,
            {"ours": ours, "eager": eager, "compiled": compiled},
        ),
        Figure(
            f"{name}: a step over plain diffusers eager",
            median(percent),
            "%",
            f"{in_unit(median(ours), 's')} against {in_unit(median(eager), 's')}; {len(percent)}"
            f" times, middle half {low:.1f} to {high:.1f} %",
            ASKED_STEP,
        ),
        Figure(
            f"{name}: share of the chip's bf16 peak",
            rate / peak * 100,
            "%",
            f"{measured['operations'] / 1e12:.2f} TFLOP a step counted, {rate / 1e12:.0f} of"
            f" {peak / 1e12:.0f} TFLOP/s ({said}); plain diffusers at its best"
            f" {best / peak * 100:.1f} %",
        ),
        Figure(
            f"{name}: most memory of the GPU over plain diffusers",
            more,
            "%",
            f"{in_unit(measured['peak']['ours'] / GIB, 'GiB')} against"
            f" {in_unit(measured['peak']['eager'] / GIB, 'GiB')}, one set of weights for both",
            ASKED_PEAK,
        ),
    ]


def peak_of(gpu: str, product: float) -> tuple[float, str]:
    """A GPU's operations a second and where the number is from.

    Args:
        product: What a large matrix product reaches, for a GPU that is not known.
    """
    for part, peak in _PEAKS:
        if part in gpu:
            return peak, f"published; a large product reaches {product / 1e12:.0f}"
    return product, "what a large product reaches here"


def _left_out(model: FullModel, reason: str) -> Figure:
    return Figure(f"{model.name}, {SIDE} px on the GPU: steps a second", "not measured", "", reason)
