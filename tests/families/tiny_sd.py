"""Tiny models of Stable Diffusion 1 and 2, their text encoders of real widths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from transformers import CLIPTextModel

from tests.families import tiny
from tests.families.tiny_sdxl import scheduler

L, H = 768, 1024
"""Widths of OpenAI's ViT-L and OpenCLIP's ViT-H, by which the families are known."""

BLOCKS: dict[str, Any] = {
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "attention_head_dim": (2, 4),
}


def clip(width: int, kind: Any, activation: str) -> Any:
    config = tiny.clip_config(width, activation=activation)
    config.num_hidden_layers = 2
    return kind(config)


def unet(**options: Any) -> Any:
    # diffusers declares tuples of one entry.
    untyped: Any = UNet2DConditionModel
    return untyped(
        **BLOCKS,
        sample_size=8,
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        **options,
    )


def write_sd1(folder: Path) -> None:
    with tiny.same_weights():
        parts = {
            "unet": unet(cross_attention_dim=L),
            "vae": tiny.tiny_vae(scaling_factor=0.18215),
            "text_encoder": clip(L, CLIPTextModel, "quick_gelu"),
            "tokenizer": tiny.clip_tokenizer(),
            "scheduler": scheduler(),
        }
    tiny.write_model(folder, "StableDiffusionPipeline", parts)


def write_sd2(folder: Path, *, channels: int = 4, **trained: Any) -> None:
    """Of the second generation; `trained` is said in its scheduler's configuration."""
    with tiny.same_weights():
        parts = {
            "unet": unet(
                in_channels=channels,
                out_channels=4,
                use_linear_projection=True,
                cross_attention_dim=H,
            ),
            "vae": tiny.tiny_vae(scaling_factor=0.18215),
            "text_encoder": clip(H, CLIPTextModel, "gelu"),
            "tokenizer": tiny.clip_tokenizer(pad="!"),
            "scheduler": DDIMScheduler(
                beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", **trained
            ),
        }
    tiny.write_model(folder, "StableDiffusionPipeline", parts)


def write_controlnet(folder: Path, width: int) -> None:
    """A ControlNet that steers from the start, its ends being no zeros.

    Args:
        width: Of the text encoder of the models it is for.
    """
    untyped: Any = ControlNetModel
    with tiny.same_weights(3):
        net = untyped(
            **BLOCKS,
            conditioning_embedding_out_channels=(4, 8, 8, 8),
            cross_attention_dim=width,
            use_linear_projection=width == H,
        )
        with torch.no_grad():
            for name, weight in net.named_parameters():
                if "controlnet_" in name:
                    weight.normal_(std=0.2)
    net.save_pretrained(folder)
