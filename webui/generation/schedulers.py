"""diffusers' schedulers for the table of `webui.generation.samplers`, with our noise levels."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from typing import Any, Literal

import diffusers
import numpy as np
import torch
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from numpy.typing import NDArray

from webui.generation.samplers import (
    OWN_SCHEDULE,
    SAMPLER_TABLE,
    check_sampler,
    check_trained,
)
from webui.generation.strength import starting_late
from webui.request import SamplerName, ScheduleName

Levels = NDArray[np.float64]

_OF_THE_MODEL = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
)
"""What a scheduler's configuration says about the training; the rest is the sampler's business."""

_RHO = 7.0
"""Exponent of the Karras schedule (arXiv 2206.00364, table 1)."""

_BETA = 0.6
"""Both parameters of the beta distribution (arXiv 2407.12173)."""


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
    base: Any = getattr(diffusers, row.scheduler)
    options = {key: config[key] for key in _OF_THE_MODEL if key in config}
    if config.get("rescale_betas_zero_snr"):
        options["rescale_betas_zero_snr"] = True
    options |= row.options
    if row.schedules == OWN_SCHEDULE:
        return starting_late(_on_its_own(base), skipped)(**options)
    if schedule == "normal" and row.overshoots:
        schedule = "sgm uniform"
    scheduler = starting_late(_on_schedule(base, schedule), skipped)(**options)
    if base.order == 2:
        # Only now, since the constructor lays out all training timesteps, which this makes slow.
        scheduler.register_to_config(use_beta_sigmas=True)
    return scheduler


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
