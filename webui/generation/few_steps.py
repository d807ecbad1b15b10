"""What suits models and LoRAs that were distilled to make a picture in a few steps.

As their makers say: SDXL-Lightning and Hyper-SD step from timesteps that end one space above the
last ("trailing", here the schedule sgm uniform) without guidance (arXiv 2402.13929, 2404.13686),
consistency models with their own sampler (arXiv 2311.05556), SDXL Turbo with noise drawn anew
(arXiv 2311.17042), and those that were merged from it with some guidance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from webui.library.distilled import Distilled, DistilledName
from webui.library.lora_facts import LoraFamily
from webui.request import GenerationRequest, SamplerName, ScheduleName

_MOST = 2
"""Times the steps it was made for that still do good."""

_FEW_OF_TURBO = 4


@dataclass(frozen=True)
class FewSteps:
    """How a distilled model is run.

    Attributes:
        samplers: The one to take first, then others that do as well.
        most_cfg: Highest that is worth it; the lowest is 1.
    """

    samplers: tuple[SamplerName, ...]
    schedule: ScheduleName
    cfg: float
    most_cfg: float
    steps: int

    def suits(self, request: GenerationRequest) -> bool:
        """Whether the request is already so that it works."""
        return (
            request.sampler in self.samplers
            and request.schedule == self.schedule
            and request.cfg <= self.most_cfg
            and self.steps <= request.steps <= _MOST * self.steps
        )

    @property
    def fix(self) -> dict[str, str | int | float]:
        """The fields of a request that works."""
        return {
            "steps": self.steps,
            "cfg": self.cfg,
            "sampler": self.samplers[0],
            "schedule": self.schedule,
        }


_NOISE: frozenset[LoraFamily] = frozenset({"SD 1", "SD 2", "SDXL"})
"""Families that these samplers are for."""

_ROWS: Mapping[DistilledName, FewSteps] = MappingProxyType(
    {
        "lightning": FewSteps(("Euler", "DDIM"), "sgm uniform", 1.0, 2.0, 0),
        "hyper": FewSteps(("DDIM", "Euler"), "sgm uniform", 1.0, 2.0, 0),
        "lcm": FewSteps(("LCM", "TCD"), "normal", 1.0, 2.0, 0),
        "turbo": FewSteps(("Euler a", "Euler"), "sgm uniform", 1.0, 1.5, 0),
    }
)

_MERGED_TURBO = FewSteps(("DPM++ SDE",), "karras", 2.0, 3.5, 0)


def few_steps(distilled: Distilled, family: LoraFamily) -> FewSteps | None:
    """What suits it; None for those whose family has a sampler of its own."""
    if family not in _NOISE or distilled.name not in _ROWS:
        return None
    row, steps = _ROWS[distilled.name], distilled.steps
    if distilled.name == "turbo" and steps > _FEW_OF_TURBO:
        # Both evaluations of its sampler count as a step here.
        row, steps = _MERGED_TURBO, 2 * steps
    return FewSteps(row.samplers, row.schedule, row.cfg, row.most_cfg, steps)
