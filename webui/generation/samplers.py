"""Samplers by the names people know: one table over diffusers' schedulers.

A schedule says at which noise levels the steps lie, and does so alike for every sampler:

- normal: evenly over the training timesteps, down to the last;
- sgm uniform: the same, but the last step starts one space above the last timestep;
- karras, exponential: over the noise levels themselves (arXiv 2206.00364, k-diffusion);
- beta: over the timesteps, closer at both ends (arXiv 2407.12173). diffusers and A1111 apply its
  quantiles to the noise levels, whose long last steps ruin pictures at 20 steps.

A last step as long as normal's makes the solvers of the DPM family overshoot: for them normal is
sgm uniform, as in diffusers, and much as A1111 leaves out the lowest level for DPM2.

DDIM without noise is DPM-Solver++ of order 1 (arXiv 2211.01095), which unlike diffusers' own class
steps exactly for every number of steps and takes every schedule; it is also Euler's method in other
units, so the two differ little. DPM++ SDE evaluates the model
twice for one step of the method and counts both, so 20 steps are 10 of A1111's.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from webui.errors import BadRequestError
from webui.generation.flow import check_flow_sampler
from webui.request import SCHEDULES, PredictionName, SamplerName, ScheduleName

if TYPE_CHECKING:
    import torch
    from diffusers.schedulers.scheduling_utils import SchedulerMixin
    from numpy.typing import NDArray

    Levels = NDArray[np.float64]


@dataclass(frozen=True)
class SamplerRow:
    """How a sampler is made.

    Attributes:
        scheduler: Name of the class in diffusers.
        schedules: What it can run; with only one, diffusers' own spacing is kept.
        options: Constructor options beside the model's own and the schedule's.
        eta: The pipeline's `eta` argument, how much noise is drawn anew in each step (0..1); only
            schedulers whose `step` takes it read it.
        most_steps: Largest number of steps it can take, if there is one.
        overshoots: Whether it must not take a last step as long as that of the schedule normal.
        useful_steps, useful_cfg: Lowest and highest that are worth it, where the sampler narrows
            them down more than the model does (measured with the embedded model: two to three
            prompts, 4 to 60 steps, CFG 1 to 8).
    """

    scheduler: str
    schedules: tuple[ScheduleName, ...]
    options: Mapping[str, str | int | bool]
    eta: float = 0.0
    most_steps: int | None = None
    overshoots: bool = False
    useful_steps: tuple[int, int] | None = None
    useful_cfg: tuple[float, float] | None = None


_ONLY: tuple[ScheduleName, ...] = ("normal",)


def _any(
    scheduler: str,
    *,
    overshoots: bool = False,
    useful_steps: tuple[int, int] | None = None,
    **options: str | int | bool,
) -> SamplerRow:
    """A row of a sampler that runs every schedule."""
    return SamplerRow(
        scheduler,
        SCHEDULES,
        MappingProxyType(options),
        overshoots=overshoots,
        useful_steps=useful_steps,
    )


def _own(
    scheduler: str, *, useful_steps: tuple[int, int] | None = None, **options: str | int | bool
) -> SamplerRow:
    """A row of a sampler that is bound to timesteps of its own."""
    return SamplerRow(
        scheduler,
        _ONLY,
        MappingProxyType(options),
        useful_steps=useful_steps,
    )


def _distilled(scheduler: str, *, eta: float = 0.0) -> SamplerRow:
    """A row of a sampler for models distilled to a few steps with little or no guidance."""
    return SamplerRow(
        scheduler,
        _ONLY,
        MappingProxyType({"original_inference_steps": 50}),
        eta=eta,
        most_steps=50,
        useful_steps=(4, 12),
        useful_cfg=(1.0, 2.0),
    )


SAMPLER_TABLE: Mapping[SamplerName, SamplerRow] = MappingProxyType(
    {
        "Euler": _any("EulerDiscreteScheduler"),
        "Euler a": _any("EulerAncestralDiscreteScheduler"),
        "DPM++ 2M": _any("DPMSolverMultistepScheduler", overshoots=True),
        "DPM++ 2M SDE": _any(
            "DPMSolverMultistepScheduler", overshoots=True, algorithm_type="sde-dpmsolver++"
        ),
        "DPM++ 3M": _any("DPMSolverMultistepScheduler", overshoots=True, solver_order=3),
        "DPM++ SDE": _any(
            "DPMSolverSinglestepScheduler",
            overshoots=True,
            algorithm_type="sde-dpmsolver++",
            lower_order_final=True,
        ),
        "Heun": _any("HeunDiscreteScheduler", useful_steps=(12, 40)),
        "DPM2": _any("KDPM2DiscreteScheduler", overshoots=True),
        "DPM2 a": _any("KDPM2AncestralDiscreteScheduler", overshoots=True),
        "LMS": _any("LMSDiscreteScheduler"),
        "UniPC": _any("UniPCMultistepScheduler", overshoots=True),
        "DEIS": _any("DEISMultistepScheduler", overshoots=True),
        "DDIM": _any("DPMSolverMultistepScheduler", solver_order=1),
        "DDPM": _own("DDPMScheduler", timestep_spacing="linspace", clip_sample=False),
        "PNDM": _own(
            "PNDMScheduler",
            useful_steps=(25, 50),
            skip_prk_steps=True,
            steps_offset=1,
            timestep_spacing="leading",
        ),
        "LCM": _distilled("LCMScheduler"),
        "TCD": _distilled("TCDScheduler", eta=0.3),
    }
)

_OF_THE_MODEL = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
)
"""What a scheduler's configuration says about the training; the rest is the sampler's business."""

_ZERO_SNR = frozenset(
    {
        "DDPMScheduler",
        "DPMSolverMultistepScheduler",
        "EulerAncestralDiscreteScheduler",
        "EulerDiscreteScheduler",
        "LCMScheduler",
        "TCDScheduler",
        "UniPCMultistepScheduler",
    }
)
"""diffusers' schedulers that can begin at pure noise."""

