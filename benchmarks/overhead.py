"""What the engine adds to the bare pipeline call, on the same components in the same process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

import numpy as np
from PIL import Image

from benchmarks.figures import Figure, Limit, in_unit, more_than, seconds
from benchmarks.measure import BenchmarkError, Run, alternate
from benchmarks.ours import Ours
from benchmarks.plain import on_same_components, plain_picture, run_plain
from benchmarks.recipes import fresh_requests
from benchmarks.workbench import Workbench
from webui.generation.devices import choose_device
from webui.request import GenerationRequest

ASKED = Limit(3.0)
SAME_PICTURE_DB = 30.0
"""Peak signal to noise ratio above which two pictures come from the same computation."""


@dataclass(frozen=True)
class Case:
    """A model and what is asked of it; `requests` are new ones each time."""

    name: str
    requests: Iterator[GenerationRequest]
    rounds: int


def run(bench: Workbench) -> list[Figure]:
    """Overhead with the embedded model and with a full-size one."""
    effort = bench.effort
    postcard = fresh_requests(
        "postcard", side=effort.postcard_side, steps=effort.postcard_steps, sampler="DPM++ 2M"
    )
    full = fresh_requests(effort.shape.name, side=effort.side, steps=effort.steps, sampler="Euler")
    cases = (
        Case(
            f"postcard, {effort.postcard_side} px, {effort.postcard_steps} steps",
            postcard,
            effort.postcard_rounds,
        ),
        Case(f"{effort.shape.name}, {effort.side} px, {effort.steps} steps", full, effort.rounds),
    )
    with bench.ours(choose_device()) as ours:
        return [figure for case in cases for figure in compare(ours, case)]


def compare(ours: Ours, case: Case) -> list[Figure]:
    """Runs both sides in turns on the components the engine has loaded.

    Raises:
        BenchmarkError: The two sides do not paint the same picture.
    """
    first = next(case.requests)
    pipe = on_same_components(ours.loaded(first), first)
    require_same_picture(ours.picture(first), plain_picture(pipe, first))
    runs = alternate(
        {
            "plain": lambda: run_plain(pipe, next(case.requests)),
            "ours": lambda: ours.run(next(case.requests)),
            "previews": lambda: ours.run(next(case.requests), previews=True),
        },
        case.rounds,
    )
    return _figures(case.name, **runs)


def _figures(name: str, *, plain: list[Run], ours: list[Run], previews: list[Run]) -> list[Figure]:
    bare = [run.whole for run in plain]
    figures = [
        more_than(
            f"{name}: engine over the bare pipeline call, request to decoded picture",
            [run.decoded for run in ours],
            bare,
            asked=ASKED,
        ),
        more_than(
            f"{name}: the same with previews", [run.decoded for run in previews], bare, asked=None
        ),
        more_than(
            f"{name}: the same with check, recipe and saving, without previews",
            [run.whole for run in ours],
            bare,
            asked=None,
        ),
    ]
    for stage in ("load", "text", "denoise", "decode", "check", "save"):
        values = [run.stages[stage] for run in ours if stage in run.stages]
        if values:
            figures.append(seconds(f"{name}: stage {stage}", values))
    return [*figures, preview_share(name, previews)]


def preview_share(name: str, runs: list[Run]) -> Figure:
    """How much of the time goes into making and checking previews."""
    shares = [sum(run.previews) / run.stages["denoise"] * 100 for run in runs]
    count = median(len(run.previews) for run in runs)
    each = [cost for run in runs for cost in run.previews]
    cost = f" of {in_unit(median(each), 's')}" if each else ""
    return Figure(
        f"{name}: previews with their check, share of the denoising",
        median(shares),
        "%",
        f"{count:g} previews a picture{cost}; {len(runs)} rounds",
        Limit(10.0),
        {"share": shares},
    )


def require_same_picture(ours: Image.Image, plain: Image.Image) -> None:
    """Raises where two pictures differ by more than rounding.

    Raises:
        BenchmarkError: They do.
    """
    a, b = (np.asarray(picture.convert("RGB"), dtype=np.float64) for picture in (ours, plain))
    error = float(np.mean((a - b) ** 2)) if a.shape == b.shape else 255.0**2
    if error > 255**2 / 10 ** (SAME_PICTURE_DB / 10):
        raise BenchmarkError(
            "The engine and plain diffusers paint different pictures from the same request, so"
            " their times cannot be compared."
        )
