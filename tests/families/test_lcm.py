"""Consistency models that were distilled whole, whose UNet takes guidance in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.pipelines.latent_consistency_models.pipeline_latent_consistency_text2img import (
    LatentConsistencyModelPipeline,
)
from diffusers.schedulers.scheduling_lcm import LCMScheduler

from tests.families import kit, tiny, tiny_sd
from tests.families.kit import Bench
from webui.errors import BadRequestError
from webui.generation.families import LCM, SD1, SDXL, SDXL_LCM, Family, family_of
from webui.library.checkpoints import Model

LATENTS = (4, kit.SIDE // 8, kit.SIDE // 8)
TRAINED: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}


def write_lcm(folder: Path) -> None:
    with tiny.same_weights():
        parts = {
            "unet": tiny_sd.unet(cross_attention_dim=tiny.TEXT_WIDTH, time_cond_proj_dim=256),
            "vae": tiny.tiny_vae(scaling_factor=0.18215),
            "text_encoder": tiny.clip_encoder(),
            "tokenizer": tiny.clip_tokenizer(),
            "scheduler": LCMScheduler(**TRAINED),
        }
    tiny.write_model(folder, "LatentConsistencyModelPipeline", parts)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with kit.bench_of(tmp_path_factory.mktemp("lcm"), write_lcm) as made:
        yield made


@pytest.mark.parametrize("guidance", [None, 3.0])
def test_it_is_that_of_diffusers_pipeline(bench: Bench, guidance: float | None) -> None:
    own = bench.latents(steps=None, guidance=guidance)
    loaded: Any = bench.loaded.pipe
    untyped: Any = LatentConsistencyModelPipeline
    parts = loaded.components | {"scheduler": LCMScheduler(**TRAINED)}
    pipe = untyped(**parts, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(5)
    # By default it takes four steps, and a guidance of 8.5.
    asked = {} if guidance is None else {"guidance_scale": guidance}
    theirs = pipe(
        "a red hill",
        width=kit.SIDE,
        height=kit.SIDE,
        latents=torch.randn(LATENTS, generator=generator)[None],
        generator=[generator],
        output_type="latent",
        **asked,
    ).images
    assert torch.allclose(own, theirs, atol=1e-4)


def test_the_less_strength_the_more_is_left_of_a_picture(bench: Bench) -> None:
    init, steps = bench.bring(kit.gradient()), 20
    still = bench.picture(init=init, strength=0.05, steps=steps)
    away = [
        kit.differ(bench.picture(init=init, strength=strength, steps=steps), still)
        for strength in (0.1, 0.25, 0.5)
    ]
    assert 0 < away[0] < away[1] < away[2]


def test_guidance_acts_and_cfg_has_no_place(bench: Bench) -> None:
    assert kit.differ(bench.picture(guidance=1.0), bench.picture()) > 0
    for changes in ({"cfg": 3.0}, {"negative_prompt": "fog"}):
        with pytest.raises(BadRequestError) as refused:
            bench.picture(**changes)
        assert refused.value.field in changes


@pytest.mark.parametrize(
    ("width", "pipeline", "family"),
    [
        (256, "StableDiffusionPipeline", LCM),
        (None, "StableDiffusionPipeline", SD1),
        (256, "StableDiffusionXLPipeline", SDXL_LCM),
        (None, "StableDiffusionXLPipeline", SDXL),
    ],
)
def test_it_is_told_by_its_unet(
    width: int | None, pipeline: str, family: Family, tmp_path: Path
) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text("{}")
    (tmp_path / "model_index.json").write_text("{}")
    said = {"unet": {"time_cond_proj_dim": width}}
    assert family_of(Model("meadow", tmp_path, pipeline, said=said)) == family