_PREDICTIONS: Mapping[PredictionName, Mapping[str, str | bool]] = MappingProxyType(
    {
        "epsilon": {"prediction_type": "epsilon", "rescale_betas_zero_snr": False},
        "v": {"prediction_type": "v_prediction", "rescale_betas_zero_snr": False},
        "v_zero_snr": {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True},
    }
)
"""What a model predicts as a scheduler's configuration says it."""

_RHO = 7.0
"""Exponent of the Karras schedule (arXiv 2206.00364, table 1)."""

_BETA = 0.6
"""Both parameters of the beta distribution (arXiv 2407.12173)."""


def check_sampler(
    sampler: SamplerName, schedule: ScheduleName, steps: int, *, flow: bool = False
) -> None:
    """Passes what the sampler can do, without importing diffusers.

    Args:
        flow: Whether the model was trained by flow matching.

    Raises:
        BadRequestError: The sampler cannot run that schedule, that many steps or such models.
    """
    if flow:
        check_flow_sampler(sampler)
        return
    row = SAMPLER_TABLE[sampler]
    if schedule not in row.schedules:
        able = ", ".join(repr(name) for name in row.schedules)
        raise BadRequestError(
            f"{sampler} cannot run the schedule {schedule!r}, only {able}.", field="schedule"
        )
    if row.most_steps is not None and steps > row.most_steps:
        raise BadRequestError(
            f"{sampler} takes at most {row.most_steps} steps, not {steps}.", field="steps"
        )


def trained_as(config: Mapping[str, Any], prediction: PredictionName | None) -> dict[str, Any]:
    """A model's scheduler configuration, with what it predicts set by hand where that is given."""
    return dict(config) | dict({} if prediction is None else _PREDICTIONS[prediction])


def check_trained(sampler: SamplerName, config: Mapping[str, Any]) -> None:
    """Passes a sampler that can run a model with this scheduler configuration.

    Raises:
        BadRequestError: The model begins at pure noise and the sampler cannot.
    """
    if config.get("rescale_betas_zero_snr") and SAMPLER_TABLE[sampler].scheduler not in _ZERO_SNR:
        raise BadRequestError(
            f"{sampler} cannot run a model trained down to pure noise (zero terminal SNR);"
            " DPM++ 2M, Euler and DDIM can.",
            field="sampler",
        )


