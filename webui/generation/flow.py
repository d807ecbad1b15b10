"""Samplers and schedules for models trained by flow matching (Lipman et al., arXiv 2210.02747).

Their latents are a mix `(1 - s) * picture + s * noise` at the noise level s in 0..1, and they
predict `noise - picture`. A schedule lays the levels alike for every sampler:

- normal: as the family's own pipeline spaces them; for solvers that are sgm uniform, since a last
  step as short as some families have it makes them overshoot;
- sgm uniform: evenly from 1 down to one space above 0;
- karras, exponential, beta: between the highest and the lowest of the family's own levels.

The model's own shift towards high levels, by picture size where it says so, comes in between
(Esser et al., arXiv 2403.03206).

DDIM is Euler's method here, DEIS divides by the signal, of which there is none at first, and of the
other samplers diffusers has no form for flows. LCM draws all of its noise anew in every step.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import diffusers
import numpy as np
import torch

from webui.generation.flow_samplers import FLOW_TABLE, OWN_SCHEDULER, check_flow_sampler
from webui.generation.strength import starting_late
from webui.request import SamplerName, ScheduleName

_FLAGS: Mapping[ScheduleName, str] = MappingProxyType(
    {
        "karras": "use_karras_sigmas",
        "exponential": "use_exponential_sigmas",
        "beta": "use_beta_sigmas",
    }
)

_HIGHEST = 1 - 1e-6
"""Solvers divide by the signal, of which there is none at level 1."""


def shifted(config: Mapping[str, Any], shift: float | None) -> Mapping[str, Any]:
    """A scheduler's configuration with that shift, if any, in place of the model's own."""
    if shift is None:
        return config
    return {**config, "shift": shift, "use_dynamic_shifting": False, "shift_terminal": None}


def make_flow_scheduler(
    config: Mapping[str, Any],
    sampler: SamplerName,
    schedule: ScheduleName,
    *,
    skipped: int = 0,
    generators: Sequence[torch.Generator] = (),
) -> Any:
    """A new scheduler for one request, from the model's own scheduler configuration.

    Args:
        skipped: How many of the first steps are left out.
        generators: One a picture; pipelines of flow models hand none on, so that samplers would
            draw their noise from torch's own.

    Raises:
        BadRequestError: The sampler cannot run flow models.
    """
    check_flow_sampler(sampler)
    row = FLOW_TABLE[sampler]
    levels = _levels(getattr(diffusers, OWN_SCHEDULER), config, schedule)
    base: Any = getattr(diffusers, row.scheduler)
    uniform = schedule == "sgm uniform" or (row.solves and schedule == "normal")
    kind = _on_levels(base, levels, uniform=uniform, solves=row.solves)
    kind = _drawing_from(kind, list(generators))
    scheduler: Any = starting_late(kind, skipped)(**row.options)
    # Pipelines read in it how a picture's size shifts the levels, and we what is predicted.
    said = {name: value for name, value in levels.config.items() if not name.startswith("use_")}
    scheduler.register_to_config(**said, prediction_type="flow_prediction")
    return scheduler


def _levels(own: Any, config: Mapping[str, Any], schedule: ScheduleName) -> Any:
    """The scheduler that lays out the levels: the model's own, with the schedule asked for."""
    kept = {name: config[name] for name in inspect.signature(own).parameters if name in config}
    return own(**(kept | {flag: name == schedule for name, flag in _FLAGS.items()}))


def _on_levels(base: type[Any], levels: Any, *, uniform: bool, solves: bool) -> type[Any]:
    """The scheduler's class at those levels instead of its own."""

    # Not wrapped: pipelines learn from the signature what they may pass.
    def set_timesteps(
        self: Any,
        num_inference_steps: int | None = None,
        device: Any = None,
        sigmas: Any = None,
        mu: float | None = None,
    ) -> None:
        steps = len(sigmas) if num_inference_steps is None else num_inference_steps
        if uniform:
            sigmas = np.linspace(1.0, 1 / steps, steps)
        # Not every pipeline says again what we told it for the size.
        self.told_mu = getattr(self, "told_mu", None) if mu is None else mu
        levels.set_timesteps(steps, device, sigmas=sigmas, mu=self.told_mu)
        base.set_timesteps(self, steps, device)
        # In the middle of a step those of order 2 stand at the next one's level.
        counts = levels.sigmas.new_tensor([1, *[base.order] * (steps - 1), 1], device="cpu").long()
        self.sigmas = levels.sigmas.cpu().repeat_interleave(counts)
        self.timesteps = levels.timesteps.cpu().repeat_interleave(counts[:-1]).to(device)
        if solves:
            self.sigmas = self.sigmas.clamp(max=_HIGHEST)
        # Otherwise the first step is looked up by its timestep, which may name a later one too.
        self.set_begin_index(0)

    def _sigma_to_alpha_sigma_t(self: Any, sigma: Any) -> tuple[Any, Any]:  # noqa: ARG001
        return 1 - sigma, sigma

    members: dict[str, Any] = {"set_timesteps": set_timesteps}
    if solves:
        members["_sigma_to_alpha_sigma_t"] = _sigma_to_alpha_sigma_t
    return type(base.__name__, (base,), members)


def _drawing_from(kind: type[Any], generators: list[torch.Generator]) -> type[Any]:
    """The scheduler's class, which draws noise from these generators where it is told none."""
    if not generators or "generator" not in inspect.signature(kind.step).parameters:
        return kind

    @functools.wraps(kind.step)
    def step(self: Any, *args: Any, generator: Any = None, **kwargs: Any) -> Any:
        return kind.step(self, *args, generator=generator or generators, **kwargs)

    return type(kind.__name__, (kind,), {"step": step})
