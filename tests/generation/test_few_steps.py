from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler

from tests.generation.folders import write_json, write_sd1
from webui.generation.advice import Advice, advise
from webui.generation.facts import ModelFacts, Own, find_sampling, own_of
from webui.generation.families import (
    FLUX,
    FLUX2_KLEIN,
    FLUX_SCHNELL,
    QWEN_IMAGE,
    SD1,
    SD3,
    SDXL,
    Z_IMAGE_TURBO,
    Family,
)
from webui.generation.few_steps import few_steps
from webui.generation.samplers import check_sampler
from webui.generation.sampling import Sampling, sampling_of
from webui.generation.schedulers import make_scheduler
from webui.library.checkpoints import Model
from webui.library.distilled import Distilled, DistilledName, read_distilled
from webui.library.hashes import HashBook
from webui.library.loras import LoraShelf
from webui.library.recognition import Recognised
from webui.request import parse_request

PLAIN = ModelFacts(
    name="meadow",
    family=SDXL,
    width=1024,
    height=1024,
    own=SDXL.own,
    useful_cfg=(3.0, 10.0),
    useful_steps=(15, 40),
    text_layers=12,
    scheduler={},
)


def advice(facts: ModelFacts, *loras: str, **fields: Any) -> Advice | None:
    """What is said of the steps, with these LoRAs in the request."""
    known = {name: read_distilled({}, name, is_lora=True) for name in loras}
    found = advise(
        parse_request(fields), facts, {name: d for name, d in known.items() if d is not None}
    )
    return next((one for one in found if one.kind == "few_steps"), None)


def distilled(stem: str, family: Family = SDXL) -> ModelFacts:
    return dataclasses.replace(PLAIN, name=stem, family=family, distilled=read_distilled({}, stem))


def own(facts: ModelFacts, *loras: str) -> Own:
    known = {name: read_distilled({}, name, is_lora=True) for name in loras}
    return own_of(facts, {name: found for name, found in known.items() if found is not None})


@pytest.mark.parametrize(
    ("stem", "family", "expected"),
    [
        ("sdxl_lightning_2step", SDXL, (2, 1.0, "Euler", "sgm uniform")),
        ("sdxl_lightning_4step", SDXL, (4, 1.0, "Euler", "sgm uniform")),
        ("juggernautXL_v9Rdphoto2Lightning_8step", SDXL, (16, 2.0, "DPM++ SDE", "karras")),
        ("dreamshaperXL_lightningDPMSDE", SDXL, (12, 2.0, "DPM++ SDE", "karras")),
        ("Realistic_Vision_V6.0_B1_hyper", SD1, (16, 2.0, "DPM++ SDE", "karras")),
        ("sd_xl_turbo_1.0_fp16", SDXL, (4, 1.0, "Euler a", "sgm uniform")),
        ("DreamShaperXL_Turbo_v2", SDXL, (16, 2.0, "DPM++ SDE", "karras")),
        ("RealVisXL_V4.0_Turbo", SDXL, (16, 2.0, "DPM++ SDE", "karras")),
        ("Hyper-SDXL-8steps", SDXL, (8, 1.0, "DDIM", "sgm uniform")),
        ("dreamshaper_8LCM", SD1, (6, 1.0, "LCM", "normal")),
        ("sd3.5_large_turbo", SD3, (4, 1.0, "Euler", "normal")),
        ("sd3.5_large", SD3, (28, 4.5, "Euler", "normal")),
        ("flux1-dev-Hyper8", FLUX, (8, 1.0, "Euler", "normal")),
        ("qwen_image_distill_full_fp8_e4m3fn", QWEN_IMAGE, (15, 1.0, "Euler", "normal")),
        ("Qwen-Image-fp8-Lightning-4steps", QWEN_IMAGE, (4, 1.0, "Euler", "normal")),
    ],
)
def test_a_distilled_model_is_run_as_suits_it_and_what_else_is_set_gets_advice(
    stem: str, family: Family, expected: tuple[Any, ...], tmp_path: Path
) -> None:
    folder = write_sd1(tmp_path, stem).path
    write_json(folder / "transformer" / "config.json", {"guidance_embeds": True})
    known = Recognised(distilled=read_distilled({}, stem))
    nothing = LoraShelf((), HashBook(tmp_path / "hashes.json"))
    model = Model(stem, folder, family.pipeline, facts=known)
    run = find_sampling(parse_request({}), model, nothing)
    assert (run.steps, run.cfg, run.sampler, run.schedule) == expected
    assert run.guidance == family.own.guidance
    check_sampler(run.sampler, run.schedule, run.steps, flow=family.flow)
    facts = dataclasses.replace(distilled(stem, family), own=run)
    assert advise(parse_request({}), facts) == ()
    if facts.distilled is not None:
        found = advice(facts, steps=40, cfg=7)
        assert found is not None
        assert dict(found.fix) == dict.fromkeys(("steps", "cfg", "sampler", "schedule"))
        assert tuple(found.values.values()) == (stem, *expected)
        assert advice(facts, **dict(found.fix)) is None


