"""At full size, without weights: names and shapes that a real file has become the network's."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch
import transformers

from tests.generation.ldm_names import (
    Tensors,
    bfl_flux,
    bfl_flux2,
    comfy_z_image,
    ldm_unet,
    ldm_vae,
    mmdit,
    open_clip,
)
from webui.generation.conversions import convert_network, convert_text_encoder, fitted_config
from webui.settings import ROOT

CONFIGS = ROOT / "webui" / "generation" / "configs"


def config_of(name: str, part: str) -> dict[str, Any]:
    return json.loads((CONFIGS / name / part / "config.json").read_text())


def network(name: str, part: str) -> tuple[dict[str, Any], Tensors]:
    """The configuration, and what the network it builds is made of, on the meta device."""
    config = config_of(name, part)
    cls: Any = getattr(diffusers, config["_class_name"])
    with torch.device("meta"):
        return config, cls.from_config(config).state_dict()


FILES: dict[tuple[str, str], Callable[[Tensors], Tensors]] = {
    ("sd1", "unet"): lambda expected: ldm_unet(expected, 2, ""),
    ("sd2-v", "unet"): lambda expected: ldm_unet(expected, 2, ""),
    ("sdxl", "unet"): lambda expected: ldm_unet(expected, 2, ""),
    ("sdxl-refiner", "unet"): lambda expected: ldm_unet(expected, 2, ""),
    ("sdxl", "vae"): lambda expected: ldm_vae(expected, 4, ""),
    ("flux-dev", "vae"): lambda expected: ldm_vae(expected, 4, ""),
    ("flux2-dev", "vae"): lambda expected: {
        name.replace("post_quant", "decoder.post_quant")
        if name.startswith("post_quant")
        else f"encoder.{name}"
        if name.startswith("quant_conv")
        else name: tensor
        for name, tensor in ldm_vae(expected, 4, "").items()
    },
    ("flux-dev", "transformer"): lambda _: bfl_flux(channels=64, guided=True),
    ("flux-schnell", "transformer"): lambda _: bfl_flux(channels=64, guided=False),
    ("flux-fill", "transformer"): lambda _: bfl_flux(channels=384, guided=True),
    ("flux-control", "transformer"): lambda _: bfl_flux(channels=128, guided=True),
    ("flux2-dev", "transformer"): lambda _: bfl_flux2(6144, 8, 48, 15360, guided=True),
    ("flux2-klein-4b", "transformer"): lambda _: bfl_flux2(3072, 5, 20, 7680, guided=False),
    ("flux2-klein-9b", "transformer"): lambda _: bfl_flux2(4096, 8, 24, 12288, guided=False),
    ("sd3-medium", "transformer"): lambda _: mmdit(24, normed=False, dual=0, side=192),
    ("sd3.5-medium", "transformer"): lambda _: mmdit(24, normed=True, dual=13, side=384),
    ("sd3.5-large", "transformer"): lambda _: mmdit(38, normed=True, dual=0, side=192),
    ("z-image-turbo", "transformer"): lambda expected: comfy_z_image(expected),
    ("qwen-image", "transformer"): lambda expected: expected,
}


@pytest.mark.parametrize(("name", "part"), FILES)
def test_a_real_files_names_and_shapes_become_the_networks(name: str, part: str) -> None:
    config, expected = network(name, part)
    tensors = FILES[name, part](dict(expected))
    found = convert_network(tensors, config["_class_name"], config, expected)
    parameters = {n for n in expected if not n.endswith("num_batches_tracked")}
    assert parameters <= found.keys()
    assert {n: found[n].shape for n in parameters} == {n: expected[n].shape for n in parameters}


def test_a_narrow_decoders_widths_are_those_of_the_published_one() -> None:
    config = config_of("flux2-dev", "vae")
    narrow = {**config, "decoder_block_out_channels": [96, 192, 384, 384]}
    kind: Any = getattr(diffusers, config["_class_name"])
    with torch.device("meta"):
        expected: Tensors = kind.from_config(narrow).state_dict()
    tensors = FILES["flux2-dev", "vae"](dict(expected))
    assert fitted_config("AutoencoderKLFlux2", config, tensors) == narrow
    found = convert_network(tensors, "AutoencoderKLFlux2", narrow, expected)
    parameters = {n for n in expected if not n.endswith("num_batches_tracked")}
    assert {n: found[n].shape for n in parameters} == {n: expected[n].shape for n in parameters}
    whole = FILES["flux2-dev", "vae"](network("flux2-dev", "vae")[1])
    assert fitted_config("AutoencoderKLFlux2", config, whole) == config


@pytest.mark.parametrize(("name", "part"), [("sdxl", "text_encoder_2"), ("sd2", "text_encoder")])
def test_an_open_clip_becomes_transformers(name: str, part: str) -> None:
    config = config_of(name, part)
    cls: Any = getattr(transformers, config["architectures"][0])
    with torch.device("meta"):
        model = cls(cls.config_class.from_dict(config))
    expected = model.state_dict()
    found = convert_text_encoder(open_clip(dict(expected), ""), model)
    assert {n: t.shape for n, t in found.items()} == {n: t.shape for n, t in expected.items()}
