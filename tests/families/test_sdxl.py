from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler

from tests.families import kit, tiny
from tests.families.kit import Bench
from webui.generation.samplers import make_scheduler

WIDTH = tiny.TEXT_WIDTH
# diffusers declares tuples of one entry.
UNET: Any = UNet2DConditionModel


def write_sdxl(folder: Path) -> None:
    with tiny.same_weights():
        unet = UNET(
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
            projection_class_embeddings_input_dim=6 * 8 + WIDTH,
            cross_attention_dim=2 * WIDTH,
        )
        parts = {
            "unet": unet,
            "vae": tiny.tiny_vae(scaling_factor=0.13025),
            "text_encoder": tiny.clip_encoder(),
            "text_encoder_2": tiny.projecting_clip_encoder(),
            "tokenizer": tiny.clip_tokenizer(),
            "tokenizer_2": tiny.clip_tokenizer(pad="!"),
            "scheduler": EulerDiscreteScheduler(
                beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
            ),
        }
    tiny.write_model(folder, "StableDiffusionXLPipeline", parts, force_zeros_for_empty_prompt=True)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with kit.bench_of(tmp_path_factory.mktemp("sdxl"), write_sdxl, sampler="Euler") as made:
        yield made


@pytest.mark.parametrize(
    "check",
    [
        kit.check_repeats,
        kit.check_batch,
        kit.check_prompt_acts,
        kit.check_cancel,
        kit.check_previews,
        kit.check_reuse,
        kit.check_starts_from_picture,
        kit.check_inpaints,
    ],
)
def test_it_does_what_every_family_does(bench: Bench, check: Callable[[Bench], None]) -> None:
    check(bench)


@pytest.mark.parametrize("negative_prompt", ["", "a blue lake"])
def test_the_encoding_is_that_of_diffusers_pipeline(bench: Bench, negative_prompt: str) -> None:
    loaded = bench.loaded
    pipe: Any = loaded.pipe
    request = bench.request(negative_prompt=negative_prompt)
    untyped: Any = bench.engine
    plan = untyped._resolved(request)
    ours = loaded.backbone.condition(
        pipe, plan.prompts, lambda prompt: loaded.backbone.encode(pipe, prompt, 1)
    )
    with torch.no_grad():
        theirs = pipe.encode_prompt(
            request.prompt, None, "cpu", 1, True, negative_prompt=negative_prompt or None
        )
    assert ours.negative_prompt is not None
    mine = (*ours.prompt[:1], *ours.negative_prompt[:1], ours.prompt.pooled)
    for own, their in zip((*mine, ours.negative_prompt.pooled), theirs, strict=True):
        assert own is not None
        assert torch.allclose(own, their[0], atol=1e-6)


def test_the_denoising_is_that_of_diffusers_pipeline(bench: Bench) -> None:
    own = bench.latents(negative_prompt="a blue lake", steps=4)
    loaded = bench.loaded
    pipe: Any = loaded.pipe
    scheduler = make_scheduler(loaded.scheduler_config, "Euler", "normal")
    plain = type(pipe)(**(pipe.components | {"scheduler": scheduler}), add_watermarker=False)
    plain.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(5)
    theirs = plain(
        "a red hill",
        negative_prompt="a blue lake",
        width=kit.SIDE,
        height=kit.SIDE,
        num_inference_steps=4,
        guidance_scale=5.0,
        latents=torch.randn((4, kit.SIDE // 8, kit.SIDE // 8), generator=generator)[None],
        output_type="latent",
    ).images
    assert torch.allclose(own, theirs, atol=1e-4)


def test_words_are_weighed_in_both_encoders(bench: Bench) -> None:
    assert kit.differ(bench.picture(), bench.picture(prompt="a (red:1.5) hill")) > 0


def test_a_clip_skip_of_two_is_the_layer_it_was_trained_with(bench: Bench) -> None:
    assert (bench.picture(clip_skip=2) == bench.picture()).all()
    assert kit.differ(bench.picture(clip_skip=3), bench.picture()) > 0


CROSS = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
SGM = "middle_block_1_transformer_blocks_0_attn2_to_k"
TEXT = "encoder.layers.1.self_attn.q_proj"


@pytest.mark.parametrize(
    ("spelled", "place"),
    [
        (f"lora_unet_{CROSS.replace('.', '_')}", f"unet:{CROSS}"),
        (f"lora_unet_{SGM}", f"unet:{CROSS}"),
        ("lora_te1_text_model_" + TEXT.replace(".", "_"), "text_encoder:" + TEXT),
        (
            "lora_te2_text_model_" + TEXT.replace(".", "_"),
            "text_encoder_2:text_model." + TEXT,
        ),
    ],
)
def test_a_lora_acts_and_is_gone_to_the_bit(bench: Bench, spelled: str, place: str) -> None:
    kit.check_lora(bench, {spelled: place}, spelled[-20:])
