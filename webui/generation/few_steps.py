"""What suits models and LoRAs that were distilled to make a picture in a few steps.

As their makers say: SDXL-Lightning and Hyper-SD step from timesteps that end one space above the
last ("trailing", here the schedule sgm uniform) without guidance (arXiv 2402.13929, 2404.13686;
Hyper-SD's with "CFG" in their names with some),
consistency models with their own sampler (arXiv 2311.05556), SDXL Turbo with noise drawn anew
(arXiv 2311.17042). Models that others merged one of these into are run with DPM++ SDE and some
guidance, as the cards of DreamShaper XL, Juggernaut XL and RealVisXL say. Those trained by flow
matching are run as their family is, only in fewer steps and, but for Hyper-SD's with "CFG", without
guidance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from webui.errors import BadRequestError
from webui.generation.families import QWEN_IMAGE, Family
from webui.generation.samplers import samplers_for
from webui.generation.sampling import Sampling
from webui.library.distilled import Distilled, DistilledName
from webui.library.loras import LoraShelf
from webui.request import GenerationRequest, SamplerName, ScheduleName

_MOST = 2
"""Times the steps it was made for that still do good."""

_FEW_OF_TURBO = 4


@dataclass(frozen=True)
class FewSteps:
    """How a distilled model is run.

    Attributes:
        samplers, schedules: The one to take first, then others that do as well.
        least_cfg, most_cfg: Lowest and highest that are worth it.
        shift: Of the noise levels of a model that flows, whatever a picture's size; None: its own.
        also: Another way that does as well.
    """

    samplers: tuple[SamplerName, ...]
    schedules: tuple[ScheduleName, ...]
    cfg: float
    most_cfg: float
    least_cfg: float = 1.0
    steps: int = 0
    guidance: float | None = None
    shift: float | None = None
    also: FewSteps | None = None

    def suits(self, sampling: Sampling) -> bool:
        """Whether it works so."""
        if self.also is not None and self.also.suits(sampling):
            return True
        return (
            sampling.sampler in self.samplers
            and sampling.schedule in self.schedules
            and self.least_cfg <= sampling.cfg <= self.most_cfg
            and self.steps <= sampling.steps <= _MOST * self.steps
        )

    @property
    def sampling(self) -> Sampling:
        """What works best."""
        return Sampling(
            self.steps, self.cfg, self.samplers[0], self.schedules[0], guidance=self.guidance
        )


_FLOW = FewSteps(("Euler", "LCM"), ("normal", "sgm uniform", "beta"), 1.0, 2.0)

_ROWS: Mapping[DistilledName, FewSteps] = MappingProxyType(
    {
        "lightning": FewSteps(("Euler", "DDIM"), ("sgm uniform",), 1.0, 2.0),
        "hyper": FewSteps(("DDIM", "Euler"), ("sgm uniform",), 1.0, 2.0),
        "lcm": FewSteps(("LCM", "TCD"), ("normal",), 1.0, 2.0),
        "turbo": FewSteps(("Euler a", "Euler"), ("sgm uniform",), 1.0, 1.5),
        "distill": _FLOW,
    }
)

_GUIDED_HYPER = FewSteps(("DDIM", "Euler"), ("sgm uniform",), 5.0, 8.0, least_cfg=5.0)

_MERGED = FewSteps(("DPM++ SDE", "Euler a"), ("karras",), 2.0, 3.5)

# As the card of Hyper-SD says of those for SD 3.
_GUIDED_FLOW = replace(_FLOW, cfg=5.0, least_cfg=3.0, most_cfg=7.0)

# As the scheduler in the card of Qwen-Image-Lightning is set.
_LIGHTNING_OF_QWEN_IMAGE = replace(_FLOW, shift=3.0)


def few_steps(
    distilled: Distilled, family: Family, trained: Mapping[str, Any] = MappingProxyType({})
) -> FewSteps | None:
    """What suits it; None where it is what suits the whole family.

    Args:
        trained: The configuration of the model's scheduler, which not all samplers can do with.
    """
    if family.is_distilled or distilled.name not in _ROWS:
        return None
    able = samplers_for(trained, flow=family.flow)
    steps, guidance = distilled.steps, family.own.guidance

    def fitted(row: FewSteps, steps: int) -> FewSteps:
        samplers = tuple(name for name in row.samplers if name in able)
        return replace(row, samplers=samplers, steps=steps, guidance=guidance)

    if family.flow:
        return fitted(_flow_row(distilled, family), steps)
    own = _ROWS[distilled.name]
    if distilled.guided:
        return fitted(_GUIDED_HYPER, steps)
    # Both evaluations of the sampler of merged models count as a step here.
    if distilled.merged:
        return replace(fitted(_MERGED, 2 * steps), also=fitted(own, steps))
    if distilled.name == "turbo" and steps > _FEW_OF_TURBO:
        return fitted(_MERGED, 2 * steps)
    return fitted(own, steps)


def _flow_row(distilled: Distilled, family: Family) -> FewSteps:
    if distilled.guided and family.guided == "always":
        return _GUIDED_FLOW
    if distilled.name == "lightning" and family == QWEN_IMAGE:
        return _LIGHTNING_OF_QWEN_IMAGE
    return _FLOW


def few_step_loras(request: GenerationRequest, shelf: LoraShelf) -> dict[str, Distilled]:
    """The LoRAs that have an effect and were made for few steps, by name, in the stack's order.

    Those that cannot be found are left out: whoever plans them says what is wrong.
    """
    found: dict[str, Distilled] = {}
    for name in [choice.name for choice in request.loras if choice.has_effect]:
        try:
            distilled = shelf.find(name).facts.distilled
        except BadRequestError:
            continue
        if distilled is not None:
            found[name] = distilled
    return found


def first_suited(
    loras: Mapping[str, Distilled],
    family: Family,
    trained: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[str, FewSteps] | tuple[None, None]:
    """The first of the LoRAs by which a model of that family makes a picture in a few steps."""
    for name, distilled in loras.items():
        suited = few_steps(distilled, family, trained)
        if suited is not None:
            return name, suited
    return None, None
