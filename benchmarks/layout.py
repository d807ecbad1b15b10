"""A step and a decoding in the format and layout the engine picks, beside plain diffusers."""

from __future__ import annotations

from itertools import chain

import torch

from benchmarks.figures import Figure, Limit, more_than, times_faster
from benchmarks.measure import Run, alternate
from benchmarks.plain import load_plain, run_plain
from benchmarks.recipes import fresh_requests
from benchmarks.workbench import Workbench
from webui.generation.devices import choose_device

ASKED_STEP = Limit(3.0, most=False)
ASKED_DECODE = Limit(3.5, most=False)
ASKED_SAME = Limit(2.0)


def run(bench: Workbench) -> list[Figure]:
    """The engine beside diffusers' default and beside diffusers in the engine's own layout."""
    effort = bench.effort
    device = choose_device("cpu")
    requests = fresh_requests(
        effort.shape.name, side=effort.side, steps=effort.steps, sampler="Euler"
    )
    request = next(requests)
    folder = bench.random_model
    default = load_plain(folder, request, dtype=torch.float32, layout="contiguous", device="cpu")
    same = load_plain(folder, request, dtype=device.dtype, layout=device.layout, device="cpu")
    with bench.ours(device) as ours:
        runs = alternate(
            {
                "ours": lambda: ours.run(next(requests)),
                "same": lambda: run_plain(same, next(requests), watched=True),
                "default": lambda: run_plain(default, next(requests), watched=True),
            },
            effort.rounds,
        )
    chosen = Figure(
        "number format and layout the engine picks on this CPU",
        f"{device.dtype_name}, {device.layout}",
        "",
        device.reason,
    )
    return [chosen, *_figures(f"{effort.shape.name}, {effort.side} px", **runs)]


def _figures(name: str, *, ours: list[Run], same: list[Run], default: list[Run]) -> list[Figure]:
    step, decode = f"{name}: a step with CFG", f"{name}: VAE decoding"
    fast, slow = "against diffusers' default (float32, contiguous)", "against diffusers in the same"
    return [
        times_faster(f"{step}, {fast}", _steps(ours), _steps(default), asked=ASKED_STEP),
        times_faster(f"{decode}, {fast}", _decodes(ours), _decodes(default), asked=ASKED_DECODE),
        more_than(f"{step}, {slow}", _steps(ours), _steps(same), asked=ASKED_SAME),
        more_than(f"{decode}, {slow}", _decodes(ours), _decodes(same), asked=ASKED_SAME),
    ]


def _steps(runs: list[Run]) -> list[float]:
    return list(chain.from_iterable(run.steps for run in runs))


def _decodes(runs: list[Run]) -> list[float]:
    return [run.decode for run in runs]
