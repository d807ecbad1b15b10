from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.controlnets.controlnet_flux import FluxControlNetModel
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from diffusers.pipelines.flux.pipeline_flux_controlnet import FluxControlNetPipeline
from diffusers.pipelines.flux.pipeline_flux_fill import FluxFillPipeline
from PIL import Image

from tests.families import kit, tiny
from tests.families.kit import Bench
from webui.errors import BadRequestError
from webui.generation.canvas import Brought, lay_out
from webui.generation.starting import encode_channels

TRANSFORMER: Any = FluxTransformer2DModel
BY_SIZE = {"shift": 3.0, "use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15}


def write_flux(
    folder: Path, *, guidance: bool = True, channels: int = 64, pipeline: str = "FluxPipeline"
) -> None:
    with tiny.same_weights():
        transformer = TRANSFORMER(
            patch_size=1,
            in_channels=channels,
            out_channels=64,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=tiny.TEXT_WIDTH,
            pooled_projection_dim=tiny.TEXT_WIDTH,
            guidance_embeds=guidance,
            axes_dims_rope=(4, 4, 8),
        )
        vae = tiny.tiny_vae(
            16,
            # Latents of such a VAE are small, and would be lost in noise of deviation 1.
            scaling_factor=3.0,
            shift_factor=0.1159,
            use_quant_conv=False,
            use_post_quant_conv=False,
        )
        parts: dict[str, Any] = {
            "transformer": transformer,
            "vae": vae,
            "text_encoder": tiny.clip_encoder(),
            "text_encoder_2": tiny.t5_encoder(),
            "tokenizer": tiny.clip_tokenizer(),
            "tokenizer_2": tiny.t5_tokenizer(),
            "scheduler": tiny.flow_scheduler(**(BY_SIZE if guidance else {"shift": 1.0})),
        }
    tiny.write_model(folder, pipeline, parts)


def write_fill(folder: Path) -> None:
    write_flux(folder, channels=384, pipeline="FluxFillPipeline")


def write_controlnet(folder: Path, **options: Any) -> None:
    untyped: Any = FluxControlNetModel
    with tiny.same_weights(7):
        net = untyped(
            **({"guidance_embeds": False} | options),
            in_channels=64,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=tiny.TEXT_WIDTH,
            pooled_projection_dim=tiny.TEXT_WIDTH,
            axes_dims_rope=(4, 4, 8),
        )
        ends = (*net.controlnet_blocks, *net.controlnet_single_blocks)
        for layer in (net.controlnet_x_embedder, *ends):
            layer.weight.data.normal_(std=0.3)
    net.save_pretrained(folder)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("flux")
    write_controlnet(folder / "models" / "controlnet" / "edges")
    with kit.bench_of(folder, write_flux, sampler="Euler") as made:
        yield made


@pytest.fixture(scope="module")
def schnell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    def write(folder: Path) -> None:
        write_flux(folder, guidance=False)

    with kit.bench_of(tmp_path_factory.mktemp("schnell"), write, sampler="Euler") as made:
        yield made


@pytest.fixture(scope="module")
def fill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with kit.bench_of(tmp_path_factory.mktemp("fill"), write_fill, sampler="Euler") as made:
        yield made


def plain(
    bench: Bench, kind: Any = None, more: dict[str, Any] | None = None, **options: Any
) -> Any:
    """diffusers' own pipeline over the same components."""
    pipe: Any = bench.loaded.pipe
    parts = {
        k: v for k, v in pipe.components.items() if k not in ("image_encoder", "feature_extractor")
    }
    parts["scheduler"] = tiny.flow_scheduler(**(options or BY_SIZE))
    made = (kind or type(pipe))(**parts, **(more or {}))
    made.set_progress_bar_config(disable=True)
    return made


def first_noise(bench: Bench) -> torch.Tensor:
    shape = (16, kit.SIDE // 8, kit.SIDE // 8)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(5))[None]
    return bench.loaded.backbone.packed(bench.loaded.pipe, noise)


def theirs(pipe: Any, bench: Bench, **arguments: Any) -> torch.Tensor:
    made = pipe(
        "a red hill",
        width=kit.SIDE,
        height=kit.SIDE,
        output_type="latent",
        **arguments,
    ).images
    shape = (16, kit.SIDE // 8, kit.SIDE // 8)
    return bench.loaded.backbone.unpacked(bench.loaded.pipe, made, shape)


def test_latents_are_packed_as_diffusers_packs_them(bench: Bench) -> None:
    pipe: Any = bench.loaded.pipe
    latents = torch.randn(2, 16, 6, 10)
    packed = bench.loaded.backbone.packed(pipe, latents)
    assert torch.equal(packed, pipe._pack_latents(latents, 2, 16, 6, 10))
    assert torch.equal(bench.loaded.backbone.unpacked(pipe, packed, (16, 6, 10)), latents)


def test_the_denoising_is_that_of_diffusers_pipeline(bench: Bench) -> None:
    own = bench.latents(steps=4)
    their = theirs(
        plain(bench), bench, num_inference_steps=4, guidance_scale=3.5, latents=first_noise(bench)
    )
    assert torch.allclose(own, their, atol=1e-4)


def test_a_negative_prompt_is_true_cfg(bench: Bench) -> None:
    own = bench.latents(steps=3, cfg=2.0, negative_prompt="a blue lake", guidance=2.0)
    their = theirs(
        plain(bench),
        bench,
        negative_prompt="a blue lake",
        true_cfg_scale=2.0,
        num_inference_steps=3,
        guidance_scale=2.0,
        latents=first_noise(bench),
    )
    assert torch.allclose(own, their, atol=1e-4)


def test_schnell_is_that_of_diffusers_pipeline(schnell: Bench) -> None:
    own = schnell.latents(steps=4)
    pipe = plain(schnell, shift=1.0)
    their = theirs(
        pipe,
        schnell,
        num_inference_steps=4,
        latents=first_noise(schnell),
        max_sequence_length=256,
    )
    assert torch.allclose(own, their, atol=1e-4)


def test_from_a_picture_at_full_strength_nothing_of_it_is_left(bench: Bench) -> None:
    whole = bench.picture(init=bench.bring(kit.gradient()), strength=1.0)
    assert (whole == bench.picture()).all()


def test_fill_without_a_picture_fills_it_all(fill: Bench) -> None:
    own = fill.latents(steps=5)
    grey = Image.new("RGB", (kit.SIDE, kit.SIDE), (127, 127, 127))
    their = theirs(
        plain(fill, FluxFillPipeline),
        fill,
        image=grey,
        mask_image=Image.new("L", (kit.SIDE, kit.SIDE), 255),
        num_inference_steps=5,
        guidance_scale=30.0,
        latents=first_noise(fill),
        generator=torch.Generator().manual_seed(1),
    )
    assert torch.allclose(own, their, atol=1e-4)


def test_fill_sees_mask_and_picture_as_in_diffusers(fill: Bench) -> None:
    picture = kit.gradient()
    mask = np.zeros((kit.SIDE, kit.SIDE), np.uint8)
    mask[10:40, 20:50] = 255
    names = {"init": fill.bring(picture), "mask": fill.bring(mask, "mask")}
    images = {
        names["init"]: Brought(names["init"], Image.fromarray(picture)),
        names["mask"]: Brought(names["mask"], Image.fromarray(mask)),
    }
    canvas = lay_out(fill.request(**names), images, kit.SIDE)
    loaded = fill.loaded
    with torch.no_grad():
        own = loaded.backbone.packed(
            loaded.pipe, encode_channels(loaded, canvas, kit.SIDE, kit.SIDE)
        )
    pipe = plain(fill, FluxFillPipeline)
    planes = torch.as_tensor(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
    hidden = torch.as_tensor(mask)[None, None].float() / 255
    with torch.no_grad():
        masked = pipe.vae.encode(planes * (1 - hidden)).latent_dist.mode()
        sides = (kit.SIDE, kit.SIDE)
        their_mask, their_picture = pipe.prepare_mask_latents(
            hidden, masked, 1, 16, 1, *sides, torch.float32, "cpu", None
        )
    assert torch.allclose(own, torch.cat([their_picture, their_mask], dim=2), atol=1e-5)


@pytest.mark.parametrize("sampler", ["Heun", "LCM", "DPM++ 2M", "DPM++ 2M SDE", "UniPC"])
def test_it_runs_with_every_kind_of_sampler(bench: Bench, sampler: str) -> None:
    made = bench.pictures(sampler=sampler, batch=2)
    assert kit.differ(made[0], bench.picture()) > 0
    assert abs(made[1] - bench.picture(sampler=sampler, seed=6)).max() <= 2


def test_distilled_guidance_acts_and_is_kept_in_the_recipe(bench: Bench) -> None:
    assert (bench.picture(guidance=3.5) == bench.picture()).all()
    assert kit.differ(bench.picture(guidance=1.0), bench.picture()) > 0


def test_without_a_negative_prompt_cfg_has_nothing_to_do(bench: Bench) -> None:
    assert (bench.picture(cfg=9.0) == bench.picture()).all()


@pytest.mark.parametrize(
    ("field", "value"), [("negative_prompt", "a lake"), ("cfg", 2.0), ("guidance", 3.5)]
)
def test_schnell_has_no_guidance(schnell: Bench, field: str, value: Any) -> None:
    with pytest.raises(BadRequestError) as caught:
        schnell.pictures(**{field: value})
    assert caught.value.field == field


def test_sides_are_whole_patches(bench: Bench) -> None:
    with pytest.raises(BadRequestError, match="multiples of 16: set height to 96"):
        bench.pictures(height=88)


OUT = "transformer_blocks.0.attn.to_out.0"
SINGLE = "single_transformer_blocks.0.proj_out"
TEXT = "encoder.layers.1.mlp.fc1"
T5 = "encoder.block.0.layer.0.SelfAttention.q"


@pytest.mark.parametrize(
    ("spelled", "place"),
    [
        (f"transformer.{OUT}", f"transformer:{OUT}"),
        (f"base_model.model.{OUT}", f"transformer:{OUT}"),
        ("lora_unet_double_blocks_0_img_attn_proj", f"transformer:{OUT}"),
        ("lora_unet_single_blocks_0_linear2", f"transformer:{SINGLE}"),
        ("double_blocks.0.img_attn.proj", f"transformer:{OUT}"),
        ("lora_te1_text_model_" + TEXT.replace(".", "_"), f"text_encoder:{TEXT}"),
        ("lora_te3_" + T5.replace(".", "_"), f"text_encoder_2:{T5}"),
    ],
)
def test_a_lora_acts_and_is_gone_to_the_bit(bench: Bench, spelled: str, place: str) -> None:
    kit.check_lora(bench, {spelled: place}, spelled[:9] + spelled[-12:])


def controls(bench: Bench, **changes: Any) -> dict[str, Any]:
    picture = bench.bring(kit.gradient())
    unit = {"kind": "other", "model": "edges", "picture": picture, "preprocessor": "none"}
    return {"controls": [unit | changes]}


@pytest.mark.parametrize("cfg", [1.0, 2.0])
def test_a_controlnet_steers_it_as_in_diffusers_pipeline(bench: Bench, cfg: float) -> None:
    negative = {"negative_prompt": "a blue lake"} if cfg > 1 else {}
    own = bench.latents(steps=4, cfg=cfg, **negative, **controls(bench, weight=0.7))
    net: Any = FluxControlNetModel
    folder = bench.settings.models / "controlnet" / "edges"
    pipe = plain(bench, FluxControlNetPipeline, {"controlnet": net.from_pretrained(folder)})
    their = theirs(
        pipe,
        bench,
        control_image=Image.fromarray(kit.gradient()),
        controlnet_conditioning_scale=0.7,
        true_cfg_scale=cfg,
        num_inference_steps=4,
        guidance_scale=3.5,
        latents=first_noise(bench),
        **negative,
    )
    assert torch.allclose(own, their, atol=1e-4)


@pytest.mark.parametrize("model", ["bench", "schnell"])
def test_a_controlnet_with_guidance_has_its_own_beside_a_model_without(
    model: str, request: pytest.FixtureRequest
) -> None:
    bench: Bench = request.getfixturevalue(model)
    folder = bench.settings.models / "controlnet" / "guided"
    write_controlnet(folder, guidance_embeds=True)
    own = bench.latents(steps=2, **controls(bench, model="guided"))
    net: Any = FluxControlNetModel
    more = {"controlnet": net.from_pretrained(folder)}
    shift = {"shift": 1.0} if model == "schnell" else {}
    their = theirs(
        plain(bench, FluxControlNetPipeline, more, **shift),
        bench,
        control_image=Image.fromarray(kit.gradient()),
        controlnet_conditioning_scale=1.0,
        num_inference_steps=2,
        guidance_scale=3.5,
        max_sequence_length=256 if model == "schnell" else 512,
        latents=first_noise(bench),
    )
    assert torch.allclose(own, their, atol=1e-4)


def test_a_controlnet_acts_in_its_time_and_by_its_weight(bench: Bench) -> None:
    alone = bench.picture()
    whole = kit.differ(bench.picture(**controls(bench)), alone)
    assert 0 < kit.differ(bench.picture(**controls(bench, weight=0.1)), alone) < whole
    assert 0 < kit.differ(bench.picture(**controls(bench, start=0.7)), alone) < whole
    bench.forget()
    assert (bench.picture() == alone).all()


def test_a_union_model_is_told_what_the_hint_is(bench: Bench) -> None:
    nets = bench.settings.models / "controlnet"
    write_controlnet(nets / "all-in-one", num_mode=3)
    told = {"model": "all-in-one", "preprocessor": "none"}
    own = bench.latents(steps=2, **controls(bench, kind="depth", **told))
    other = bench.latents(steps=2, **controls(bench, kind="canny", **told))
    assert (own - other).abs().max() > 3e-4
    net: Any = FluxControlNetModel
    folder = net.from_pretrained(nets / "all-in-one")
    their = theirs(
        plain(bench, FluxControlNetPipeline, {"controlnet": folder}),
        bench,
        control_image=Image.fromarray(kit.gradient()),
        control_mode=2,
        controlnet_conditioning_scale=1.0,
        num_inference_steps=2,
        guidance_scale=3.5,
        latents=first_noise(bench),
    )
    assert torch.allclose(own, their, atol=2e-5)
    for kind in ("pose", "segment"):
        with pytest.raises(BadRequestError, match=f"reads no hints of the kind '{kind}'"):
            bench.picture(**controls(bench, kind=kind, **told))


def test_one_that_is_shown_pixels_is_shown_them(bench: Bench) -> None:
    nets = bench.settings.models / "controlnet"
    write_controlnet(nets / "pixels", conditioning_embedding_channels=16, patch_size=2)
    own = bench.latents(steps=2, **controls(bench, model="pixels"))
    net: Any = FluxControlNetModel
    folder = net.from_pretrained(nets / "pixels")
    their = theirs(
        plain(bench, FluxControlNetPipeline, {"controlnet": folder}),
        bench,
        control_image=Image.fromarray(kit.gradient()),
        controlnet_conditioning_scale=1.0,
        num_inference_steps=2,
        guidance_scale=3.5,
        latents=first_noise(bench),
    )
    assert torch.allclose(own, their, atol=1e-4)
