"""What lies in memory beside a model while it runs, counted before any of it is loaded."""

from __future__ import annotations

import torch

from webui.generation.pipelines import Company, Pipelines
from webui.generation.placement import kind_of
from webui.generation.plan import Plan
from webui.generation.sizes import Sizes, lora_sizes
from webui.generation.weight_sizes import net_sizes


def company_of(
    plan: Plan, model: Plan, pipelines: Pipelines, dtype: torch.dtype, *, there: int
) -> Company:
    """What runs beside one of the plan's models.

    Args:
        model: The plan itself, or that of its refiner.
        dtype: The format computed in.
        there: Bytes of the plan's ControlNets that are on the device by now.

    Raises:
        BrokenFileError: A file is truncated or damaged.
    """
    sizes = [net_sizes(net, dtype) for net in dict.fromkeys(plan.controlnets)]
    loras = _loras_of(plan, pipelines)
    if loras is not None:
        sizes.append(loras)
    other = plan.refiner if model is plan else plan
    if other is None:
        return Company(None, tuple(sizes), there)
    sizes.append(pipelines.sizes(other.checkpoint, other.family, other.vae))
    return Company(other.checkpoint, tuple(sizes), there)


def _loras_of(plan: Plan, pipelines: Pipelines) -> Sizes | None:
    """What the plan's LoRAs take, those of its controls too."""
    hinted = [one.net for one in plan.controls if one.net is not None and one.is_lora]
    if not plan.loras and not hinted:
        return None
    parts: set[str] = {part for lora in plan.loras for part in lora.card.facts.parts}
    if hinted:
        parts.add("transformer")
    files = sum(lora.card.size for lora in plan.loras)
    files += sum(net.file.stat().st_size for net in hinted if net.file is not None)
    return lora_sizes(
        {kind_of(part) for part in parts}, files, pipelines.sizes(plan.checkpoint, plan.family)
    )
