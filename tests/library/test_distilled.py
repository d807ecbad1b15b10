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
    ("stem", "name"),
    [
        ("sdxl_lightning_8step_lora", "lightning"),
        ("lcm-lora-sdv1-5", "lcm"),
        ("Hyper-SD15-8steps-lora", "hyper"),
        ("FLUX.1-Turbo-Alpha", "turbo"),
        ("lightning_bolts_v2", None),
        ("turbo_engine_style", None),
    ],
)
def test_a_lora_of_a_motif_is_not_taken_for_one_of_few_steps(stem: str, name: str | None):
    found = read_distilled({}, stem, is_lora=True)
    assert (None if found is None else found.name) == name


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
    assert read_distilled(said, "meadow_turbo") == Distilled("lightning", 4)
