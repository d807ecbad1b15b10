"""What "Speed" gains and what it costs in likeness, each way alone and each rung of it.

The embedded model, whose pictures mean something, is judged by its pictures. Transformers are
measured by one with random weights: how long it takes means something, its pictures do not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from math import log10
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from numpy.typing import NDArray
from torch.nn.functional import avg_pool2d

from benchmarks.figures import Figure, seconds, times_faster
from benchmarks.measure import alternate
from benchmarks.ours import Ours
from benchmarks.recipes import fresh_requests
from benchmarks.token_merging import merged_tokens
from benchmarks.workbench import Workbench
from webui.generation.devices import Device, choose_device
from webui.generation.speed import RUNGS, Call, Rung, plan_calls
from webui.generation.speeding import sped
from webui.request import GenerationRequest

QUICK, QUICKEST = RUNGS["quick"], RUNGS["quickest"]
WAYS: Mapping[str, Rung] = {
    "full": RUNGS["full"],
    "compiled": RUNGS["compiled"],
    "quick": QUICK,
    "quickest": QUICKEST,
    "quick's guidance alone": Rung(guided_from=QUICK.guided_from),
    "quickest's guidance alone": Rung(guided_from=QUICKEST.guided_from),
    # As the paper has it for SDXL.
    "guidance from 0.28 to 5.42": Rung(guided_from=0.28, guided_to=5.42),
    "quick's blocks alone": replace(QUICK, guided_from=0.0),
    "quickest's blocks alone": replace(QUICKEST, guided_from=0.0),
}

MERGED = 0.5
"""Share of the tokens, as its authors recommend."""

_WINDOW = 7
"""Pixels along each side of the squares that SSIM compares."""


class Made(NamedTuple):
    """One picture: the seconds its denoising took, and its pixels as (height, width, 3)."""

    took: float
    pixels: NDArray[np.float64]


def run(bench: Workbench) -> list[Figure]:
    """Times and likeness on the embedded model, then times on a transformer."""
    effort = bench.effort
    device = choose_device()
    with Ours(device, (bench.models,), bench.work) as ours:
        wait = first_wait(ours, device, effort.postcard_side)
        small = pictures_of(
            ours,
            {name: (rung, 0.0) for name, rung in WAYS.items()},
            side=effort.postcard_side,
            steps=effort.postcard_steps,
            rounds=effort.postcard_rounds,
        )
        large = pictures_of(
            ours,
            {"full": (RUNGS["full"], 0.0), "half of the tokens merged": (RUNGS["full"], MERGED)},
            side=2 * effort.postcard_side,
            steps=effort.postcard_steps,
            rounds=max(2, effort.postcard_rounds // 3),
        )
    about = f"{effort.postcard_steps} steps"
    return [
        wait,
        *likenesses(small, f"postcard, {effort.postcard_side} px, {about}"),
        *likenesses(large, f"postcard, {2 * effort.postcard_side} px, {about}"),
        *of_transformer(device, effort.postcard_steps, max(2, effort.postcard_rounds // 3)),
    ]


def first_wait(ours: Ours, device: Device, side: int) -> Figure:
    """How long the first picture with compiled blocks takes, beside one with them compiled."""
    # Imported here: torch puts it off until something is compiled.
    from torch._inductor.utils import fresh_cache

    requests = fresh_requests("postcard", side=side, steps=1, sampler="Euler")
    # What torch kept on disk of earlier runs would answer.
    with fresh_cache():
        first, then = (ours.denoised(next(requests), RUNGS["compiled"])[0] for _ in range(2))
    beside = f"one step in {device.dtype_name}; {then:.2f} s once they are compiled"
    return seconds("speed compiled: wait at first use", [first - then], beside=beside)


def pictures_of(
    ours: Ours, ways: Mapping[str, tuple[Rung, float]], *, side: int, steps: int, rounds: int
) -> dict[str, list[Made]]:
    """The same pictures in each way: a rung, and the share of tokens merged."""

    def maker(rung: Rung, merged: float) -> Callable[[], Made]:
        requests = fresh_requests("postcard", side=side, steps=steps, sampler="DPM++ 2M")
        return lambda: made(ours, next(requests), rung, merged)

    return alternate({name: maker(*way) for name, way in ways.items()}, rounds)


def made(ours: Ours, request: GenerationRequest, rung: Rung, merged: float) -> Made:
    """One picture with what is left out of it."""
    unet: Any = ours.loaded(request).pipe.components["unet"]
    with merged_tokens(unet, merged) if merged else nullcontext():
        took, picture = ours.denoised(request, rung)
    return Made(took, np.asarray(picture.convert("RGB"), np.float64))


def likenesses(pictures: Mapping[str, Sequence[Made]], model: str) -> list[Figure]:
    """How much faster each way is than the one called "full", and how like its pictures are."""
    full = pictures["full"]
    figures: list[Figure] = []
    for way, others in pictures.items():
        if way == "full":
            continue
        name = f"speed {way}, {model}"
        ours, theirs = [one.took for one in others], [one.took for one in full]
        figures.append(times_faster(f"{name}: against full", ours, theirs, asked=None))
        pairs = [(a.pixels, b.pixels) for a, b in zip(others, full, strict=True)]
        noise, alike = [psnr(*pair) for pair in pairs], [ssim(*pair) for pair in pairs]
        beside = (
            f"least {min(noise):.1f} dB; SSIM median {median(alike):.3f}, least {min(alike):.3f};"
            f" {len(pairs)} pictures"
        )
        what = f"{name}: PSNR to full, median"
        samples = {"psnr": noise, "ssim": alike}
        figures.append(Figure(what, median(noise), "dB", beside, None, samples))
    return figures


def of_transformer(device: Device, steps: int, rounds: int) -> list[Figure]:
    """Rungs on a transformer of SD 3's class with random weights, 50 M parameters, for 512 px."""
    untyped: Any = SD3Transformer2DModel
    model: Any = untyped(
        sample_size=64,
        num_layers=12,
        attention_head_dim=64,
        num_attention_heads=6,
        joint_attention_dim=384,
        caption_projection_dim=384,
        pooled_projection_dim=384,
        pos_embed_max_size=64,
    ).to(device.name, device.dtype)
    model.eval()
    # As flow matching with a shift of 3 lays them out.
    shares = [3 * share / (1 + 2 * share) for share in np.linspace(1, 1 / steps, steps)]
    levels = [share / (1 - share) if share < 1 else 1e9 for share in shares]
    plans = {
        name: plan_calls(RUNGS[name], levels, lambda _: None, guided=True)
        for name in ("full", "quick", "quickest")
    }
    with torch.inference_mode():
        ways = {name: _passes(model, device, calls) for name, calls in plans.items()}
        times = alternate(ways, rounds)
    name = f"random transformer (SD 3's class, 12 blocks), 512 px, {steps} steps"
    figures: list[Figure] = []
    for rung in ("quick", "quickest"):
        calls = plans[rung]
        figure = times_faster(
            f"speed {rung}, {name}: all calls against full", times[rung], times["full"], asked=None
        )
        counted = (
            f"{sum(not call.guided for call in calls)} calls without guidance,"
            f" {sum(call.reused for call in calls)} with 1 block of 12; likeness not measured; "
        )
        figures.append(replace(figure, beside=counted + figure.beside))
    return figures


