"""How long the embedded model takes once it is loaded, and what of that goes into previews."""

from __future__ import annotations

from statistics import median
from time import perf_counter
from typing import Any

import torch

from benchmarks.figures import Figure, Limit, in_unit, seconds
from benchmarks.measure import alternate
from benchmarks.overhead import preview_share
from benchmarks.recipes import fresh_requests
from benchmarks.workbench import Workbench
from webui.generation.devices import choose_device
from webui.generation.families import SD1
from webui.generation.loaded import Loaded
from webui.generation.previews import predicted_original, to_rgb
from webui.generation.sampling import sampling_of
from webui.generation.schedulers import make_scheduler
from webui.request import GenerationRequest

ASKED_DECODED = Limit(2.0)
ASKED_SAVED = Limit(3.0)
ASKED_MAP = Limit(2.0)
MAPS = 50
"""How often the preview's map is run; it takes a fraction of a millisecond."""


def run(bench: Workbench) -> list[Figure]:
    """Times of warm pictures on as many cores as torch takes by itself."""
    effort = bench.effort
    requests = fresh_requests(
        "postcard", side=effort.postcard_side, steps=effort.postcard_steps, sampler="DPM++ 2M"
    )
    device = choose_device()
    with bench.ours(device) as ours:
        first = next(requests)
        loaded = ours.loaded(first)
        runs = alternate(
            {
                "quiet": lambda: ours.run(next(requests)),
                "previews": lambda: ours.run(next(requests), previews=True),
            },
            effort.postcard_rounds,
        )
        maps = time_map(loaded, first)
    name = f"postcard, {effort.postcard_side} px, {effort.postcard_steps} steps"
    beside = f"warm, {device.dtype_name}, {torch.get_num_threads()} threads"
    quiet = runs["quiet"]
    step = median(median(run.steps) for run in quiet)
    saved = [run.saved for run in quiet if run.saved is not None]
    return [
        seconds(
            f"{name}: request to decoded picture",
            [run.decoded for run in quiet],
            asked=ASKED_DECODED,
            beside=beside,
        ),
        *(
            [seconds(f"{name}: request to saved file", saved, asked=ASKED_SAVED, beside=beside)]
            if saved
            else []
        ),
        Figure(
            f"{name}: the preview's linear map, share of a step",
            median(maps) / step * 100,
            "%",
            f"{in_unit(median(maps) * 1000, 'ms')} of {in_unit(step, 's')}",
            ASKED_MAP,
            {"map": maps},
        ),
        preview_share(name, runs["previews"]),
    ]


def time_map(loaded: Loaded, request: GenerationRequest) -> list[float]:
    """Seconds from the denoiser's answer to the small picture, for latents of that size."""
    asked = sampling_of(request, SD1.own)
    scheduler: Any = make_scheduler(loaded.scheduler_config, asked.sampler, asked.schedule)
    scheduler.set_timesteps(asked.steps)
    shape = (1, 4, (request.height or 0) // 8, (request.width or 0) // 8)
    sample, output = torch.randn(2, *shape).to(loaded.denoiser.dtype)
    times: list[float] = []
    for _ in range(MAPS):
        began = perf_counter()
        original = predicted_original(sample, output, float(scheduler.timesteps[0]), scheduler)
        to_rgb(original, loaded.latent_map)
        times.append(perf_counter() - began)
    return times
