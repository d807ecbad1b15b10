"""Models of Stable Diffusion XL whose denoiser takes 9 channels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
from webui.generation.samplers import make_scheduler
from webui.generation.stages import ChannelsKey
from webui.generation.starting import Keeper


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    write = partial(tiny_sdxl.write_sdxl, channels=9)
    with kit.bench_of(tmp_path_factory.mktemp("nine"), write, sampler="Euler") as made:
        yield made


@pytest.mark.parametrize(
    "check",
    [
        kit.check_repeats,
        kit.check_batch,
        kit.check_prompt_acts,
        kit.check_reuse,
        kit.check_starts_from_picture,
        kit.check_inpaints,
    ],
)
def test_it_does_what_every_family_does(bench: Bench, check: Callable[[Bench], None]) -> None:
    check(bench)


def test_what_lies_outside_the_mask_is_seen(bench: Bench) -> None:
    mask = np.zeros((kit.SIDE, kit.SIDE), np.uint8)
    mask[16:48, 16:48] = 255
    names = {"mask": bench.bring(mask, "mask"), "strength": 1.0, "mask_blur": 0}
    made = [bench.picture(init=bench.bring(kit.gradient(seed)), **names) for seed in (0, 3)]
    inside = mask == 255
    assert kit.differ(made[0][inside], made[1][inside]) > 0


def left_alone(_keeper: Keeper, _call: int, latents: torch.Tensor) -> torch.Tensor:
    return latents


def test_the_denoising_is_that_of_diffusers_pipeline(bench: Bench) -> None:
    picture = kit.gradient()
    mask = np.zeros((kit.SIDE, kit.SIDE), np.uint8)
    mask[16:48, 16:48] = 255
    names = {"init": bench.bring(picture), "mask": bench.bring(mask, "mask")}
    about: dict[str, Any] = {"negative_prompt": "a blue lake", "steps": 4, "strength": 1.0}
    with pytest.MonkeyPatch.context() as patch:
        # diffusers puts back what the mask keeps for denoisers of 4 channels alone.
        patch.setattr(Keeper, "after", left_alone)
        own = bench.latents(**names, **about)
    loaded = bench.loaded
    pipe: Any = loaded.pipe
    scheduler = make_scheduler(loaded.scheduler_config, "Euler", "normal")
    parts = pipe.components | {"scheduler": scheduler}
    plain: Any = StableDiffusionXLInpaintPipeline(**parts, add_watermarker=False)
    plain.set_progress_bar_config(disable=True)
    untyped: Any = bench.engine
    held = untyped._painter._cache._entries
    *_, channels = (held[key][0] for key in held if isinstance(key, ChannelsKey))
    twice = torch.cat([channels] * 2)

    def as_here(*_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return twice[:, :1], twice[:, 1:]

    plain.prepare_mask_latents = as_here
    generator = torch.Generator().manual_seed(5)
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
        latents=torch.randn((4, kit.SIDE // 8, kit.SIDE // 8), generator=generator)[None],
        output_type="latent",
    ).images
    assert torch.allclose(own[0], theirs, atol=1e-4)
