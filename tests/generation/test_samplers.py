"""Every sampler removes noise from data whose exact denoiser is known, and is measured by that.

The data is Gaussian with mean `MEAN` and deviation `SPREAD` in each element, for which the best
denoiser and the exact end of the probability-flow ODE have closed forms (arXiv 2206.00364).
"""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, Literal, cast

import numpy as np
import pytest
import torch

from webui.errors import BadRequestError
from webui.generation.families import FAMILIES
from webui.generation.samplers import SAMPLER_TABLE, check_sampler, samplers_for
from webui.generation.schedulers import make_scheduler
from webui.request import SAMPLERS, SCHEDULES, SamplerName, ScheduleName

Prediction = Literal["epsilon", "v_prediction", "sample"]

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

MEAN, SPREAD = 0.7, 0.5
MODEL: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}
numbers: Any = np
randn_tensor: Any = importlib.import_module("diffusers.utils.torch_utils").randn_tensor
KEPT: Any = numbers.cumprod(1 - numbers.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
LEVELS: Any = numbers.sqrt((1 - KEPT) / KEPT)
"""Noise level at each training timestep, relative to the signal."""

PAIRS: list[tuple[SamplerName, ScheduleName]] = [
    (name, schedule) for name in SAMPLERS for schedule in SAMPLER_TABLE[name].schedules
]


def level_at(timesteps: Any) -> Any:
    """Noise level at fractional timesteps, between the known ones evenly in its logarithm."""
    return numbers.exp(numbers.interp(timesteps, range(1000), numbers.log(LEVELS)))


NOISY: set[SamplerName] = {"Euler a", "DPM++ 2M SDE", "DPM++ SDE", "DPM2 a", "DDPM", "LCM", "TCD"}
"""Samplers that draw noise of their own: their results follow the data's distribution."""


@dataclass(frozen=True)
class Run:
    result: torch.Tensor
    exact: torch.Tensor
    timesteps: list[float]

    @property
    def error(self) -> float:
        return (self.result - self.exact).square().mean().sqrt().item()


def sampled(
    scheduler: Any,
    steps: int,
    *,
    distilled: bool = False,
    eta: float = 0.0,
    seeds: tuple[int, ...] = (1,),
    side: int = 24,
) -> Run:
    """Runs the loop of diffusers' pipeline with the exact denoiser in place of a UNet."""
    scheduler.set_timesteps(steps)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    known = inspect.signature(scheduler.step).parameters
    extra = {k: v for k, v in {"generator": generators, "eta": eta}.items() if k in known}
    x = randn_tensor((len(seeds), 4, side, side), generators) * scheduler.init_noise_sigma
    exact = None
    for t in scheduler.timesteps:
        level = level_at(float(t))
        shrink = 1 / np.sqrt(1 + level**2)
        noisy = scheduler.scale_model_input(x, t).double() / shrink
        end = MEAN + (noisy - MEAN) * SPREAD / np.sqrt(SPREAD**2 + level**2)
        exact = end if exact is None else exact
        best = (SPREAD**2 * noisy + level**2 * MEAN) / (SPREAD**2 + level**2)
        clean = end if distilled else best
        noise = (noisy - clean) / level
        v = shrink * noise - level * shrink * clean
        out = {"epsilon": noise, "v_prediction": v, "sample": clean}[
            scheduler.config.prediction_type
        ]
        x = scheduler.step(out.float(), t, x, return_dict=False, **extra)[0]
    assert exact is not None
    assert all(0 <= t < 1000 for t in scheduler.timesteps)
    return Run(x, exact.float(), [float(t) for t in scheduler.timesteps])


def fresh(
    name: SamplerName, schedule: ScheduleName, prediction: Prediction = "v_prediction"
) -> Any:
    return make_scheduler(MODEL | {"prediction_type": prediction}, name, schedule)


@cache
def run(name: SamplerName, schedule: ScheduleName, prediction: Prediction, steps: int) -> Run:
    return sampled(
        fresh(name, schedule, prediction),
        steps,
        distilled=name == "LCM",
        eta=SAMPLER_TABLE[name].eta,
    )


def test_the_table_has_a_row_for_every_name_of_the_request() -> None:
    assert set(SAMPLER_TABLE) == set(SAMPLERS)
    for family in FAMILIES:
        own = family.own
        check_sampler(own.sampler, own.schedule, own.steps, flow=family.flow)
    assert {schedule for row in SAMPLER_TABLE.values() for schedule in row.schedules} == set(
        SCHEDULES
    )


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(("name", "schedule"), [p for p in PAIRS if p[0] not in NOISY])
def test_an_ode_sampler_ends_where_the_ode_ends(
    name: SamplerName, schedule: ScheduleName, prediction: Prediction
) -> None:
    assert run(name, schedule, prediction, 20).error < 0.07


@pytest.mark.parametrize(("name", "schedule"), [p for p in PAIRS if p[0] not in NOISY])
def test_an_ode_sampler_comes_closer_with_more_steps(
    name: SamplerName, schedule: ScheduleName
) -> None:
    error = run(name, schedule, "v_prediction", 20).error
    assert run(name, schedule, "v_prediction", 80).error < max(error / 2.5, 0.002)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(("name", "schedule"), [p for p in PAIRS if p[0] in NOISY])
def test_a_noisy_sampler_ends_in_the_datas_distribution(
    name: SamplerName, schedule: ScheduleName, prediction: Prediction
) -> None:
    steps = min(80, SAMPLER_TABLE[name].most_steps or 80)
    for made, tolerance in (
        (run(name, schedule, prediction, 20), 0.18),
        (run(name, schedule, prediction, steps), 0.08),
    ):
        assert made.result.mean().item() == pytest.approx(MEAN, abs=0.05)
        assert made.result.std().item() == pytest.approx(SPREAD, abs=tolerance)
        assert made.error > SPREAD, "the noise it drew is not in the result"


def usual(name: SamplerName) -> ScheduleName:
    return "karras" if "karras" in SAMPLER_TABLE[name].schedules else "normal"


@pytest.mark.parametrize("name", SAMPLERS)
def test_no_two_samplers_are_the_same(name: SamplerName) -> None:
    mine = run(name, usual(name), "v_prediction", 20).result
    for other in SAMPLERS:
        theirs = run(other, usual(other), "v_prediction", 20).result
        assert torch.allclose(mine, theirs, atol=1e-4) == (name == other), other


def test_ddim_is_the_papers() -> None:
    """Equation 12 of arXiv 2010.02502 without noise."""
    scheduler = fresh("DDIM", "sgm uniform", "epsilon")
    made = sampled(scheduler, 20)
    levels = [*level_at(made.timesteps), 0.0]
    x = randn_tensor((1, 4, 24, 24), torch.Generator().manual_seed(1)).double()
    for level, following in pairwise(levels):
        x = x * np.sqrt(1 + level**2)
        clean = (SPREAD**2 * x + level**2 * MEAN) / (SPREAD**2 + level**2)
        x = (clean + following * (x - clean) / level) / np.sqrt(1 + following**2)
    torch.testing.assert_close(made.result, x.float(), rtol=0, atol=1e-4)


def expected_levels(schedule: ScheduleName, steps: int) -> Any:
    """The schedule's noise levels by its published formula, descending, without the final zero."""
    top, bottom, ramp = LEVELS[-1], LEVELS[0], np.linspace(0, 1, steps)
    match schedule:
        case "karras":
            return (top ** (1 / 7) + ramp * (bottom ** (1 / 7) - top ** (1 / 7))) ** 7
        case "exponential":
            return top * (bottom / top) ** ramp
        case "beta":
            distribution: Any = importlib.import_module("scipy.stats").beta
            return level_at(999 * distribution.ppf(1 - np.arange(steps) / steps, 0.6, 0.6))
        case "normal":
            return level_at(np.linspace(999, 0, steps))
        case "sgm uniform":
            return level_at(np.linspace(999, 0, steps + 1)[:-1])


@pytest.mark.parametrize("steps", [1, 20])
@pytest.mark.parametrize(
    ("name", "schedule"), [(n, s) for n, s in PAIRS if len(SAMPLER_TABLE[n].schedules) > 1]
)
def test_every_sampler_steps_at_the_schedules_noise_levels(
    name: SamplerName, schedule: ScheduleName, steps: int
) -> None:
    scheduler = fresh(name, schedule)
    scheduler.set_timesteps(steps)
    if SAMPLER_TABLE[name].overshoots and schedule == "normal":
        schedule = "sgm uniform"
    levels = np.unique(scheduler.sigmas.numpy())[::-1][:steps]
    expected = expected_levels(schedule, steps)
    np.testing.assert_allclose(levels, expected, rtol=1e-4)
    assert scheduler.sigmas[-1] < 0.03
    per_step = level_at(scheduler.timesteps.numpy())
    assert all(np.isclose(per_step, level, rtol=1e-3).any() for level in levels)


@pytest.mark.parametrize("name", SAMPLERS)
def test_each_schedule_changes_the_result(name: SamplerName) -> None:
    made = {s: run(name, s, "v_prediction", 20) for s in SAMPLER_TABLE[name].schedules}
    for one in made:
        for other in made:
            if one != other:
                same = torch.equal(made[one].result, made[other].result)
                alike = SAMPLER_TABLE[name].overshoots and {one, other} == {
                    "normal",
                    "sgm uniform",
                }
                assert same == alike, (one, other)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize(("name", "schedule"), PAIRS)
def test_few_steps_run(name: SamplerName, schedule: ScheduleName, steps: int) -> None:
    made = sampled(fresh(name, schedule), steps, distilled=name == "LCM", side=4)
    assert torch.isfinite(made.result).all()
    if steps == 1 and name != "LCM":
        # One step from pure noise gives the denoiser's first answer, nearly the mean.
        mean = torch.full_like(made.result, MEAN)
        torch.testing.assert_close(made.result, mean, rtol=0, atol=0.2)


@pytest.mark.parametrize("name", ["LCM", "TCD"])
def test_more_steps_than_there_are_say_so(name: SamplerName) -> None:
    check_sampler(name, "normal", 50)
    with pytest.raises(BadRequestError, match="at most 50 steps, not 51") as caught:
        check_sampler(name, "normal", 51)
    assert caught.value.field == "steps"


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_picture_of_a_batch_is_the_same_alone(name: SamplerName) -> None:
    def made(*seeds: int) -> torch.Tensor:
        eta = SAMPLER_TABLE[name].eta
        return sampled(fresh(name, "normal"), 8, eta=eta, seeds=seeds, side=4).result

    batch = made(3, 4)
    assert torch.equal(batch[1:], made(4))
    assert torch.equal(batch, made(3, 4))
    assert not torch.equal(batch[0], batch[1])


@pytest.mark.parametrize(("name", "schedule"), PAIRS)
def test_only_the_training_is_taken_from_the_models_configuration(
    name: SamplerName, schedule: ScheduleName
) -> None:
    clean = fresh(name, schedule)
    used = make_scheduler(
        MODEL
        | {
            "prediction_type": "v_prediction",
            "_class_name": "DDIMScheduler",
            "use_karras_sigmas": True,
            "use_exponential_sigmas": True,
            "timestep_spacing": "leading",
            "steps_offset": 7,
            "clip_sample": True,
            "thresholding": True,
            "final_sigmas_type": "sigma_min",
            "solver_order": 3,
        },
        name,
        schedule,
    )
    assert dict(clean.config) == dict(cast(Any, used).config)
    assert clean is not used
    for key, value in MODEL.items():
        assert clean.config[key] == value


@pytest.mark.parametrize("name", ["Euler", "DPM++ 2M", "DDIM", "UniPC"])
def test_a_model_with_zero_terminal_snr_keeps_it(name: SamplerName) -> None:
    config = MODEL | {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    scheduler: Any = make_scheduler(config, name, "normal")
    assert scheduler.alphas_cumprod[-1] < 1e-6


def test_a_sampler_without_zero_terminal_snr_says_so() -> None:
    config = MODEL | {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    with pytest.raises(BadRequestError, match="zero terminal SNR") as caught:
        make_scheduler(config, "Heun", "normal")
    assert caught.value.field == "sampler"


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_model_that_predicts_the_picture_itself_is_run_alike_or_refused(
    name: SamplerName,
) -> None:
    if name in samplers_for({"prediction_type": "sample"}, flow=False):
        own, other = (run(name, usual(name), said, 20) for said in ("sample", "v_prediction"))
        assert torch.allclose(own.result, other.result, atol=1e-3)
    else:
        with pytest.raises(BadRequestError, match="predicts the picture itself") as caught:
            fresh(name, usual(name), "sample")
        assert caught.value.field == "sampler"


@pytest.mark.parametrize(
    ("name", "schedule"),
    [(n, s) for n in SAMPLERS for s in SCHEDULES if s not in SAMPLER_TABLE[n].schedules],
)
def test_a_pair_that_does_not_run_says_what_does(name: SamplerName, schedule: ScheduleName) -> None:
    for refuse in (
        lambda: check_sampler(name, schedule, 20),
        lambda: make_scheduler(MODEL, name, schedule),
    ):
        with pytest.raises(
            BadRequestError, match=f"cannot run the schedule '{schedule}'"
        ) as caught:
            refuse()
        assert caught.value.field == "schedule"
        assert all(f"'{able}'" in caught.value.message for able in SAMPLER_TABLE[name].schedules)


def test_checking_needs_no_diffusers() -> None:
    code = (
        "import sys; from webui.generation.samplers import check_sampler;"
        "check_sampler('Euler', 'karras', 20); assert not {'torch', 'diffusers'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
