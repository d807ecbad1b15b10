"""From noise to latents: the pipeline's loop, watched and stoppable at every step."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from webui.generation.flow import make_flow_scheduler, shifted
from webui.generation.loaded import Loaded
from webui.generation.plan import Plan
from webui.generation.previews import PreviewPace, predicted_original, to_rgb
from webui.generation.samplers import trained_as
from webui.generation.schedulers import make_scheduler
from webui.generation.speed import Rung
from webui.generation.speeding import sped_up
from webui.generation.starting import Keeper, Start, channels_added, first_latents
from webui.generation.steering import Steering
from webui.generation.steering_hints import FirstLayerHints, hint_channels
from webui.generation.steering_ways import steered_by
from webui.generation.strength import calls_of
from webui.generation.timeline import Timeline, followed


class StoppedError(Exception):
    """Raised in the middle of the loop to leave it; the components stay as they were."""


@dataclass(frozen=True)
class StepDone:
    """A step ended; `step` counts from 1. `frame` is a picture in the making, when one is due."""

    step: int
    seconds_per_step: float
    frame: np.ndarray | None


@dataclass(frozen=True)
class Refining:
    """The model that makes the last steps, its own plan, and what it follows."""

    loaded: Loaded
    plan: Plan
    timeline: Timeline


@dataclass(frozen=True)
class Prepared:
    """What the denoising of a batch begins with and follows.

    Attributes:
        timeline: What the pictures show.
        start: What they start from.
        steerings: What steers them.
        refining: What makes the last steps, where the model itself does not.
    """

    timeline: Timeline
    start: Start
    steerings: tuple[Steering, ...] = ()
    refining: Refining | None = None

    def models(self, loaded: Loaded) -> list[Loaded]:
        """Those that make the steps, the first of which is given."""
        return [loaded] if self.refining is None else [loaded, self.refining.loaded]


@dataclass(frozen=True)
class Observer:
    """Who is told what happens, and asked whether to go on.

    Attributes:
        before_call: Is told which call of the denoiser comes, from 0, and of how many; it may
            change the model's weights, nothing else does.
        emit: Is given each step that ended.
        stopped: Is asked at the end of each.
        tell: Is given sentences for the user.
        pace: When a step's picture is due; None: never.
    """

    before_call: Callable[[int, int], None]
    emit: Callable[[StepDone], None]
    stopped: Callable[[], bool]
    tell: Callable[[str], None]
    pace: PreviewPace | None = None


def denoise(
    loaded: Loaded,
    plan: Plan,
    seeds: tuple[int, ...],
    prepared: Prepared,
    rung: Rung,
    observer: Observer,
) -> torch.Tensor:
    """Latents of one batch, of shape (batch, channels, height / 8, width / 8).

    The plan's last steps are run, as many as it says, without what the rung leaves out. Noise is
    drawn on the CPU from one generator a picture, so a picture of a batch can be made again alone.

    Raises:
        StoppedError: The observer has stopped it at the end of a step.
        CompileError: The rung has blocks compiled, which cannot be done here.
    """
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    noise = _noise(loaded, plan, generators)
    own_steps = plan.steps_before_refiner
    refining = prepared.refining
    latents = None
    if own_steps:
        stretch = _Stretch(loaded, plan, prepared, rung, observer, steps=own_steps)
        hints = FirstLayerHints(loaded, prepared.steerings)

        def before_each(call: int, calls: int) -> None:
            observer.before_call(call, calls)
            hints.before_call(call, calls)

        watched = replace(stretch, observer=replace(observer, before_call=before_each))
        with hints.added():
            latents = _run(watched, None, noise, generators)
    if refining is not None:
        alone = Prepared(refining.timeline, replace(prepared.start, channels=None))
        stretch = _Stretch(
            refining.loaded,
            refining.plan,
            alone,
            rung,
            # The LoRAs are the first model's.
            replace(observer, before_call=_idle),
            before=own_steps,
            steps=refining.plan.steps,
        )
        latents = _run(stretch, latents, noise, generators)
    if latents is None:
        raise ValueError("a plan has a step at least")
    return latents


@dataclass(frozen=True)
class _Stretch:
    """The steps that one model makes without a break.

    Attributes:
        plan: Its schedule ends with the whole way's.
        prepared: What they begin with; who refines them is another stretch's.
        rung: What is left out of it.
        before: How many steps were made ahead of them.
        steps: How many of the plan's steps they are, the first ones.
    """

    loaded: Loaded
    plan: Plan
    prepared: Prepared
    rung: Rung
    observer: Observer
    steps: int
    before: int = 0

    @property
    def timeline(self) -> Timeline:
        return self.prepared.timeline


def _idle(_call: int, _calls: int) -> None:
    """Before a call for which nothing has to be made ready."""


def _run(
    stretch: _Stretch,
    latents: torch.Tensor | None,
    noise: torch.Tensor,
    generators: list[torch.Generator],
) -> torch.Tensor:
    """The latents after a stretch that goes on from `latents`, or where there are none begins."""
    loaded, plan = stretch.loaded, stretch.plan
    start, steerings = stretch.prepared.start, stretch.prepared.steerings
    pipe = _with_fresh_scheduler(loaded, plan, generators)
    # The pipeline multiplies by it whatever it is given, where the scheduler has one.
    scale = getattr(pipe.scheduler, "init_noise_sigma", 1.0)
    begin = noise
    if latents is not None:
        begin = latents / scale
    elif plan.steps < plan.sampling.steps:
        begin = first_latents(start, noise, pipe.scheduler, generators) / scale
    keeper = Keeper(start, noise, pipe.scheduler, before=stretch.before)
    watch = _Watch(stretch, begin * scale, keeper, pipe.scheduler)
    stretch.observer.before_call(0, len(pipe.scheduler.timesteps))
    backbone = loaded.backbone
    call: Any = partial(
        pipe,
        **backbone.arguments(pipe, stretch.timeline.first, plan.sampling, len(generators)),
        **backbone.from_latents(pipe, begin, plan.paint_width, plan.paint_height),
        num_inference_steps=plan.sampling.steps,
        generator=generators,
        output_type="latent",
        callback_on_step_end=watch.on_step_end,
        callback_on_step_end_tensor_inputs=["latents", "noise_pred"],
        return_dict=False,
    )
    nets = [steering for steering in steerings if steering.net is not None]
    channels = hint_channels(loaded, steerings)
    with (
        channels_added(loaded, start.channels if channels is None else channels),
        # Before the ControlNets' hook, which looks at what the denoiser is given.
        followed(
            pipe,
            loaded.denoiser,
            stretch.timeline,
            steps=plan.steps,
            pictures=len(generators),
            before=stretch.before,
        ),
        steered_by(pipe, loaded, nets, pictures=len(generators)),
        sped_up(
            stretch.rung,
            loaded,
            plan,
            stretch.timeline,
            pipe.scheduler,
            before=stretch.before,
            pictures=len(generators),
            tell=stretch.observer.tell,
        ),
    ):
        call()
    # Not what the call gives back: some pipelines undo the VAE's scaling there, some do not.
    return watch.latents


class _Watch:
    """Sees every step: hands on how far it is, makes previews, leaves the loop when told."""

    def __init__(
        self,
        stretch: _Stretch,
        sample: torch.Tensor,
        keeper: Keeper,
        scheduler: Any,
    ) -> None:
        self._observer = stretch.observer
        self._stretch = stretch
        self._sample = sample
        self._keeper = keeper
        self._shape = (sample.shape[1], sample.shape[2], sample.shape[3])
        self._calls = calls_of(scheduler, stretch.steps)
        self._began = time.perf_counter()
        if self._observer.pace is not None:
            self._observer.pace.begin()

    @property
    def latents(self) -> torch.Tensor:
        """What the last step left, of (batch, channels, height, width)."""
        return self._sample

    def unpacked(self, latents: torch.Tensor) -> torch.Tensor:
        """What the loop holds as latents of (batch, channels, height, width)."""
        loaded = self._stretch.loaded
        return loaded.backbone.unpacked(loaded.pipe, latents, self._shape)

    def on_step_end(
        self, pipe: Any, index: int, timestep: Any, tensors: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Called by the pipeline after each call of its denoiser."""
        observer = self._observer
        if observer.stopped():
            raise StoppedError
        loaded, stretch = self._stretch.loaded, self._stretch
        # Samplers of second order call the denoiser about twice a step.
        share = (index + 1) / pipe.num_timesteps
        frame = None
        if observer.pace is not None and share < 1 and observer.pace.due():
            original = predicted_original(
                self._sample,
                self.unpacked(tensors["noise_pred"]),
                float(timestep),
                pipe.scheduler,
            )
            frame = to_rgb(original, loaded.latent_map)
        self._sample = self._keeper.after(index, self.unpacked(tensors["latents"]))
        tensors["latents"] = loaded.backbone.packed(pipe, self._sample)
        made = share * stretch.plan.steps
        seconds = (time.perf_counter() - self._began) / made
        observer.emit(StepDone(max(1, stretch.before + int(made)), seconds, frame))
        if index + 1 == self._calls:
            # What is left of the schedule is for another model; the loop skips it.
            pipe._interrupt = True
        else:
            observer.before_call(index + 1, pipe.num_timesteps)
        return tensors


