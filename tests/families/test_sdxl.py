from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.controlnets.controlnet_union import ControlNetUnionModel
from diffusers.pipelines.controlnet.pipeline_controlnet_sd_xl import (
    StableDiffusionXLControlNetPipeline,
)
from diffusers.pipelines.controlnet.pipeline_controlnet_union_sd_xl import (
    StableDiffusionXLControlNetUnionPipeline,
)

from tests.families import kit
from tests.families.kit import Bench
from tests.families.tiny_sdxl import write_controlnet, write_sdxl
from webui.generation.schedulers import make_scheduler


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with kit.bench_of(tmp_path_factory.mktemp("sdxl"), write_sdxl, sampler="Euler") as made:
        yield made


@pytest.mark.parametrize("negative_prompt", ["", "a blue lake"])
def test_the_encoding_is_that_of_diffusers_pipeline(bench: Bench, negative_prompt: str) -> None:
    loaded = bench.loaded
    pipe: Any = loaded.pipe
    request = bench.request(negative_prompt=negative_prompt)
    untyped: Any = bench.engine
    plan = untyped._planner.plan(request)
    ours = loaded.backbone.condition(
        pipe,
        [one.prompts[0] for one in plan.prompts[0]],
        lambda prompt: loaded.backbone.encode(pipe, prompt, 1),
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


CONTROL: dict[str, Any] = {"kind": "canny", "preprocessor": "none"}


def test_a_controlnet_steers_as_in_diffusers_pipeline(bench: Bench) -> None:
    own, theirs = steered_twice(bench, "edges", StableDiffusionXLControlNetPipeline, "image")
    assert torch.allclose(own, theirs, atol=1e-4)


def test_a_union_model_steers_as_in_diffusers_pipeline(bench: Bench) -> None:
    own, theirs = steered_twice(
        bench, "union", StableDiffusionXLControlNetUnionPipeline, "control_image", control_mode=3
    )
    assert torch.allclose(own, theirs, atol=1e-4)


def steered_twice(
    bench: Bench, net: str, pipeline: Any, hint: str, **about: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents as they are made here, far from unsteered ones, and by diffusers' pipeline."""
    folder = bench.settings.models / "controlnet" / net
    write_controlnet(folder, 3, union=net == "union")
    picture = kit.gradient()
    control = CONTROL | {"model": net, "picture": bench.bring(picture), "weight": 0.8}
    request: dict[str, Any] = {"negative_prompt": "a blue lake", "steps": 4}
    plain = bench.latents(**request)
    own = bench.latents(**request, controls=[control])
    assert not torch.allclose(own, plain, atol=0.05)
    loaded = bench.loaded
    parts: Any = loaded.pipe.components
    pipe = pipeline(
        **parts
        | {"scheduler": make_scheduler(loaded.scheduler_config, "Euler", "normal")}
        | {"controlnet": net_class(net).from_pretrained(folder)},
        add_watermarker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    planes = torch.as_tensor(picture).permute(2, 0, 1)[None].float() / 255
    generator = torch.Generator().manual_seed(5)
    theirs = pipe(
        "a red hill",
        **{hint: planes},
        negative_prompt="a blue lake",
        width=kit.SIDE,
        height=kit.SIDE,
        num_inference_steps=4,
        guidance_scale=5.0,
        controlnet_conditioning_scale=0.8,
        latents=torch.randn((4, kit.SIDE // 8, kit.SIDE // 8), generator=generator)[None],
        output_type="latent",
        **about,
    ).images
    return own, theirs


def net_class(net: str) -> Any:
    return ControlNetUnionModel if net == "union" else ControlNetModel
