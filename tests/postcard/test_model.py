"""The committed model: small, sharp, obedient, and an ordinary Stable Diffusion pipeline."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

from webui.postcard.colours import expected_skeleton, measured_clothes
from webui.postcard.edges import read_tensors
from webui.postcard.evaluation import size_in_mb, unseen_drawings
from webui.postcard.latents import encode
from webui.postcard.pipeline import load_pipeline, sample
from webui.postcard.scenes import Person, Scene
from webui.postcard.vae import measure_vae
from webui.postcard.vocabulary import Colour

_MODEL = Path(__file__).parents[2] / "models" / "postcard"


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    """Return the committed model in bf16."""
    return load_pipeline(_MODEL, torch.device("cpu"))


def test_all_parts_together_are_at_most_32_mb_of_fp16() -> None:
    assert 10 < size_in_mb(_MODEL) <= 32
    for file in _MODEL.rglob("*.safetensors"):
        assert {tensor.dtype for tensor in read_tensors(file).values()} == {torch.float16}


def test_the_parts_are_those_of_stable_diffusion(pipeline: StableDiffusionPipeline) -> None:
    classes: Mapping[str, str] = {
        name: type(part).__name__ for name, part in pipeline.components.items()
    }
    assert classes["text_encoder"] == "CLIPTextModel"
    assert classes["tokenizer"] == "CLIPTokenizer"
    assert classes["unet"] == "UNet2DConditionModel"
    assert classes["vae"] == "AutoencoderKL"
    assert pipeline.config["requires_safety_checker"] is False


def test_the_autoencoder_keeps_unseen_scenes(pipeline: StableDiffusionPipeline) -> None:
    decibels, deviations = measure_vae(pipeline.vae, unseen_drawings(16))
    assert decibels >= 30
    assert len(deviations) == 4
    assert all(0.5 < deviation < 2 for deviation in deviations)


def test_the_preview_map_shows_the_picture(pipeline: StableDiffusionPipeline) -> None:
    preview = json.loads((_MODEL / "preview.json").read_text("utf-8"))
    matrix, bias = np.array(preview["matrix"]), np.array(preview["bias"])
    assert matrix.shape == (4, 3)
    drawings = unseen_drawings(8)
    latents = encode(pipeline.vae, drawings).permute(0, 2, 3, 1).numpy()
    blocks = drawings.reshape(8, 32, 8, 32, 8, 3).mean((2, 4)) / 127.5 - 1
    assert np.abs(latents @ matrix + bias - blocks).mean() < 0.12


@pytest.mark.parametrize(
    ("shirt", "trousers"), [("red", "blue"), ("green", "white"), ("yellow", "black")]
)
def test_clothes_have_the_colours_asked_for(
    pipeline: StableDiffusionPipeline, shirt: Colour, trousers: Colour
) -> None:
    text = f"a person in a {shirt} shirt and {trousers} trousers standing on a beach by day"
    images = sample(pipeline, [text] * 3, [1, 2, 3], steps=10)
    person = Person("standing", shirt, trousers, "brown", long_hair=False, skin=0)
    scene = Scene("beach", "day", person, None, seed=0)
    found = [measured_clothes(image, expected_skeleton(scene, person)) for image in images]
    assert found.count((shirt, trousers)) >= 2


def test_other_samplers_give_the_same_scene(pipeline: StableDiffusionPipeline) -> None:
    text = "a person in a red shirt and blue trousers standing in the snow by day"
    usual = sample(pipeline, [text], [5], steps=20)[0].astype(np.float32)
    original = pipeline.scheduler
    try:
        schedulers: Any = DPMSolverMultistepScheduler
        pipeline.scheduler = schedulers.from_config(original.config, use_karras_sigmas=True)
        other = sample(pipeline, [text], [5], steps=20)[0].astype(np.float32)
    finally:
        pipeline.scheduler = original
    assert np.abs(usual - other).mean() < 25
