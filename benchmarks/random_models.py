"""A Stable Diffusion with random weights: full size for measuring, tiny for the tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_pndm import PNDMScheduler
from tokenizers import pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

Config = Mapping[str, Any]
INDEX: Config = MappingProxyType(
    {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "PNDMScheduler"],
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
    }
)
"""`model_index.json`: the class of each part."""

SPECIAL = ("<|startoftext|>", "<|endoftext|>")


@dataclass(frozen=True)
class ModelShape:
    """Configurations of the parts, as diffusers and transformers name them."""

    name: str
    unet: Config
    vae: Config
    text_encoder: Config


SD15 = ModelShape(
    name="random-sd15",
    unet=MappingProxyType(
        {
            "sample_size": 64,
            "block_out_channels": (320, 640, 1280, 1280),
            "cross_attention_dim": 768,
            "attention_head_dim": 8,
        }
    ),
    vae=MappingProxyType(
        {
            "sample_size": 512,
            "block_out_channels": (128, 256, 512, 512),
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            "up_block_types": ("UpDecoderBlock2D",) * 4,
            "layers_per_block": 2,
        }
    ),
    text_encoder=MappingProxyType(
        {
            "vocab_size": 49408,
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "projection_dim": 768,
        }
    ),
)
"""The configurations published with runwayml/stable-diffusion-v1-5."""


def parts(shape: ModelShape) -> dict[str, Any]:
    """The three networks with torch's own random initial weights, by the name of their folder."""
    begin = len(pre_tokenizers.ByteLevel.alphabet()) * 2
    text = CLIPTextConfig(
        **shape.text_encoder, bos_token_id=begin, eos_token_id=begin + 1, pad_token_id=begin + 1
    )
    return {
        "unet": UNet2DConditionModel(**shape.unet),
        "vae": AutoencoderKL(**shape.vae),
        "text_encoder": CLIPTextModel(text),
    }


def write_random_model(folder: Path, shape: ModelShape, *, seed: int = 0) -> None:
    """Writes a whole model in the diffusers layout, weights in bf16 safetensors."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        networks = parts(shape)
    for name, network in networks.items():
        network.to(torch.bfloat16).save_pretrained(folder / name, safe_serialization=True)
    scheduler = PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        steps_offset=1,
    )
    scheduler.save_pretrained(folder / "scheduler")
    _byte_tokenizer(folder / "tokenizer").save_pretrained(folder / "tokenizer")
    (folder / "model_index.json").write_text(json.dumps(dict(INDEX), indent=1), encoding="utf-8")


def write_random_controlnet(folder: Path, shape: ModelShape) -> None:
    """A ControlNet of the published configuration for a model of that shape, in bf16."""
    made: Any = ControlNetModel
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        net = made.from_unet(UNet2DConditionModel(**shape.unet), load_weights_from_unet=False)
    net.to(torch.bfloat16).save_pretrained(folder, safe_serialization=True)


def _byte_tokenizer(folder: Path) -> CLIPTokenizer:
    """A tokenizer in CLIP's format that knows bytes only, so a letter is a token."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(letter + "</w>" for letter in letters), *SPECIAL]
    folder.mkdir(parents=True)
    numbers = {word: number for number, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(numbers), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    return CLIPTokenizer.from_pretrained(str(folder), model_max_length=77)