@pytest.mark.parametrize(
    ("lora", "family", "sampler", "steps"),
    [
        ("sdxl_lightning_4step_lora", SDXL, "Euler", 4),
        ("lcm-lora-sdxl", SDXL, "LCM", 6),
        ("lcm-lora-sdv1-5", SD1, "LCM", 6),
        ("Hyper-SDXL-8steps-lora", SDXL, "DDIM", 8),
        ("Hyper-SD15-4steps-lora", SD1, "DDIM", 4),
        ("Qwen-Image-Lightning-8steps-lora", QWEN_IMAGE, "Euler", 8),
    ],
)
def test_so_is_a_model_with_a_distilled_lora(
    lora: str, family: Family, sampler: str, steps: int
) -> None:
    found = own(dataclasses.replace(PLAIN, family=family, own=family.own), lora)
    assert (found.sampling.sampler, found.sampling.steps) == (sampler, steps)
    assert (found.sampling.cfg, found.made_for) == (1.0, lora)


def test_a_merged_turbo_down_to_pure_noise_has_a_sampler_that_can_run_it() -> None:
    merged, noisy = Distilled("turbo", 8), {"rescale_betas_zero_snr": True}
    found = [few_steps(merged, SDXL, trained) for trained in ({}, noisy)]
    run = [suited.sampling for suited in found if suited is not None]
    assert run == [Sampling(16, 2.0, name, "karras") for name in ("DPM++ SDE", "Euler a")]


@pytest.mark.parametrize("steps", [8, 12])
def test_hyper_with_cfg_is_guided(steps: int) -> None:
    name = f"Hyper-SDXL-{steps}steps-CFG-lora"
    found = own(PLAIN, name)
    assert found.sampling == Sampling(steps, 5.0, "DDIM", "sgm uniform")
    assert advice(PLAIN, name, cfg=8.0) is None
    assert advice(PLAIN, name, cfg=1.0) is not None


@pytest.mark.parametrize("steps", [8, 16])
def test_so_is_hyper_with_cfg_for_a_model_that_flows(steps: int) -> None:
    name = f"Hyper-SD3-{steps}steps-CFG-lora"
    sd3 = dataclasses.replace(PLAIN, family=SD3, own=SD3.own)
    assert own(sd3, name).sampling == Sampling(steps, 5.0, "Euler", "normal")
    for cfg in (3.0, 7.0):
        assert advice(sd3, name, cfg=cfg) is None
    for cfg in (1.0, 8.0):
        assert advice(sd3, name, cfg=cfg) is not None


