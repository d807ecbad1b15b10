"""Tiny models of Stable Diffusion XL: base, inpainting, refiner, ControlNets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.controlnets.controlnet_union import ControlNetUnionModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler

from tests.families import tiny

WIDTH = tiny.TEXT_WIDTH
# diffusers declares tuples of one entry.
UNET: Any = UNet2DConditionModel


def sdxl_unet(
    text_width: int = 2 * WIDTH, *, time_ids: int = 6, channels: int = 4, **options: Any
) -> Any:
    return UNET(
        **options,
        in_channels=channels,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        sample_size=8,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 2),
        projection_class_embeddings_input_dim=time_ids * 8 + WIDTH,
        cross_attention_dim=text_width,
    )


def scheduler() -> EulerDiscreteScheduler:
    return EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")


def write_sdxl(folder: Path, **unet: Any) -> None:
    with tiny.same_weights():
        parts = {
            "unet": sdxl_unet(**unet),
            "vae": tiny.tiny_vae(scaling_factor=0.13025),
            "text_encoder": tiny.clip_encoder(),
            "text_encoder_2": tiny.projecting_clip_encoder(),
            "tokenizer": tiny.clip_tokenizer(),
            "tokenizer_2": tiny.clip_tokenizer(pad="!"),
            "scheduler": scheduler(),
        }
    tiny.write_model(folder, "StableDiffusionXLPipeline", parts, force_zeros_for_empty_prompt=True)


def write_refiner(folder: Path) -> None:
    """As the published one: one text encoder, and a score of beauty among the time ids."""
    with tiny.same_weights(7):
        parts = {
            "unet": sdxl_unet(WIDTH, time_ids=5),
            "vae": tiny.tiny_vae(scaling_factor=0.13025),
            "text_encoder": None,
            "text_encoder_2": tiny.projecting_clip_encoder(),
            "tokenizer": None,
            "tokenizer_2": tiny.clip_tokenizer(pad="!"),
            "scheduler": scheduler(),
        }
    tiny.write_model(
        folder,
        "StableDiffusionXLImg2ImgPipeline",
        parts,
        force_zeros_for_empty_prompt=False,
        requires_aesthetics_score=True,
    )


def write_controlnet(folder: Path, seed: int, *, union: bool = False) -> None:
    """A ControlNet that fits the model and steers from the start, its ends being no zeros."""
    untyped: Any = ControlNetUnionModel if union else ControlNetModel
    types: dict[str, Any] = (
        {"num_trans_channel": 16, "num_trans_head": 2, "num_proj_channel": 16} if union else {}
    )
    config = dict(sdxl_unet().config)
    shared = {
        name: config[name]
        for name in (
            "block_out_channels",
            "layers_per_block",
            "norm_num_groups",
            "down_block_types",
            "attention_head_dim",
            "use_linear_projection",
            "addition_embed_type",
            "addition_time_embed_dim",
            "transformer_layers_per_block",
            "projection_class_embeddings_input_dim",
            "cross_attention_dim",
        )
    }
    with tiny.same_weights(seed):
        net = untyped(conditioning_embedding_out_channels=(4, 8, 8, 8), **shared, **types)
        with torch.no_grad():
            for name, weight in net.named_parameters():
                if "controlnet_" in name or "spatial_ch_projs" in name:
                    weight.normal_(std=0.2)
    net.save_pretrained(folder)
