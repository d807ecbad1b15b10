"""Which samplers run models trained by flow matching, and as which of diffusers' schedulers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from webui.errors import BadRequestError
from webui.request import SamplerName

OWN_SCHEDULER = "FlowMatchEulerDiscreteScheduler"
"""The class whose configuration flow models bring, and which lays out the levels."""


@dataclass(frozen=True)
class FlowRow:
    """How a sampler is made.

    Attributes:
        scheduler: Name of the class in diffusers.
        solves: Whether it was made for other models, and works in the logarithm of signal to noise.
        options: Constructor options.
    """

    scheduler: str
    solves: bool = False
    options: Mapping[str, str | int | bool] = field(default_factory=lambda: MappingProxyType({}))


def _solver(scheduler: str, **options: str | int | bool) -> FlowRow:
    return FlowRow(scheduler, solves=True, options=MappingProxyType(options))


FLOW_TABLE: Mapping[SamplerName, FlowRow] = MappingProxyType(
    {
        "Euler": FlowRow(OWN_SCHEDULER),
        "Heun": FlowRow("FlowMatchHeunDiscreteScheduler"),
        "LCM": FlowRow("FlowMatchLCMScheduler"),
        "DPM++ 2M": _solver("DPMSolverMultistepScheduler"),
        "DPM++ 2M SDE": _solver("DPMSolverMultistepScheduler", algorithm_type="sde-dpmsolver++"),
        "DPM++ 3M": _solver("DPMSolverMultistepScheduler", solver_order=3),
        "UniPC": _solver("UniPCMultistepScheduler"),
    }
)


def check_flow_sampler(sampler: SamplerName) -> None:
    """Passes a sampler that flow models can be run with, without importing diffusers.

    Raises:
        BadRequestError: Names those that can.
    """
    if sampler not in FLOW_TABLE:
        able = ", ".join(FLOW_TABLE)
        raise BadRequestError(
            f"{sampler} cannot run a model trained by flow matching; {able} can.", field="sampler"
        )
