"""Plain diffusers: the pipeline as its documentation shows it, with nothing of ours around it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import (
    StableDiffusionPipeline,
)
from PIL import Image

from benchmarks.measure import Run, between
from webui.generation.devices import Layout
from webui.generation.families import SD1
from webui.generation.loaded import Loaded
from webui.generation.sampling import sampling_of
from webui.generation.schedulers import make_scheduler
from webui.request import GenerationRequest

OnStepEnd = Callable[[object, int, int, dict[str, Any]], dict[str, Any]]


def load_plain(
    folder: Path, request: GenerationRequest, *, dtype: torch.dtype, layout: Layout, device: str
) -> StableDiffusionPipeline:
    """The model from its folder, with the request's scheduler, in that format and layout."""
    return load_any(
        StableDiffusionPipeline, folder, request, dtype=dtype, layout=layout, device=device
    )


def load_any(
    pipeline: Any,
    folder: Path,
    request: GenerationRequest,
    *,
    dtype: torch.dtype,
    layout: Layout,
    device: str,
) -> Any:
    """The same of a model of another pipeline with a UNet."""
    pipe = pipeline.from_pretrained(
        folder, dtype=dtype, local_files_only=True, use_safetensors=True
    ).to(device)
    if layout == "channels_last":
        for part in (pipe.unet, pipe.vae):
            part.to(memory_format=torch.channels_last)
    make: Any = make_scheduler
    asked = sampling_of(request, SD1.own)
    pipe.scheduler = make(pipe.scheduler.config, asked.sampler, asked.schedule)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def on_same_components(loaded: Loaded, request: GenerationRequest) -> StableDiffusionPipeline:
    """A pipeline of its own around the components the engine runs on, nothing copied."""
    asked = sampling_of(request, SD1.own)
    scheduler = make_scheduler(loaded.scheduler_config, asked.sampler, asked.schedule)
    components: dict[str, Any] = loaded.pipe.components | {"scheduler": scheduler}
    pipe = StableDiffusionPipeline(**components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def run_plain(
    pipe: StableDiffusionPipeline, request: GenerationRequest, *, watched: bool = False
) -> Run:
    """Makes one picture; only a watched call knows the times of its steps and of the decoding."""
    ends: list[float] = []

    def on_step_end(_: object, __: int, ___: int, tensors: dict[str, Any]) -> dict[str, Any]:
        ends.append(perf_counter())
        return tensors

    began = perf_counter()
    plain_picture(pipe, request, on_step_end if watched else None)
    end = perf_counter()
    decode = end - ends[-1] if ends else 0.0
    return Run(end - began, decode, between(ends), end - began)


def plain_picture(
    pipe: StableDiffusionPipeline, request: GenerationRequest, on_step_end: OnStepEnd | None = None
) -> Image.Image:
    """One picture, from the same noise the engine draws for that request."""
    call: Any = pipe
    asked = sampling_of(request, SD1.own)
    return call(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        width=request.width,
        height=request.height,
        num_inference_steps=asked.steps,
        guidance_scale=asked.cfg,
        latents=_noise(pipe, request),
        callback_on_step_end=on_step_end,
    ).images[0]


def _noise(pipe: StableDiffusionPipeline, request: GenerationRequest) -> torch.Tensor:
    scale = pipe.vae_scale_factor
    size = (request.height or 0) // scale, (request.width or 0) // scale
    generator = torch.Generator("cpu").manual_seed(request.seed or 0)
    noise = torch.randn((1, pipe.unet.config.in_channels, *size), generator=generator)
    return noise.to(pipe.unet.device, pipe.unet.dtype)
