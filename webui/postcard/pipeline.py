"""The finished model: assembled and saved in the diffusers layout, loaded and sampled again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from transformers import CLIPTextModel, CLIPTokenizer

from webui.postcard.canvas import Image
from webui.postcard.edges import (
    new_pipeline,
    place,
    read_pipeline,
    run_pipeline,
    save_pipeline,
    tensor_of,
)
from webui.postcard.latents import encode
from webui.postcard.scenes import draw_scene, random_scene
from webui.postcard.unet import new_scheduler


def assemble(
    folder: Path,
    *,
    vae: AutoencoderKL,
    encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    unet: UNet2DConditionModel,
) -> None:
    """Write the pipeline in fp16 safetensors, and `preview.json` beside it."""
    preview = fit_preview(vae)
    for model in (vae, encoder, unet):
        place(model, torch.device("cpu"), torch.float16)
    pipeline = new_pipeline(
        vae=vae, text_encoder=encoder, tokenizer=tokenizer, unet=unet, scheduler=new_scheduler()
    )
    save_pipeline(pipeline, folder)
    (folder / "preview.json").write_text(json.dumps(preview, indent=1) + "\n", "utf-8")


def fit_preview(vae: AutoencoderKL, seed: int = 8, count: int = 64) -> dict[str, object]:
    """Return the least-squares map from latents (4) to RGB in -1..1 (3): "matrix" and "bias"."""
    random = Random(seed)
    images = np.stack([draw_scene(random_scene(random)).image for _ in range(count)])
    latents = encode(vae, images).permute(0, 2, 3, 1).reshape(-1, 4)
    blocks = images.reshape(count, 32, 8, 32, 8, 3).mean((2, 4)).reshape(-1, 3)
    target = tensor_of(blocks).float() / 127.5 - 1
    ones = torch.ones(len(latents), 1)
    solution = np.linalg.lstsq(torch.cat([latents, ones], 1).numpy(), target.numpy())[0]
    rows = solution.astype(np.float64).round(5).tolist()
    return {"matrix": rows[:4], "bias": rows[4]}


def load_pipeline(folder: Path, device: torch.device) -> StableDiffusionPipeline:
    """Load the model in bf16, the layout that is fastest on the CPU."""
    pipeline = read_pipeline(folder)
    for model in (pipeline.unet, pipeline.vae):
        place(model, device, torch.bfloat16, torch.channels_last)
    place(pipeline.text_encoder, device, torch.bfloat16)
    return pipeline


def sample(
    pipeline: StableDiffusionPipeline,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    steps: int = 20,
    guidance: float = 5.0,
) -> list[Image]:
    """Return one picture for every prompt and seed; each depends on its own seed only."""
    images: list[Image] = []
    batch = 8
    for start in range(0, len(prompts), batch):
        generators = [torch.Generator().manual_seed(s) for s in seeds[start : start + batch]]
        pictures = run_pipeline(
            pipeline,
            prompt=list(prompts[start : start + batch]),
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=generators,
        )
        images += list((pictures * 255).round().astype(np.uint8))
    return images