def _passes(model: Any, device: Device, calls: Sequence[Call]) -> Callable[[], float]:
    """What times one round of calls of the transformer on the same input."""
    generator = torch.Generator().manual_seed(1)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(device.name, device.dtype)

    given = {
        "hidden_states": drawn(2, 16, 64, 64),
        "encoder_hidden_states": drawn(2, 77, 384),
        "pooled_projections": drawn(2, 384),
        "timestep": torch.full((2,), 500.0, device=device.name),
    }

    def timed() -> float:
        began = perf_counter()
        with sped(model, calls, pictures=1, guided=True):
            for _ in calls:
                model(**given, return_dict=False)
        if device.name.startswith("cuda"):
            torch.cuda.synchronize()
        return perf_counter() - began

    return timed


def psnr(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Likeness of two pictures of values in 0..255, in dB; 99 where they are equal."""
    error = float(((first - second) ** 2).mean())
    return 10 * log10(255**2 / error) if error else 99.0


def ssim(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Structural similarity of two pictures of values in 0..255, at most 1 (Wang et al., 2004).

    Over squares of 7 x 7 pixels of equal weight, each colour apart.
    """
    a, b = (torch.from_numpy(one).permute(2, 0, 1)[None] for one in (first, second))

    def mean(values: torch.Tensor) -> torch.Tensor:
        return avg_pool2d(values, _WINDOW, stride=1)

    of_a, of_b = mean(a), mean(b)
    spread_a, spread_b = mean(a * a) - of_a**2, mean(b * b) - of_b**2
    shared = mean(a * b) - of_a * of_b
    low, high = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    light = (2 * of_a * of_b + low) / (of_a**2 + of_b**2 + low)
    structure = (2 * shared + high) / (spread_a + spread_b + high)
    return float((light * structure).mean())
