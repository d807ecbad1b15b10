"""The shipped configurations build the published architectures, counted without their weights."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers

from webui.settings import ROOT

CONFIGS = ROOT / "webui" / "generation" / "configs"

# Parameters of the published weights: exact where a model card or the weights' index has them.
DENOISERS = {
    "sd1": 859_520_964,
    "sd1-inpaint": 859_535_364,
    "sd2": 865_910_724,
    "sd2-v": 865_910_724,
    "sd2-inpaint": 865_925_124,
    "sdxl": 2_567_463_684,
    "sdxl-inpaint": 2_567_478_084,
    "sdxl-refiner": 2_259_526_660,
    "sd3-medium": 2_028_328_000,
    "sd3.5-medium": 2_243_171_520,
    "sd3.5-large": 8_056_627_520,
    "flux-dev": 11_901_408_320,
    "flux-schnell": 11_891_178_560,
    "flux-fill": 11_902_391_360,
    "flux-control": 11_901_604_928,
    "flux2-dev": 32_223_281_152,
    "flux2-klein-4b": 3_875_544_576,
    "flux2-klein-9b": 9_078_581_248,
    "z-image": 6_154_908_736,
    "z-image-turbo": 6_154_908_736,
    "qwen-image": 20_430_401_088,
}
TEXT_ENCODERS = {
    ("sd1", "text_encoder"): 123_060_480,
    ("sd2", "text_encoder"): 340_387_840,
    ("sdxl", "text_encoder_2"): 694_659_840,
    ("flux-dev", "text_encoder_2"): 4_762_310_656,
    ("z-image", "text_encoder"): 4_022_468_096,
    ("flux2-klein-9b", "text_encoder"): 8_190_735_360,
    ("flux2-dev", "text_encoder"): 24_011_361_280,
    ("qwen-image", "text_encoder"): 8_292_166_656,
}


def index_of(name: str) -> dict[str, Any]:
    return json.loads((CONFIGS / name / "model_index.json").read_text())


def parts_of(name: str) -> dict[str, tuple[Any, Path]]:
    """Class and configuration of each part that has one."""
    libraries = {"diffusers": diffusers, "transformers": transformers}
    index = index_of(name)
    named: dict[str, list[str]] = {p: v for p, v in index.items() if isinstance(v, list) and v[0]}
    classes: dict[str, Any] = {p: getattr(libraries[of], cls) for p, (of, cls) in named.items()}
    files = {p: "scheduler_config.json" if p == "scheduler" else "config.json" for p in classes}
    return {
        part: (classes[part], CONFIGS / name / part / files[part])
        for part in classes
        if (CONFIGS / name / part / files[part]).exists()
    }


def parameters(name: str, part: str) -> int:
    cls, file = parts_of(name)[part]
    with torch.device("meta"):
        if cls.__module__.startswith("diffusers"):
            model = cls.from_config(json.loads(file.read_text()))
        else:
            model = cls(cls.config_class.from_pretrained(str(file.parent)))
    return sum(weight.numel() for weight in model.parameters())


def test_every_folder_is_in_the_table() -> None:
    assert {folder.name for folder in CONFIGS.iterdir()} == set(DENOISERS)


@pytest.mark.parametrize(("name", "expected"), DENOISERS.items())
def test_a_denoiser_has_the_published_number_of_parameters(name: str, expected: int) -> None:
    part = "unet" if "unet" in parts_of(name) else "transformer"
    assert parameters(name, part) == expected


@pytest.mark.parametrize(("at", "expected"), TEXT_ENCODERS.items())
def test_a_text_encoder_has_the_published_number(at: tuple[str, str], expected: int) -> None:
    assert parameters(*at) == expected


@pytest.mark.parametrize("name", DENOISERS)
def test_no_value_is_unknown_to_its_class(name: str) -> None:
    for part, (cls, file) in parts_of(name).items():
        if cls.__module__.startswith("diffusers"):
            known = set(inspect.signature(cls.__init__).parameters) | {"_class_name"}
            assert set(json.loads(file.read_text())) <= known, part


@pytest.mark.parametrize("name", DENOISERS)
def test_a_pipeline_takes_just_the_parts_of_its_index(name: str) -> None:
    index = index_of(name)
    cls = getattr(diffusers, index.pop("_class_name"))
    expected = set(inspect.signature(cls.__init__).parameters) - {"self"}
    optional = {"add_watermarker", "requires_safety_checker", "is_distilled"}
    assert set(index) <= expected
    assert expected - set(index) - optional <= {
        "requires_aesthetics_score",
        "force_zeros_for_empty_prompt",
    }