def make_scheduler(
    config: Mapping[str, Any], sampler: SamplerName, schedule: ScheduleName, *, skipped: int = 0
) -> SchedulerMixin:
    """A new scheduler for one request, from the model's own scheduler configuration.

    Only what `config` says about the training is taken over, never its sampling options. The first
    `skipped` steps are left out.

    Raises:
        BadRequestError: The pair cannot be run, or not with this model.
    """
    check_sampler(sampler, schedule, steps=1)
    check_trained(sampler, config)
    row = SAMPLER_TABLE[sampler]
    # Imported here, since resolving a request needs the table only.
    base: Any = getattr(importlib.import_module("diffusers"), row.scheduler)
    options = {key: config[key] for key in _OF_THE_MODEL if key in config}
    if config.get("rescale_betas_zero_snr"):
        options["rescale_betas_zero_snr"] = True
    options |= row.options
    if row.schedules == _ONLY:
        return _starting_late(_on_its_own(base), skipped)(**options)
    if schedule == "normal" and row.overshoots:
        schedule = "sgm uniform"
    scheduler = _starting_late(_on_schedule(base, schedule), skipped)(**options)
    if base.order == 2:
        # Only now, since the constructor lays out all training timesteps, which this makes slow.
        scheduler.register_to_config(use_beta_sigmas=True)
    return scheduler


def _starting_late(kind: type[Any], skipped: int) -> type[Any]:
    # Imported here like diffusers, since it needs torch.
    from webui.generation.strength import starting_late

    return starting_late(kind, skipped)


def _on_its_own(base: type[Any]) -> type[Any]:
    """The scheduler's class, whose single step is not spaced onto timestep 0 any more."""

    @functools.wraps(base.set_timesteps)
    def set_timesteps(self: Any, num_inference_steps: int, *args: Any, **kwargs: Any) -> None:
        if num_inference_steps == 1:
            self.register_to_config(timestep_spacing="trailing")
        base.set_timesteps(self, num_inference_steps, *args, **kwargs)

    return type(base.__name__, (base,), {"set_timesteps": set_timesteps})


def _on_schedule(base: type[Any], schedule: ScheduleName) -> type[Any]:
    """The scheduler's class with our noise levels instead of its own.

    Those of order 2 lay out several values a step from the levels that they get from their method
    for the beta schedule, so that method is replaced. The others hold the levels as they are.
    """

    def levels_for_order_2(self: Any, in_sigmas: Any, num_inference_steps: int) -> Levels:  # noqa: ARG001
        return _spaced(schedule, num_inference_steps, self.alphas_cumprod)[1]

    @functools.wraps(base.set_timesteps)
    def set_timesteps(
        self: Any, num_inference_steps: int, device: Any = None, *args: Any, **kwargs: Any
    ) -> None:
        base.set_timesteps(self, num_inference_steps, device, *args, **kwargs)
        if base.order == 1:
            timesteps, levels = _spaced(schedule, num_inference_steps, self.alphas_cumprod)
            self.timesteps = self.sigmas.new_tensor(timesteps, device=device)
            self.sigmas = self.sigmas.new_tensor([*levels, self.sigmas[-1].item()], device="cpu")
        # Otherwise the first step is looked up by its timestep, which may name a later one too.
        self.set_begin_index(0)

    members = {"set_timesteps": set_timesteps, "_convert_to_beta": levels_for_order_2}
    return type(base.__name__, (base,), members)


def _spaced(
    schedule: ScheduleName, steps: int, alphas_cumprod: torch.Tensor
) -> tuple[Levels, Levels]:
    """Timesteps (fractional) and noise levels of the steps, each of shape (steps,), descending.

    A noise level is the deviation of the noise relative to the signal, sqrt((1 - a) / a).
    """
    kept: Levels = alphas_cumprod.double().cpu().numpy()
    logs: Levels = np.log((1 - kept) / kept) / 2
    known: Levels = np.arange(len(logs), dtype=np.float64)
    ramp: Levels = np.linspace(1, 0, steps)
    log_levels: Levels
    match schedule:
        case "karras":
            low, high = np.exp(logs[0] / _RHO), np.exp(logs[-1] / _RHO)
            log_levels = _RHO * np.log(low + ramp * (high - low))
        case "exponential":
            log_levels = logs[0] + ramp * (logs[-1] - logs[0])
        case "normal" | "sgm uniform" | "beta":
            timesteps: Levels = (len(logs) - 1) * _fractions(schedule, steps)
            return timesteps, np.exp(np.interp(timesteps, known, logs))
    return np.interp(log_levels, logs, known), np.exp(log_levels)


def _fractions(schedule: Literal["normal", "sgm uniform", "beta"], steps: int) -> Levels:
    """Where the steps lie between the last training timestep (1) and the first (0)."""
    if schedule == "normal":
        return np.linspace(1, 0, steps)
    above_zero: Levels = np.linspace(1, 0, steps + 1)[:-1]
    if schedule == "sgm uniform":
        return above_zero
    special: Any = importlib.import_module("scipy.special")  # costs a second, and few ask for it
    return special.betaincinv(_BETA, _BETA, above_zero)
