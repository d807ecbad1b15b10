"""From noise to latents: the pipeline's loop, watched and stoppable at every step."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline

from webui.generation.pipelines import Loaded
from webui.generation.previews import PreviewPace, to_rgb
from webui.generation.resolve import Plan
from webui.generation.samplers import make_scheduler


class StoppedError(Exception):
    """Raised in the middle of the loop to leave it; the components stay as they were."""


@dataclass(frozen=True)
class StepDone:
    """A step ended; `step` counts from 1. `frame` is a picture in the making, when one is due."""

    step: int
    seconds_per_step: float
    frame: np.ndarray | None


@dataclass(frozen=True)
class Conditioning:
    """Text embeddings of shape (tokens, width); no negative where guidance is off."""

    prompt: torch.Tensor
    negative_prompt: torch.Tensor | None


def denoise(
    loaded: Loaded,
    plan: Plan,
    seeds: tuple[int, ...],
    conditioning: Conditioning,
    *,
    emit: Callable[[StepDone], None],
    stopped: Callable[[], bool],
    pace: PreviewPace | None,
) -> torch.Tensor:
    """Latents of one batch, of shape (batch, channels, height / 8, width / 8).

    Noise is drawn on the CPU from one generator a picture, so a picture of a batch can be made
    again alone. The model's components are not changed.

    Raises:
        StoppedError: `stopped` was true at the end of a step.
    """
    pipe = _with_fresh_scheduler(loaded, plan)
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    began = time.perf_counter()

    def on_step_end(
        _: DiffusionPipeline, index: int, __: int, tensors: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        if stopped():
            raise StoppedError
        step = index + 1
        frame = None
        if pace is not None and step < plan.request.steps and pace.due():
            frame = to_rgb(tensors["latents"], loaded.latent_map)
        emit(StepDone(step, (time.perf_counter() - began) / step, frame))
        return tensors

    run: Any = pipe
    return run(
        prompt_embeds=conditioning.prompt.expand(len(seeds), -1, -1),
        negative_prompt_embeds=(
            None
            if conditioning.negative_prompt is None
            else conditioning.negative_prompt.expand(len(seeds), -1, -1)
        ),
        width=plan.width,
        height=plan.height,
        num_inference_steps=plan.request.steps,
        guidance_scale=plan.request.cfg,
        generator=generators,
        latents=_noise(loaded, plan, generators),
        output_type="latent",
        callback_on_step_end=on_step_end,
        return_dict=False,
    )[0]


def _with_fresh_scheduler(loaded: Loaded, plan: Plan) -> DiffusionPipeline:
    """The shared components with a scheduler of this request's own, since it holds state."""
    scheduler = make_scheduler(loaded.scheduler_config, plan.request.sampler, plan.request.schedule)
    parts = loaded.pipe.components | {"scheduler": scheduler, "requires_safety_checker": False}
    pipe = type(loaded.pipe)(**parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _noise(loaded: Loaded, plan: Plan, generators: list[torch.Generator]) -> torch.Tensor:
    parts: Any = loaded.pipe
    shape = (
        parts.unet.config.in_channels,
        plan.height // parts.vae_scale_factor,
        plan.width // parts.vae_scale_factor,
    )
    noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
    return noise.to(parts.unet.device, parts.unet.dtype)
