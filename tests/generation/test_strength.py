"""A sampler that starts late ends where one that ran the whole way would have ended.

The data is Gaussian, as in `tests.generation.test_samplers`: its best denoiser is known.
"""

from __future__ import annotations

import inspect
from itertools import pairwise
from typing import Any

import pytest
import torch

from tests.generation.test_samplers import MEAN, MODEL, NOISY, PAIRS, SPREAD, level_at
from webui.generation.samplers import SAMPLER_TABLE
from webui.generation.schedulers import make_scheduler
from webui.generation.strength import ends_a_step, grows, noise_level, noised, steps_left
from webui.request import SAMPLERS, SamplerName, ScheduleName

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

STEPS = 20


@pytest.mark.parametrize(
    ("steps", "strength", "left"),
    [(20, 1.0, 20), (20, 0.75, 15), (20, 0.5, 10), (20, 0.01, 1), (1, 0.3, 1), (4, 0.3, 1)],
)
def test_a_strength_leaves_its_share_of_the_steps(steps: int, strength: float, left: int) -> None:
    assert steps_left(steps, strength) == left


def scheduler_of(name: SamplerName, schedule: ScheduleName, skipped: int) -> Any:
    scheduler: Any = make_scheduler(
        MODEL | {"prediction_type": "epsilon"}, name, schedule, skipped=skipped
    )
    scheduler.set_timesteps(STEPS)
    return scheduler


def denoised(scheduler: Any, x: torch.Tensor, name: SamplerName) -> tuple[torch.Tensor, int]:
    """Runs the loop with the exact denoiser; gives the end and the number of steps."""
    known = inspect.signature(scheduler.step).parameters
    offered = {"generator": torch.Generator().manual_seed(5), "eta": SAMPLER_TABLE[name].eta}
    extra = {k: v for k, v in offered.items() if k in known}
    ended = 0
    for call, t in enumerate(scheduler.timesteps):
        level = float(level_at(float(t)))
        shrink = 1 / (1 + level**2) ** 0.5
        noisy = scheduler.scale_model_input(x, t).double() / shrink
        best = (SPREAD**2 * noisy + level**2 * MEAN) / (SPREAD**2 + level**2)
        clean = best
        if name == "LCM":
            clean = MEAN + (noisy - MEAN) * SPREAD / (SPREAD**2 + level**2) ** 0.5
        x = scheduler.step(((noisy - clean) / level).float(), t, x, return_dict=False, **extra)[0]
        ended += ends_a_step(scheduler, call)
    return x, ended


@pytest.mark.parametrize("strength", [0.3, 0.35, 0.7, 1.0])
@pytest.mark.parametrize(("name", "schedule"), PAIRS)
def test_every_sampler_denoises_from_the_middle(
    name: SamplerName, schedule: ScheduleName, strength: float
) -> None:
    left = steps_left(STEPS, strength)
    scheduler = scheduler_of(name, schedule, STEPS - left)
    draw = torch.Generator().manual_seed(1)
    clean = MEAN + SPREAD * torch.randn((1, 4, 48, 48), generator=draw)
    noise = torch.randn(clean.shape, generator=draw)
    level = noise_level(scheduler, 0)
    x, ended = denoised(scheduler, noised(clean, noise, level, scheduler), name)
    assert ended == (left + 1 if name == "PNDM" and left > 1 else left)
    assert x.mean().item() == pytest.approx(MEAN, abs=0.06)
    assert x.std().item() == pytest.approx(SPREAD, abs=0.18 if name in NOISY else 0.07)
    if name not in NOISY:
        noisy = clean + level * noise
        exact = MEAN + (noisy - MEAN) * SPREAD / (SPREAD**2 + level**2) ** 0.5
        assert (x - exact).square().mean().sqrt() < 0.08


@pytest.mark.parametrize(("name", "schedule"), PAIRS)
def test_the_steps_that_are_left_are_the_last_ones(
    name: SamplerName, schedule: ScheduleName
) -> None:
    whole, late = scheduler_of(name, schedule, 0), scheduler_of(name, schedule, 12)
    calls = len(late.timesteps)
    own = [float(t) for t in late.timesteps]
    if name == "PNDM":
        assert own == [*(float(t) for t in whole.timesteps[-8:-6]), own[1], *own[3:]]
    else:
        assert own == [float(t) for t in whole.timesteps[-calls:]]
    assert calls == {1: 8, 2: 15}[late.order] + (name == "PNDM")
    levels = [noise_level(late, call) for call in range(calls + 1)]
    assert levels[-1] == 0
    assert all(a >= b for a, b in pairwise(levels))


@pytest.mark.parametrize("name", SAMPLERS)
def test_only_one_step_can_be_left(name: SamplerName) -> None:
    scheduler = scheduler_of(name, "normal", STEPS - 1)
    assert len(scheduler.timesteps) == 1
    x, _ = denoised(scheduler, torch.full((1, 4, 4, 4), MEAN), name)
    assert torch.isfinite(x).all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_noise_is_added_in_the_samplers_own_scale(name: SamplerName) -> None:
    scheduler = scheduler_of(name, "normal", 0)
    clean, noise = torch.zeros(1, 4, 64, 64), torch.randn(1, 4, 64, 64)
    level = noise_level(scheduler, 0)
    assert level > 10
    mixed = noised(clean, noise, level, scheduler)
    assert mixed.std().item() == pytest.approx(float(scheduler.init_noise_sigma), rel=0.05)
    assert grows(scheduler) == (float(scheduler.init_noise_sigma) > 1)
