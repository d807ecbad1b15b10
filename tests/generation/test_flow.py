"""Samplers of flow models, measured on data whose best answer is known.

The data is Gaussian, as in `tests.generation.test_samplers`. At the share s of noise its best
denoiser and the end of the flow have closed forms.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
    FlowMatchEulerDiscreteScheduler,
)

from tests.generation.test_samplers import MEAN, SPREAD
from webui.errors import BadRequestError
from webui.generation.flow import make_flow_scheduler
from webui.generation.flow_samplers import FLOW_TABLE
from webui.generation.previews import predicted_original
from webui.generation.samplers import check_sampler, check_trained, samplers_for
from webui.generation.strength import ends_a_step, flows, noise_level, noised
from webui.request import SAMPLERS, SCHEDULES, SamplerName, ScheduleName

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

SHIFTED = {"num_train_timesteps": 1000, "shift": 3.0}
BY_SIZE = {"use_dynamic_shifting": True, "shift": 3.0, "base_shift": 0.5, "max_shift": 1.15}
NAMES: tuple[SamplerName, ...] = tuple(FLOW_TABLE)
SOLVERS = [name for name, row in FLOW_TABLE.items() if row.solves]
NOISY: set[SamplerName] = {"LCM", "DPM++ 2M SDE"}
PAIRS = [(name, schedule) for name in NAMES for schedule in SCHEDULES]


def made(name: SamplerName, schedule: ScheduleName = "normal", **options: Any) -> Any:
    return make_flow_scheduler(SHIFTED, name, schedule, **options)


def velocity(x: torch.Tensor, level: float) -> torch.Tensor:
    spread = (1 - level) ** 2 * SPREAD**2 + level**2
    clean = MEAN + SPREAD**2 * (1 - level) / spread * (x - (1 - level) * MEAN)
    return (x - clean) / level


def exact(x: torch.Tensor, level: float) -> torch.Tensor:
    """Where the flow from a mix of that level ends."""
    spread = ((1 - level) ** 2 * SPREAD**2 + level**2) ** 0.5
    return MEAN + SPREAD * (x - (1 - level) * MEAN) / spread


def run(scheduler: Any, x: torch.Tensor, *, distilled: bool = False) -> torch.Tensor:
    for t in scheduler.timesteps:
        level = float(t) / 1000
        answer = (x - exact(x, level)) / level if distilled else velocity(x, level)
        x = scheduler.step(answer, t, x, return_dict=False)[0]
    return x


def noise(*seeds: int, side: int = 24) -> torch.Tensor:
    drawn = [torch.randn(4, side, side, generator=torch.Generator().manual_seed(s)) for s in seeds]
    return torch.stack(drawn)


@pytest.mark.parametrize(("name", "schedule"), [p for p in PAIRS if p[0] not in NOISY])
def test_a_sampler_ends_where_the_flow_ends(name: SamplerName, schedule: ScheduleName) -> None:
    errors: list[float] = []
    for steps in (20, 80):
        scheduler = made(name, schedule)
        scheduler.set_timesteps(steps)
        x = noise(1)
        end = run(scheduler, x)
        errors.append(float((end - exact(x, 1.0)).square().mean().sqrt()))
    assert errors[0] < 0.08
    assert errors[1] < max(errors[0] / 2.5, 0.006)


@pytest.mark.parametrize(("name", "schedule"), [p for p in PAIRS if p[0] in NOISY])
def test_a_noisy_sampler_ends_in_the_datas_distribution(
    name: SamplerName, schedule: ScheduleName
) -> None:
    scheduler = made(name, schedule, generators=[torch.Generator().manual_seed(3)])
    scheduler.set_timesteps(60)
    x = noise(1)
    end = run(scheduler, x, distilled=name == "LCM")
    assert end.mean().item() == pytest.approx(MEAN, abs=0.05)
    assert end.std().item() == pytest.approx(SPREAD, abs=0.1)
    assert float((end - exact(x, 1.0)).square().mean().sqrt()) > SPREAD, "no noise was drawn"


@pytest.mark.parametrize(("name", "schedule"), PAIRS)
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_few_steps_run(name: SamplerName, schedule: ScheduleName, steps: int) -> None:
    scheduler = made(name, schedule)
    scheduler.set_timesteps(steps)
    end = run(scheduler, noise(1))
    assert torch.isfinite(end).all()
    assert end.mean().item() == pytest.approx(MEAN, abs=0.1)


def test_no_two_samplers_are_the_same() -> None:
    ends: dict[SamplerName, torch.Tensor] = {}
    for name in NAMES:
        scheduler = made(name, generators=[torch.Generator().manual_seed(3)])
        scheduler.set_timesteps(8)
        ends[name] = run(scheduler, noise(1))
    for one in NAMES:
        for other in NAMES:
            assert torch.allclose(ends[one], ends[other], atol=1e-4) == (one == other), other


@pytest.mark.parametrize("name", sorted(NOISY))
def test_a_picture_of_a_batch_draws_its_own_noise(name: SamplerName) -> None:
    def ends(*seeds: int) -> torch.Tensor:
        scheduler = made(name, generators=[torch.Generator().manual_seed(s) for s in seeds])
        scheduler.set_timesteps(6)
        return run(scheduler, noise(*seeds, side=4))

    batch = ends(3, 4)
    assert torch.equal(batch[1:], ends(4))
    assert not torch.equal(batch[0], batch[1])


@pytest.mark.parametrize("config", [SHIFTED, BY_SIZE])
@pytest.mark.parametrize("sigmas", [None, [1.0, 0.75, 0.5, 0.25]])
@pytest.mark.parametrize("name", [name for name in NAMES if name not in SOLVERS])
def test_normal_is_the_models_own_spacing(
    name: SamplerName, sigmas: list[float] | None, config: dict[str, Any]
) -> None:
    """As diffusers lays it out, shifted."""
    untyped: Any = FlowMatchEulerDiscreteScheduler
    theirs = untyped(**config)
    mu = 0.8 if config is BY_SIZE else None
    theirs.set_timesteps(4, sigmas=sigmas, mu=mu)
    scheduler = make_flow_scheduler(config, name, "normal")
    scheduler.set_timesteps(4, sigmas=sigmas, mu=mu)
    levels = np.unique(scheduler.sigmas.numpy())[::-1]
    np.testing.assert_allclose(levels, theirs.sigmas.numpy(), atol=2e-6)
    assert set(scheduler.timesteps.tolist()) == set(theirs.timesteps.tolist())
    if name == "Euler":
        assert torch.equal(scheduler.sigmas, theirs.sigmas)


@pytest.mark.parametrize("name", SOLVERS)
def test_for_solvers_normal_is_sgm_uniform(name: SamplerName) -> None:
    spacings: list[list[float]] = []
    for schedule in ("normal", "sgm uniform"):
        scheduler = made(name, schedule)
        scheduler.set_timesteps(6)
        spacings.append(scheduler.sigmas.tolist())
    assert spacings[0] == spacings[1]
    plain = made("Euler", "sgm uniform")
    plain.set_timesteps(6)
    np.testing.assert_allclose(spacings[0], plain.sigmas.numpy(), atol=2e-6)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_pipeline_does_not_say_again_is_remembered(name: SamplerName) -> None:
    scheduler = make_flow_scheduler(BY_SIZE, name, "normal")
    scheduler.set_timesteps(4, mu=0.8)
    known = scheduler.sigmas.clone()
    scheduler.set_timesteps(4)
    assert torch.equal(scheduler.sigmas, known)


def test_pipelines_may_pass_levels_and_shift() -> None:
    for name in NAMES:
        for skipped in (0, 2):
            known = inspect.signature(made(name, skipped=skipped).set_timesteps).parameters
            assert {"sigmas", "mu", "device", "num_inference_steps"} <= set(known)


def test_every_schedule_spaces_otherwise() -> None:
    def levels(schedule: ScheduleName) -> tuple[float, ...]:
        scheduler = made("Euler", schedule)
        scheduler.set_timesteps(6)
        return tuple(scheduler.sigmas.tolist())

    spacings = {schedule: levels(schedule) for schedule in SCHEDULES}
    assert len(set(spacings.values())) == len(SCHEDULES)
    assert all(a > b for each in spacings.values() for a, b in pairwise(each))
    ramp = np.linspace(1, 1 / 6, 6)
    np.testing.assert_allclose(spacings["sgm uniform"][:-1], 3 * ramp / (1 + 2 * ramp), rtol=1e-6)


def test_the_models_own_flags_do_not_stand_against_the_schedule() -> None:
    config = SHIFTED | {"use_karras_sigmas": True, "_class_name": "FlowMatchEulerDiscreteScheduler"}
    scheduler = make_flow_scheduler(config, "Euler", "normal")
    scheduler.set_timesteps(6)
    plain = made("Euler")
    plain.set_timesteps(6)
    assert torch.equal(scheduler.sigmas, plain.sigmas)


@pytest.mark.parametrize("name", NAMES)
def test_it_goes_on_from_the_middle(name: SamplerName) -> None:
    scheduler = made(name, skipped=12, generators=[torch.Generator().manual_seed(3)])
    whole = made(name)
    for one in (scheduler, whole):
        one.set_timesteps(20)
        assert flows(one)
    calls = len(scheduler.timesteps)
    assert scheduler.timesteps.tolist() == whole.timesteps.tolist()[-calls:]
    assert sum(ends_a_step(scheduler, call) for call in range(calls)) == 8
    level = noise_level(scheduler, 0)
    assert 0 < level < 1
    assert noise_level(scheduler, calls) == 0
    clean = MEAN + SPREAD * noise(7)
    mixed = noised(clean, noise(1), level, scheduler)
    assert mixed.std().item() == pytest.approx(
        ((1 - level) ** 2 * SPREAD**2 + level**2) ** 0.5, rel=0.05
    )
    end = run(scheduler, mixed, distilled=name == "LCM")
    assert end.mean().item() == pytest.approx(MEAN, abs=0.06)
    assert end.std().item() == pytest.approx(SPREAD, abs=0.12)
    if name not in NOISY:
        assert (end - exact(mixed, level)).square().mean().sqrt() < 0.08


def test_the_picture_in_the_making_is_what_the_answer_says() -> None:
    scheduler = made("Euler")
    scheduler.set_timesteps(4)
    clean, drawn = noise(1), noise(2)
    timestep = float(scheduler.timesteps[1])
    mixed = noised(clean, drawn, noise_level(scheduler, 1), scheduler)
    original = predicted_original(mixed, drawn - clean, timestep, scheduler)
    torch.testing.assert_close(original, clean, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name not in FLOW_TABLE])
def test_a_sampler_that_cannot_says_which_can(name: SamplerName) -> None:
    for refuse in (lambda: check_sampler(name, "normal", 20, flow=True), lambda: made(name)):
        with pytest.raises(BadRequestError, match="trained by flow matching") as caught:
            refuse()
        assert caught.value.field == "sampler"
        assert "Euler" in caught.value.message


def test_what_is_offered_runs() -> None:
    assert set(samplers_for({}, flow=True)) == set(FLOW_TABLE)
    zero_snr = {"rescale_betas_zero_snr": True}
    for flow, config in ((True, {}), (False, {}), (False, zero_snr)):
        for name in SAMPLERS:
            schedules = samplers_for(config, flow=flow).get(name, ())
            for schedule in SCHEDULES:
                try:
                    check_sampler(name, schedule, 20, flow=flow)
                    if not flow:
                        check_trained(name, config)
                    runs = True
                except BadRequestError:
                    runs = False
                assert runs == (schedule in schedules), (name, schedule, flow)


def test_checking_needs_no_diffusers() -> None:
    code = (
        "import sys; from webui.generation.flow_samplers import check_flow_sampler;"
        "check_flow_sampler('Euler'); assert not {'torch', 'diffusers'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