@pytest.mark.parametrize(
    "way",
    [
        {"steps": 12, "cfg": 2.0, "sampler": "DPM++ SDE", "schedule": "karras"},
        {"steps": 6, "cfg": 1.0, "sampler": "Euler", "schedule": "sgm uniform"},
        {"steps": 8, "cfg": 2.0, "sampler": "Euler", "schedule": "sgm uniform"},
    ],
)
def test_a_merged_lightning_does_well_either_way(way: dict[str, Any]) -> None:
    facts = distilled("dreamshaperXL_lightningDPMSDE")
    assert advice(facts, **way) is None
    assert advice(facts, **way | {"cfg": 5.0}) is not None
    assert advice(facts, **way | {"schedule": "beta"}) is not None
    assert (advice(distilled("sdxl_lightning_4step"), **way) is None) == (way["sampler"] == "Euler")


def test_the_lora_counts_before_the_model() -> None:
    assert own(distilled("sdxl_lightning_4step"), "lcm-lora-sdxl").made_for == "lcm-lora-sdxl"
    assert own(distilled("sdxl_lightning_4step")).made_for == "sdxl_lightning_4step"
    assert own(PLAIN).made_for is None


@pytest.mark.parametrize(
    "changes", [{"steps": 8}, {"cfg": 1.5}, {"sampler": "DDIM"}, {"negative_prompt": "fog"}]
)
def test_what_works_as_well_is_left_alone(changes: dict[str, Any]) -> None:
    suits = {"steps": 4, "cfg": 1.0, "sampler": "Euler", "schedule": "sgm uniform"}
    assert advice(distilled("sdxl_lightning_4step"), **suits | changes) is None


@pytest.mark.parametrize(
    "changes", [{"steps": 20}, {"steps": 3}, {"cfg": 7.0}, {"sampler": "LMS"}, {"schedule": "beta"}]
)
def test_what_does_not_work_is_told(changes: dict[str, Any]) -> None:
    suits = {"steps": 4, "cfg": 1.0, "sampler": "Euler", "schedule": "sgm uniform"}
    assert advice(distilled("sdxl_lightning_4step"), **suits | changes) is not None


@pytest.mark.parametrize("stem", ["RealVisXL_V4.0", "juggernautXL_v9", "pony_lightning_bolt"])
def test_others_are_judged_as_ever(stem: str) -> None:
    assert advice(PLAIN, stem) is None
    assert [one.kind for one in advise(parse_request({"steps": 4, "cfg": 1.0}), PLAIN)] == [
        "steps_low",
        "cfg_off",
    ]


@pytest.mark.parametrize("family", [FLUX_SCHNELL, FLUX2_KLEIN, Z_IMAGE_TURBO])
@pytest.mark.parametrize("name", ["schnell", "klein", "turbo"])
def test_families_that_are_distilled_are_run_as_ever(name: DistilledName, family: Family) -> None:
    assert few_steps(Distilled(name, 8), family) is None
    assert family.own.steps <= 8


def test_a_schedule_that_is_left_open_is_one_that_the_sampler_can_run() -> None:
    suited = few_steps(Distilled("turbo", 8), SDXL)
    assert suited is not None
    merged = suited.sampling
    assert sampling_of(parse_request({"sampler": "LMS"}), merged).schedule == "karras"
    assert sampling_of(parse_request({"sampler": "LCM"}), merged).schedule == "normal"
    asked = {"steps": 3, "cfg": 9, "sampler": "Heun", "schedule": "beta"}
    run = sampling_of(parse_request(asked), merged)
    assert (run.steps, run.cfg, run.sampler, run.schedule) == (3, 9, "Heun", "beta")


@pytest.mark.parametrize("steps", [2, 4, 8])
def test_lightnings_timesteps_are_those_it_was_made_for(steps: int) -> None:
    config = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    own: Any = make_scheduler(config, "Euler", "sgm uniform")
    untyped: Any = EulerDiscreteScheduler
    theirs = untyped(**config, timestep_spacing="trailing")
    for scheduler in (own, theirs):
        scheduler.set_timesteps(steps)
    assert (own.timesteps - theirs.timesteps).abs().max() < 1