def _with_fresh_scheduler(loaded: Loaded, plan: Plan, generators: list[torch.Generator]) -> Any:
    """The shared components with a scheduler of this request's own, since it holds state."""
    asked = plan.sampling
    skipped = asked.steps - plan.steps
    config = loaded.scheduler_config
    scheduler: Any = (
        make_flow_scheduler(
            shifted(config, plan.shift),
            asked.sampler,
            asked.schedule,
            skipped=skipped,
            generators=generators,
        )
        if plan.family.flow
        else make_scheduler(
            trained_as(config, plan.request.prediction),
            asked.sampler,
            asked.schedule,
            skipped=skipped,
        )
    )
    # A copy, because a pipeline's constructor rewrites a scheduler's steps_offset to its taste.
    pipe: Any = copy.copy(loaded.pipe)
    pipe.scheduler = scheduler
    shape = loaded.backbone.latents_shape(pipe, plan.paint_width, plan.paint_height)
    scheduler.set_timesteps(asked.steps, **loaded.backbone.spacing(pipe, shape, asked.steps))
    # The loop hands a callback any of its variables that are on this list.
    pipe._callback_tensor_inputs = [*pipe._callback_tensor_inputs, "noise_pred"]
    return pipe


def _noise(loaded: Loaded, plan: Plan, generators: list[torch.Generator]) -> torch.Tensor:
    shape = loaded.backbone.latents_shape(loaded.pipe, plan.paint_width, plan.paint_height)
    noise = torch.stack([loaded.backbone.noise(shape, generator) for generator in generators])
    return noise.to(loaded.denoiser.device, loaded.denoiser.dtype)
