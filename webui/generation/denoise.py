"""From noise to latents: the pipeline's loop, watched and stoppable at every step."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from webui.generation.pipelines import Loaded
from webui.generation.previews import PreviewPace, predicted_original, to_rgb
from webui.generation.resolve import Plan
from webui.generation.samplers import SAMPLER_TABLE, make_scheduler
from webui.generation.starting import Keeper, Start, channels_added, first_latents
from webui.generation.steering import Steering, steered


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
    start: Start,
    steerings: Sequence[Steering],
    *,
    before_call: Callable[[int, int], None],
    emit: Callable[[StepDone], None],
    stopped: Callable[[], bool],
    pace: PreviewPace | None,
) -> torch.Tensor:
    """Latents of one batch, of shape (batch, channels, height / 8, width / 8).

    The plan's last steps are run, as many as it says, from `start` on, as `steerings` steer them.

    Noise is drawn on the CPU from one generator a picture, so a picture of a batch can be made
    again alone. `before_call` is told which call of the denoiser comes, from 0, and of how many; it
    may change the model's weights, nothing else does.

    Raises:
        StoppedError: `stopped` was true at the end of a step.
    """
    pipe = _with_fresh_scheduler(loaded, plan)
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    noise = _noise(loaded, plan, generators)
    scale = pipe.scheduler.init_noise_sigma
    begin = noise
    if plan.steps < plan.request.steps:
        begin = first_latents(start, noise, pipe.scheduler, generators) / scale
    watch = _Watch(
        loaded,
        plan,
        begin * scale,
        keeper=Keeper(start, noise, pipe.scheduler),
        before_call=before_call,
        emit=emit,
        stopped=stopped,
        pace=pace,
    )
    before_call(0, len(pipe.scheduler.timesteps))
    call: Any = partial(
        pipe,
        prompt_embeds=conditioning.prompt.expand(len(seeds), -1, -1),
        negative_prompt_embeds=(
            None
            if conditioning.negative_prompt is None
            else conditioning.negative_prompt.expand(len(seeds), -1, -1)
        ),
        width=plan.paint_width,
        height=plan.paint_height,
        num_inference_steps=plan.request.steps,
        guidance_scale=plan.request.cfg,
        generator=generators,
        eta=SAMPLER_TABLE[plan.request.sampler].eta,
        latents=begin,
        output_type="latent",
        callback_on_step_end=watch.on_step_end,
        callback_on_step_end_tensor_inputs=["latents", "noise_pred"],
        return_dict=False,
    )
    with channels_added(loaded, start.channels), steered(pipe, steerings):
        return call()[0]


class _Watch:
    """Sees every step: hands on how far it is, makes previews, leaves the loop when told."""

    def __init__(
        self,
        loaded: Loaded,
        plan: Plan,
        sample: torch.Tensor,
        *,
        keeper: Keeper,
        before_call: Callable[[int, int], None],
        emit: Callable[[StepDone], None],
        stopped: Callable[[], bool],
        pace: PreviewPace | None,
    ) -> None:
        self._sample = sample
        self._loaded = loaded
        self._steps = plan.steps
        self._keeper = keeper
        self._before_call = before_call
        self._emit = emit
        self._stopped = stopped
        self._pace = pace
        self._began = time.perf_counter()
        if pace is not None:
            pace.begin()

    def on_step_end(
        self, pipe: Any, index: int, timestep: Any, tensors: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Called by the pipeline after each call of its denoiser."""
        if self._stopped():
            raise StoppedError
        # Samplers of second order call the denoiser about twice a step.
        share = (index + 1) / pipe.num_timesteps
        frame = None
        if self._pace is not None and share < 1 and self._pace.due():
            original = predicted_original(
                self._sample, tensors["noise_pred"], float(timestep), pipe.scheduler
            )
            frame = to_rgb(original, self._loaded.latent_map)
        tensors["latents"] = self._keeper.after(index, tensors["latents"])
        self._sample = tensors["latents"]
        seconds = (time.perf_counter() - self._began) / (share * self._steps)
        self._emit(StepDone(max(1, int(share * self._steps)), seconds, frame))
        if index + 1 < pipe.num_timesteps:
            self._before_call(index + 1, pipe.num_timesteps)
        return tensors


def _with_fresh_scheduler(loaded: Loaded, plan: Plan) -> Any:
    """The shared components with a scheduler of this request's own, since it holds state."""
    scheduler: Any = make_scheduler(
        loaded.scheduler_config,
        plan.request.sampler,
        plan.request.schedule,
        skipped=plan.request.steps - plan.steps,
    )
    scheduler.set_timesteps(plan.request.steps)
    parts = loaded.pipe.components | {"requires_safety_checker": False}
    pipe: Any = type(loaded.pipe)(**parts)
    # Set afterwards, because the constructor rewrites a scheduler's steps_offset to its taste.
    pipe.scheduler = scheduler
    pipe.set_progress_bar_config(disable=True)
    # The loop hands a callback any of its variables that are on this list.
    pipe._callback_tensor_inputs = [*pipe._callback_tensor_inputs, "noise_pred"]
    return pipe


def _noise(loaded: Loaded, plan: Plan, generators: list[torch.Generator]) -> torch.Tensor:
    parts: Any = loaded.pipe
    shape = (
        parts.vae.config.latent_channels,
        plan.paint_height // parts.vae_scale_factor,
        plan.paint_width // parts.vae_scale_factor,
    )
    noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
    return noise.to(parts.unet.device, parts.unet.dtype)
