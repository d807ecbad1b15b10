"""Starting from a picture: the steps that are left of the way, and the noise they start at."""

from __future__ import annotations

import functools
from typing import Any

import torch

_LAID_OUT = ("timesteps", "sigmas", "sigmas_interpol", "sigmas_up", "sigmas_down")
"""What diffusers' schedulers lay out, one entry for each call of the denoiser."""

_LEAST_KEPT = 2**-24
"""What diffusers' schedulers with noise levels take for none of the signal being left."""

_GROWING = frozenset(
    {
        "EulerAncestralDiscreteScheduler",
        "EulerDiscreteScheduler",
        "HeunDiscreteScheduler",
        "KDPM2AncestralDiscreteScheduler",
        "KDPM2DiscreteScheduler",
        "LMSDiscreteScheduler",
    }
)


def steps_left(steps: int, strength: float) -> int:
    """How many of the steps a strength of 0..1 leaves to be run, at least one."""
    return max(1, int(steps * strength + 0.5))


def starting_late(kind: type[Any], skipped: int) -> type[Any]:
    """The scheduler's class, whose first steps are left out wherever it lays its steps out.

    diffusers keeps them and has the loop begin at a later index, where LMS and those that count
    steps from the end go wrong.
    """
    if not skipped:
        return kind

    @functools.wraps(kind.set_timesteps)
    def set_timesteps(self: Any, *args: Any, **kwargs: Any) -> None:
        kind.set_timesteps(self, *args, **kwargs)
        _leave_out(self, skipped)

    return type(kind.__name__, (kind,), {"set_timesteps": set_timesteps})


def _leave_out(scheduler: Any, skipped: int) -> None:
    if hasattr(scheduler, "plms_timesteps"):
        # PNDM takes its second timestep twice, wherever it starts.
        once = scheduler.timesteps.unique().flip(0)[skipped:]
        scheduler.timesteps = torch.cat([once[:2], once[1:]])
        return
    for name in _LAID_OUT:
        values = getattr(scheduler, name, None)
        if isinstance(values, torch.Tensor):
            setattr(scheduler, name, values[skipped * scheduler.order :])
    if hasattr(scheduler, "order_list"):
        scheduler.order_list = scheduler.get_order_list(len(scheduler.timesteps))
    if "original_inference_steps" in scheduler.config:
        # These know by it which step is the last and draws no noise any more.
        scheduler.num_inference_steps = len(scheduler.timesteps)


def grows(scheduler: Any) -> bool:
    """Whether it adds noise to a picture of constant scale (Karras et al., arXiv 2206.00364).

    The others mix the two so that their variances add up to 1.
    """
    return type(scheduler).__name__ in _GROWING


def flows(scheduler: Any) -> bool:
    """Whether it mixes picture and noise by shares that add up to 1 (`webui.generation.flow`)."""
    return scheduler.config.get("prediction_type") == "flow_prediction"


def noise_level(scheduler: Any, call: int) -> float:
    """Deviation of the noise before a call of the denoiser: relative to the signal, or its share of
    the mix where the scheduler flows.

    `call` counts from 0; past the last one there is no noise left.
    """
    if call >= len(scheduler.timesteps):
        return 0.0
    sigmas = getattr(scheduler, "sigmas", None)
    if isinstance(sigmas, torch.Tensor) and len(sigmas) > len(scheduler.timesteps):
        return float(sigmas[call])
    # Nothing is left at the last timestep of a model that was trained down to pure noise.
    kept = max(float(scheduler.alphas_cumprod[int(scheduler.timesteps[call])]), _LEAST_KEPT)
    return ((1 - kept) / kept) ** 0.5


def noised(
    latents: torch.Tensor, noise: torch.Tensor, level: float, scheduler: Any
) -> torch.Tensor:
    """The latents with noise of that level, in the scale the scheduler works in."""
    if flows(scheduler):
        return (1 - level) * latents + level * noise
    mixed = latents + level * noise
    return mixed if grows(scheduler) else mixed / (1 + level**2) ** 0.5


def calls_of(scheduler: Any, steps: int) -> int:
    """How many calls of the denoiser the first so many of the steps laid out take."""
    calls = steps + 1 if hasattr(scheduler, "plms_timesteps") and steps else steps * scheduler.order
    return min(calls, len(scheduler.timesteps))


def ends_a_step(scheduler: Any, call: int) -> bool:
    """Whether a call of the denoiser ends a step; those of order 2 stop once on the way."""
    return (call + 1) % scheduler.order == 0 or call + 1 == len(scheduler.timesteps)
