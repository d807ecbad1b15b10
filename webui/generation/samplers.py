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

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from webui.errors import BadRequestError
from webui.generation.flow_samplers import FLOW_TABLE, check_flow_sampler
from webui.request import SCHEDULES, PredictionName, SamplerName, ScheduleName


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


OWN_SCHEDULE: tuple[ScheduleName, ...] = ("normal",)
"""Of samplers that lay out their steps themselves."""


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
        OWN_SCHEDULE,
        MappingProxyType(options),
        useful_steps=useful_steps,
    )


def _distilled(scheduler: str, *, eta: float = 0.0) -> SamplerRow:
    """A row of a sampler for models distilled to a few steps with little or no guidance."""
    return SamplerRow(
        scheduler,
        OWN_SCHEDULE,
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

_NO_SAMPLES = frozenset(
    {
        "DPMSolverSDEScheduler",
        "EulerAncestralDiscreteScheduler",
        "KDPM2AncestralDiscreteScheduler",
        "KDPM2DiscreteScheduler",
        "PNDMScheduler",
    }
)
"""diffusers' schedulers that cannot run models which predict the picture itself."""

_PREDICTIONS: Mapping[PredictionName, Mapping[str, str | bool]] = MappingProxyType(
    {
        "epsilon": {"prediction_type": "epsilon", "rescale_betas_zero_snr": False},
        "v": {"prediction_type": "v_prediction", "rescale_betas_zero_snr": False},
        "v_zero_snr": {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True},
    }
)
"""What a model predicts as a scheduler's configuration says it."""


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
        BadRequestError: The model begins at pure noise, or predicts the picture itself, and the
            sampler cannot do with that.
    """
    reason = _unable(sampler, config)
    if reason is not None:
        raise BadRequestError(f"{sampler} cannot run a model {reason}.", field="sampler")


def _unable(sampler: SamplerName, config: Mapping[str, Any]) -> str | None:
    """What of a model the sampler cannot do with, if anything."""
    scheduler = SAMPLER_TABLE[sampler].scheduler
    if config.get("rescale_betas_zero_snr") and scheduler not in _ZERO_SNR:
        return "trained down to pure noise (zero terminal SNR); DPM++ 2M, Euler and DDIM can"
    if config.get("prediction_type") == "sample" and scheduler in _NO_SAMPLES:
        return "that predicts the picture itself; Euler, DDIM and LCM can"
    return None


def samplers_for(
    config: Mapping[str, Any], *, flow: bool
) -> dict[SamplerName, tuple[ScheduleName, ...]]:
    """The samplers that can run a model with this scheduler configuration, and their schedules."""
    if flow:
        return dict.fromkeys(FLOW_TABLE, SCHEDULES)
    return {
        name: row.schedules for name, row in SAMPLER_TABLE.items() if _unable(name, config) is None
    }
