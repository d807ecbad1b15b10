from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler

from webui.generation.advice import Advice, advise
from webui.generation.facts import ModelFacts
from webui.generation.families import SD1, SDXL, Family
from webui.generation.few_steps import few_steps
from webui.generation.samplers import check_sampler, make_scheduler
from webui.library.distilled import Distilled, DistilledName, read_distilled
from webui.library.lora_facts import LoraFamily
from webui.request import parse_request

PLAIN = ModelFacts(
    name="meadow",
    family=SDXL,
    width=1024,
    height=1024,
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


@pytest.mark.parametrize(
    ("stem", "sampler", "schedule", "cfg", "steps"),
    [
        ("sdxl_lightning_2step", "Euler", "sgm uniform", 1.0, 2),
        ("sdxl_lightning_4step", "Euler", "sgm uniform", 1.0, 4),
        ("juggernautXL_v9Rdphoto2Lightning_8step", "Euler", "sgm uniform", 1.0, 8),
        ("sd_xl_turbo_1.0_fp16", "Euler a", "sgm uniform", 1.0, 4),
        ("DreamShaperXL_Turbo_v2", "DPM++ SDE", "karras", 2.0, 16),
        ("RealVisXL_V4.0_Turbo", "DPM++ SDE", "karras", 2.0, 16),
        ("Hyper-SDXL-8steps", "DDIM", "sgm uniform", 1.0, 8),
        ("LCM_Dreamshaper_v7", "LCM", "normal", 1.0, 6),
    ],
)
def test_a_distilled_model_is_offered_what_suits_it(
    stem: str, sampler: str, schedule: str, cfg: float, steps: int
) -> None:
    facts = distilled(stem)
    offered = advice(facts)
    assert offered is not None
    wanted = {"steps": steps, "cfg": cfg, "sampler": sampler, "schedule": schedule}
    assert dict(offered.fix) == wanted
    assert dict(offered.values) == wanted | {"name": stem}
    assert offered.field == "steps"
    taken = parse_request(wanted)
    check_sampler(taken.sampler, taken.schedule, taken.steps)
    assert advice(facts, **wanted) is None
    assert [one.kind for one in advise(taken, facts)] == []


@pytest.mark.parametrize(
    ("lora", "family", "sampler", "steps"),
    [
        ("sdxl_lightning_4step_lora", SDXL, "Euler", 4),
        ("lcm-lora-sdxl", SDXL, "LCM", 6),
        ("lcm-lora-sdv1-5", SD1, "LCM", 6),
        ("Hyper-SDXL-8steps-lora", SDXL, "DDIM", 8),
        ("Hyper-SD15-4steps-lora", SD1, "DDIM", 4),
    ],
)
def test_so_is_a_model_with_a_distilled_lora(
    lora: str, family: Family, sampler: str, steps: int
) -> None:
    offered = advice(dataclasses.replace(PLAIN, family=family), lora)
    assert offered is not None
    assert (offered.fix["sampler"], offered.fix["steps"]) == (sampler, steps)
    assert offered.values["name"] == lora


def test_the_lora_counts_before_the_model() -> None:
    offered = advice(distilled("sdxl_lightning_4step"), "lcm-lora-sdxl")
    assert offered is not None
    assert offered.values["name"] == "lcm-lora-sdxl"


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


@pytest.mark.parametrize(
    ("name", "family"), [("schnell", "SDXL"), ("klein", "SDXL"), ("turbo", "Z-Image")]
)
def test_families_with_samplers_of_their_own_are_left_out(
    name: DistilledName, family: LoraFamily
) -> None:
    assert few_steps(Distilled(name, 4), family) is None


@pytest.mark.parametrize("steps", [2, 4, 8])
def test_lightnings_timesteps_are_those_it_was_made_for(steps: int) -> None:
    config = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    own: Any = make_scheduler(config, "Euler", "sgm uniform")
    untyped: Any = EulerDiscreteScheduler
    theirs = untyped(**config, timestep_spacing="trailing")
    for scheduler in (own, theirs):
        scheduler.set_timesteps(steps)
    assert (own.timesteps - theirs.timesteps).abs().max() < 1
