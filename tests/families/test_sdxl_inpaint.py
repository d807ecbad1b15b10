"""Models of Stable Diffusion XL whose denoiser takes 9 channels."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl_inpaint import (
    StableDiffusionXLInpaintPipeline,
)
from PIL import Image

from tests.families import kit, tiny_sdxl
from tests.families.kit import Bench
from webui.generation.schedulers import make_scheduler


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    write = partial(tiny_sdxl.write_sdxl, channels=9)
    with kit.bench_of(tmp_path_factory.mktemp("nine"), write, sampler="Euler") as made:
        yield made


def test_what_lies_outside_the_mask_is_seen(bench: Bench) -> None:
    mask = np.zeros((kit.SIDE, kit.SIDE), np.uint8)
    mask[16:48, 16:48] = 255
    names = {"mask": bench.bring(mask, "mask"), "strength": 1.0, "mask_blur": 0}
    made = [bench.picture(init=bench.bring(kit.gradient(seed)), **names) for seed in (0, 3)]
    inside = mask == 255
    assert kit.differ(made[0][inside], made[1][inside]) > 0


def test_the_denoising_is_that_of_diffusers_pipeline(bench: Bench) -> None:
    picture = kit.gradient()
    mask = np.zeros((kit.SIDE, kit.SIDE), np.uint8)
    mask[16:48, 16:48] = 255
    names = {"init": bench.bring(picture), "mask": bench.bring(mask, "mask"), "mask_blur": 0}
    about: dict[str, Any] = {"negative_prompt": "a blue lake", "steps": 4, "strength": 1.0}
    own = bench.latents(**names, **about)
    loaded = bench.loaded
    pipe: Any = loaded.pipe
    scheduler: Any = make_scheduler(loaded.scheduler_config, "Euler", "normal")
    parts = pipe.components | {"scheduler": scheduler}
    plain: Any = StableDiffusionXLInpaintPipeline(**parts, add_watermarker=False)
    plain.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn((4, kit.SIDE // 8, kit.SIDE // 8), generator=generator)[None]
    planes = torch.as_tensor(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        init = loaded.backbone.encode_picture(pipe, planes)
    free = torch.as_tensor(mask[::8, ::8] > 0)

    def keep(_pipe: Any, step: int, _: Any, tensors: dict[str, Any]) -> dict[str, torch.Tensor]:
        """What diffusers does for denoisers of 4 channels alone."""
        kept = init + scheduler.sigmas[step + 1] * noise
        return {"latents": torch.where(free, tensors["latents"], kept)}

    theirs = plain(
        "a red hill",
        image=Image.fromarray(picture),
        mask_image=Image.fromarray(mask),
        negative_prompt="a blue lake",
        width=kit.SIDE,
        height=kit.SIDE,
        strength=1.0,
        num_inference_steps=4,
        guidance_scale=5.0,
        latents=noise,
        callback_on_step_end=keep,
        output_type="latent",
    ).images
    assert torch.allclose(own, theirs, atol=1e-4)
