from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.controlnets.controlnet_sd3 import SD3ControlNetModel
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from diffusers.pipelines.controlnet_sd3.pipeline_stable_diffusion_3_controlnet import (
    StableDiffusion3ControlNetPipeline,
)
from diffusers.pipelines.controlnet_sd3.pipeline_stable_diffusion_3_controlnet_inpainting import (
    StableDiffusion3ControlNetInpaintingPipeline,
)
from PIL import Image

from tests.families import kit, tiny
from tests.families.kit import Bench
from webui.errors import BadRequestError
from webui.generation.families import SD3

TRANSFORMER: Any = SD3Transformer2DModel
SHIFT = 3.0


def write_sd3(folder: Path, *, t5: bool = True, **options: Any) -> None:
    with tiny.same_weights():
        transformer = TRANSFORMER(
            sample_size=8,
            patch_size=2,
            in_channels=16,
            out_channels=16,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=2 * tiny.TEXT_WIDTH,
            caption_projection_dim=32,
            pooled_projection_dim=2 * tiny.TEXT_WIDTH,
            pos_embed_max_size=16,
            qk_norm="rms_norm",
            dual_attention_layers=(0,),
            **options,
        )
        vae = tiny.tiny_vae(
            16,
            scaling_factor=1.5305,
            shift_factor=0.0609,
            use_quant_conv=False,
            use_post_quant_conv=False,
        )
        parts: dict[str, Any] = {
            "transformer": transformer,
            "vae": vae,
            "text_encoder": tiny.projecting_clip_encoder(),
            "text_encoder_2": tiny.projecting_clip_encoder(),
            "text_encoder_3": tiny.t5_encoder(2 * tiny.TEXT_WIDTH) if t5 else None,
            "tokenizer": tiny.clip_tokenizer(),
            "tokenizer_2": tiny.clip_tokenizer(pad="!"),
            "tokenizer_3": tiny.t5_tokenizer() if t5 else None,
            "scheduler": tiny.flow_scheduler(shift=SHIFT),
        }
    tiny.write_model(folder, "StableDiffusion3Pipeline", parts)


def write_controlnet(folder: Path, **options: Any) -> None:
    untyped: Any = SD3ControlNetModel
    with tiny.same_weights(7):
        net = untyped(
            sample_size=8,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_projection_dim=32,
            pooled_projection_dim=2 * tiny.TEXT_WIDTH,
            pos_embed_max_size=16,
            **({"joint_attention_dim": 2 * tiny.TEXT_WIDTH} | options),
        )
        for layer in (net.pos_embed_input.proj, *net.controlnet_blocks):
            layer.weight.data.normal_(std=0.3)
    net.save_pretrained(folder)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("sd3")
    write_controlnet(folder / "models" / "controlnet" / "edges")
    other = folder / "models" / "controlnet" / "shifted"
    write_controlnet(other, force_zeros_for_pooled_projection=False)
    # As those that Stability made for 3.5 Large are.
    write_controlnet(
        folder / "models" / "controlnet" / "textless",
        force_zeros_for_pooled_projection=False,
        use_pos_embed=False,
        joint_attention_dim=None,
    )
    with kit.bench_of(folder, write_sd3, sampler="Euler") as made:
        yield made


def plain(bench: Bench, kind: Any = None, **more: Any) -> Any:
    """diffusers' own pipeline over the same components."""
    pipe: Any = bench.loaded.pipe
    scheduler = tiny.flow_scheduler(shift=SHIFT)
    made = (kind or type(pipe))(**(pipe.components | {"scheduler": scheduler} | more))
    made.set_progress_bar_config(disable=True)
    return made


