from __future__ import annotations

import pytest

from webui.library.distilled import Distilled, read_distilled


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("RealVisXL_V5_Lightning", ("lightning", 6)),
        ("sdxl_lightning_4step", ("lightning", 4)),
        ("sdxl_lightning_2step_unet", ("lightning", 2)),
        ("juggernautXL_v9Rdphoto2Lightning", ("lightning", 6)),
        ("DreamShaperXL_Turbo_v2_1", ("turbo", 8)),
        ("sd_xl_turbo_1.0_fp16", ("turbo", 4)),
        ("sdxl-turbo", ("turbo", 4)),
        ("sdxlturbo", ("turbo", 4)),
        ("sd_turbo", ("turbo", 4)),
        ("juggernautXL_lightningXL4S", ("lightning", 4)),
        ("sdxl_lightning_1step_x0", ("lightning", 1)),
        ("RealVisXL_Turbo", ("turbo", 8)),
        ("dreamshaper_8LCM", ("lcm", 6)),
        ("Hyper-SDXL-8steps-unet", ("hyper", 8)),
        ("flux1-dev-Hyper8", ("hyper", 8)),
        ("meadowXL_v8Hyper_4steps", ("hyper", 4)),
        ("dmd2_sdxl_4step_unet_fp16", ("lcm", 4)),
        ("qwen_image_distill_full_fp8_e4m3fn", ("distill", 15)),
        ("qwen_image_distill_full_bf16", ("distill", 15)),
        ("meadow_distilled", None),
        ("Realistic_Vision_V5.1", None),
        ("HyperRealism_XL", None),
        ("hyperrealistic_v3", None),
        ("juggernautXL_ragnarok", None),
        ("meadow_20steps", None),
        ("ponyDiffusionV6XL", None),
    ],
)
def test_the_name_of_a_model_tells(stem: str, expected: tuple[str, int] | None):
    found = read_distilled({}, stem)
    assert (None if found is None else (found.name, found.steps)) == expected


@pytest.mark.parametrize(
    ("stem", "merged"),
    [
        ("sdxl_lightning_4step", False),
        ("sdxl_lightning_2step_unet", False),
        ("sdxl_lightning_1step_x0", False),
        ("SDXL-Lightning", False),
        ("Hyper-SDXL-1step-Unet", False),
        ("Hyper-SDXL-1step-Unet-Comfyui.fp16", False),
        ("dreamshaperXL_lightningDPMSDE", True),
        ("juggernautXL_lightningXL4S", True),
        ("RealVisXL_V5_Lightning", True),
        ("Realistic_Vision_V6.0_B1_hyper", True),
        ("DreamShaperXL_Turbo_v2_1", False),
        ("dreamshaper_8LCM", False),
    ],
)
def test_models_others_merged_are_told_from_their_makers_own(stem: str, merged: bool):
    found = read_distilled({}, stem)
    assert found is not None
    assert found.merged == merged
    lora = read_distilled({}, f"{stem}_4steps_lora", is_lora=True)
    assert lora is not None
    assert not lora.merged


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("sdxl_lightning_8step_lora", ("lightning", 8)),
        ("sdxl_lightning_lora", ("lightning", 6)),
        ("Lightning_LoRA", ("lightning", 6)),
        ("Qwen-Image-Lightning", ("lightning", 6)),
        ("Qwen-Image-Lightning-4steps-V2.0-bf16", ("lightning", 4)),
        ("lcm-lora-sdv1-5", ("lcm", 6)),
        ("LCM_LoRA", ("lcm", 6)),
        ("DMD2_LoRA", ("lcm", 4)),
        ("dmd2_sdxl_4step_lora_fp16", ("lcm", 4)),
        ("Hyper-SD15-8steps-lora", ("hyper", 8)),
        ("Hyper-SDXL-lora", ("hyper", 8)),
        ("Hyper-SD", ("hyper", 8)),
        ("FLUX.1-Turbo-Alpha", ("turbo", 8)),
        ("diffusers-flux1-turbo-alpha", ("turbo", 8)),
        ("Flux_2-Turbo-LoRA_comfyui", ("turbo", 8)),
        ("SD3.5L-Turbo-LoRA", ("turbo", 4)),
        ("sd_xl_turbo_lora_v1", ("turbo", 4)),
        ("Qwen-Image-Distill-LoRA", ("distill", 15)),
    ],
)
def test_the_name_of_a_lora_tells(stem: str, expected: tuple[str, int]):
    found = read_distilled({}, stem, is_lora=True)
    assert found is not None
    assert (found.name, found.steps) == expected


@pytest.mark.parametrize(
    "stem",
    [
        "lightning_bolts_v2",
        "Lightning_Bolt_SDXL",
        "sdxl_lightning_effect",
        "lightning_bolt_pony_lora",
        "purple_lightning_lora",
        "hyper-detailed-sdxl",
        "Hyper_Detailer_SDXL",
        "HyperRealistic_SDXL_LoRA",
        "turbo_engine_style",
        "turbo_car_sdxl_lora_v1",
        "pixel_z_image_turbo_lora",
    ],
)
def test_a_lora_of_a_motif_is_not_taken_for_one_of_few_steps(stem: str):
    assert read_distilled({}, stem, is_lora=True) is None


@pytest.mark.parametrize(
    ("stem", "strength"),
    [
        ("Hyper-FLUX.1-dev-8steps-lora", 0.125),
        ("Hyper-FLUX.1-dev-16steps-lora", 0.125),
        ("Hyper-SD3-8steps-CFG-lora", 0.125),
        ("Hyper-SDXL-8steps-lora", None),
        ("FLUX.1-Turbo-Alpha", None),
    ],
)
def test_the_usual_strength_of_a_lora_is_known(stem: str, strength: float | None):
    found = read_distilled({}, stem, is_lora=True)
    assert found is not None
    assert found.strength == strength


def test_hyper_with_cfg_is_made_to_be_guided():
    found = [
        read_distilled({}, f"Hyper-SDXL-{steps}steps{cfg}-lora", is_lora=True)
        for steps, cfg in ((8, ""), (8, "-CFG"), (12, "-CFG"))
    ]
    assert found == [
        Distilled("hyper", 8),
        Distilled("hyper", 8, guided=True),
        Distilled("hyper", 12, guided=True),
    ]


def test_metadata_come_before_the_name():
    said = {"modelspec.title": "Meadow XL Lightning 4-step"}
    assert read_distilled(said, "meadow_turbo") == Distilled("lightning", 4, merged=True)