def first_noise(seed: int = 5) -> torch.Tensor:
    shape = (16, kit.SIDE // 8, kit.SIDE // 8)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))[None]


@pytest.mark.parametrize("cfg", [1.0, 4.0])
def test_the_denoising_is_that_of_diffusers_pipeline(bench: Bench, cfg: float) -> None:
    own = bench.latents(negative_prompt="a blue lake", steps=4, cfg=cfg)
    theirs = plain(bench)(
        "a red hill",
        negative_prompt="a blue lake",
        width=kit.SIDE,
        height=kit.SIDE,
        num_inference_steps=4,
        guidance_scale=cfg,
        latents=first_noise(),
        output_type="latent",
    ).images
    assert torch.allclose(own, theirs, atol=1e-4)


def test_from_a_picture_at_full_strength_nothing_of_it_is_left(bench: Bench) -> None:
    whole = bench.picture(init=bench.bring(kit.gradient()), strength=1.0)
    assert (whole == bench.picture()).all()


@pytest.mark.parametrize("sampler", ["Heun", "LCM", "DPM++ 2M", "DPM++ 2M SDE", "UniPC"])
def test_it_runs_with_every_kind_of_sampler(bench: Bench, sampler: str) -> None:
    made = bench.pictures(sampler=sampler, batch=2)
    assert kit.differ(made[0], bench.picture()) > 0
    assert abs(made[1] - bench.picture(sampler=sampler, seed=6)).max() <= 2


def test_a_schedule_changes_the_picture(bench: Bench) -> None:
    assert kit.differ(bench.picture(schedule="karras"), bench.picture()) > 0


def test_without_t5_its_part_is_zeros(tmp_path: Path) -> None:
    with kit.bench_of(
        tmp_path, lambda folder: write_sd3(folder, t5=False), sampler="Euler"
    ) as bench:
        own = bench.latents(steps=2, cfg=1)
        theirs = plain(bench)(
            "a red hill",
            width=kit.SIDE,
            height=kit.SIDE,
            num_inference_steps=2,
            guidance_scale=1.0,
            latents=first_noise(),
            output_type="latent",
        ).images
        assert torch.allclose(own, theirs, atol=1e-4)


def test_a_clip_skip_acts_as_for_sdxl(bench: Bench) -> None:
    assert (bench.picture(clip_skip=2) == bench.picture()).all()
    assert kit.differ(bench.picture(clip_skip=3), bench.picture()) > 0


def test_sides_are_whole_patches(bench: Bench) -> None:
    with pytest.raises(BadRequestError, match="multiples of 16: set width to 96") as caught:
        bench.pictures(width=88)
    assert caught.value.field == "width"


def test_a_picture_of_another_size_is_painted_at_the_next_that_fits(bench: Bench) -> None:
    init = bench.bring(kit.gradient(side=72))
    assert bench.picture(init=init, strength=0.5).shape == (72, 72, 3)


def test_there_is_no_distilled_guidance(bench: Bench) -> None:
    with pytest.raises(BadRequestError, match="distilled guidance") as caught:
        bench.pictures(guidance=3.5)
    assert caught.value.field == "guidance"


def test_a_model_that_shifts_by_size_does(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        write_sd3(folder)
        scheduler: Any = tiny.flow_scheduler(shift=SHIFT, use_dynamic_shifting=True)
        scheduler.save_pretrained(folder / "scheduler")

    with kit.bench_of(tmp_path, write, sampler="Euler") as bench:
        own = bench.latents(steps=2, cfg=1)
        pipe = plain(bench)
        pipe.scheduler = tiny.flow_scheduler(shift=SHIFT, use_dynamic_shifting=True)
        theirs = pipe(
            "a red hill",
            width=kit.SIDE,
            height=kit.SIDE,
            num_inference_steps=2,
            guidance_scale=1.0,
            latents=first_noise(),
            output_type="latent",
        ).images
        assert torch.allclose(own, theirs, atol=1e-4)


ATTENTION = "transformer_blocks.0.attn.to_out.0"
TEXT = "encoder.layers.1.self_attn.q_proj"


@pytest.mark.parametrize(
    ("spelled", "place"),
    [
        (f"transformer.{ATTENTION}", f"transformer:{ATTENTION}"),
        (f"lora_unet_{ATTENTION.replace('.', '_')}", f"transformer:{ATTENTION}"),
        ("lora_unet_joint_blocks_0_x_block_attn_proj", f"transformer:{ATTENTION}"),
        ("lora_te1_text_model_" + TEXT.replace(".", "_"), "text_encoder:text_model." + TEXT),
        ("lora_te2_text_model_" + TEXT.replace(".", "_"), "text_encoder_2:text_model." + TEXT),
        (
            "lora_te3_encoder_block_0_layer_0_SelfAttention_q",
            "text_encoder_3:encoder.block.0.layer.0.SelfAttention.q",
        ),
    ],
)
def test_a_lora_acts_and_is_gone_to_the_bit(bench: Bench, spelled: str, place: str) -> None:
    kit.check_lora(bench, {spelled: place}, spelled[:9] + spelled[-12:])


def controls(bench: Bench, name: str, **changes: Any) -> dict[str, Any]:
    picture = bench.bring(kit.gradient())
    unit = {"kind": "other", "model": name, "picture": picture, "preprocessor": "none"}
    return {"controls": [unit | changes]}


@pytest.mark.parametrize(
    ("name", "cfg"), [("edges", 4.0), ("edges", 1.0), ("shifted", 4.0), ("textless", 4.0)]
)
def test_a_controlnet_steers_it_as_in_diffusers_pipeline(
    bench: Bench, name: str, cfg: float
) -> None:
    own = bench.latents(steps=4, cfg=cfg, **controls(bench, name, weight=0.7))
    net: Any = SD3ControlNetModel
    loaded = net.from_pretrained(bench.settings.models / "controlnet" / name)
    pipe = plain(bench, StableDiffusion3ControlNetPipeline, controlnet=loaded)
    their = pipe(
        "a red hill",
        control_image=Image.fromarray(kit.gradient()),
        controlnet_conditioning_scale=0.7,
        width=kit.SIDE,
        height=kit.SIDE,
        num_inference_steps=4,
        guidance_scale=cfg,
        latents=first_noise(),
        output_type="latent",
    ).images
    assert torch.allclose(own, their, atol=1e-4)


def test_one_for_inpainting_sees_the_mask_as_in_diffusers_pipeline(bench: Bench) -> None:
    folder = bench.settings.models / "controlnet" / "inpaint"
    write_controlnet(folder, extra_conditioning_channels=1)
    picture, mask = kit.gradient(), kit.square_mask()
    anew = kit.painted_anew(bench, picture, mask)
    own = bench.latents(steps=2, **controls(bench, "inpaint"), **anew)
    net: Any = SD3ControlNetModel
    loaded = net.from_pretrained(folder)
    their = plain(bench, StableDiffusion3ControlNetInpaintingPipeline, controlnet=loaded)(
        "a red hill",
        control_image=Image.fromarray(picture),
        control_mask=Image.fromarray(mask),
        controlnet_conditioning_scale=1.0,
        width=kit.SIDE,
        height=kit.SIDE,
        num_inference_steps=2,
        guidance_scale=SD3.own.cfg,
        latents=first_noise(),
        callback_on_step_end=kit.keeper(bench, picture, mask, first_noise()),
        output_type="latent",
    ).images
    assert torch.allclose(own, their, atol=1e-4)
    assert (own - bench.latents(steps=2, **anew)).abs().max() > 1e-3
    with pytest.raises(BadRequestError, match="cover that part with a mask") as refused:
        bench.picture(**controls(bench, "inpaint"))
    assert refused.value.field == "controls.0"


def test_one_for_edges_by_stability_is_shown_them_in_its_scale(bench: Bench) -> None:
    own = bench.latents(steps=2, **controls(bench, "textless", kind="canny"))
    net: Any = SD3ControlNetModel
    loaded = net.from_pretrained(bench.settings.models / "controlnet" / "textless")
    planes = torch.as_tensor(kit.gradient()).permute(2, 0, 1)[None].float() / 255
    their = plain(bench, StableDiffusion3ControlNetPipeline, controlnet=loaded)(
        "a red hill",
        control_image=planes * 255 * 0.5 + 0.5,
        controlnet_conditioning_scale=1.0,
        width=kit.SIDE,
        height=kit.SIDE,
        num_inference_steps=2,
        guidance_scale=SD3.own.cfg,
        latents=first_noise(),
        output_type="latent",
    ).images
    assert torch.allclose(own, their, atol=1e-4)
    other = bench.latents(steps=2, **controls(bench, "textless"))
    assert (own - other).abs().max() > 1e-3


def test_a_controlnet_acts_in_its_time_and_is_gone_without_it(bench: Bench) -> None:
    alone = bench.picture()
    whole = kit.differ(bench.picture(**controls(bench, "edges")), alone)
    assert 0 < kit.differ(bench.picture(**controls(bench, "edges", start=0.7)), alone) < whole
    bench.forget()
    assert (bench.picture() == alone).all()
