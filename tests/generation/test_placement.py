"""Every plan on real, tiny modules of diffusers and transformers: the hooks run on a CPU too."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast, get_args

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from safetensors import torch as safetensors
from transformers import CLIPTextConfig, CLIPTextModel

from tests.generation.test_attention import flux_output, tiny_flux, tiny_unet
from webui.generation import placement
from webui.generation.devices import Device
from webui.generation.placement import decode_in_tiles, kind_of, own, place
from webui.settings import PlanName

CPU = Device("cpu", torch.float32, "channels_last", "as asked")
APART = Device("cpu", torch.float32, "channels_last", "a GPU but for its name", "XPU")
"""The CPU treated as a device with memory of its own, without streams, which it has not."""

TEXT_WIDTH = 32
UNTYPED_VAE: Any = AutoencoderKL
"""diffusers declares tuples of one for any number of blocks."""


def tiny_parts() -> dict[str, torch.nn.Module]:
    torch.default_generator.manual_seed(0)
    text = CLIPTextConfig(
        vocab_size=100,
        hidden_size=TEXT_WIDTH,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=77,
    )
    vae = UNTYPED_VAE(
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=64,
    )
    return {"text_encoder": CLIPTextModel(text), "unet": tiny_unet(), "vae": vae}


def painted(parts: dict[str, torch.nn.Module], *, steps: int = 3) -> torch.Tensor:
    """The picture of (3, 64, 64) in 0..1 that a pipeline of diffusers makes of the parts."""
    pipeline: Any = StableDiffusionPipeline
    pipe = pipeline(
        **parts,
        tokenizer=None,
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    with torch.no_grad():
        ids = torch.arange(77).remainder(100).unsqueeze(0)
        text = cast(torch.Tensor, pipe.text_encoder(ids).last_hidden_state)
        return pipe(
            prompt_embeds=text,
            negative_prompt_embeds=text * 0.5,
            height=16,
            width=16,
            latents=torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(1)),
            num_inference_steps=steps,
            output_type="pt",
        ).images[0]


def psnr(picture: torch.Tensor, other: torch.Tensor) -> float:
    error = (picture - other).square().mean().item()
    return math.inf if error == 0 else -10 * math.log10(error)


def hooks(module: torch.nn.Module) -> int:
    """Modules with a hook of diffusers' or accelerate's."""
    return sum(
        hasattr(each, "_diffusers_hook") or hasattr(each, "_hf_hook") for each in module.modules()
    )


def test_the_parts_are_known_by_name():
    assert [kind_of(name) for name in ("unet", "transformer")] == ["denoiser"] * 2
    assert [kind_of(name) for name in ("text_encoder", "text_encoder_3")] == ["text"] * 2
    assert (kind_of("vae"), kind_of("image_encoder")) == ("vae", None)


@pytest.mark.parametrize("plan", [name for name in get_args(PlanName) if name != "fp8"])
def test_exact_plans_change_no_bit_of_a_picture(plan: PlanName):
    resident = tiny_parts()
    place(resident, "resident", APART)
    assert not any(hooks(part) for part in resident.values())
    parts = tiny_parts()
    place(parts, plan, APART)
    plain = painted(resident)
    assert torch.equal(painted(parts), plain)
    assert torch.equal(painted(parts), plain), "and so the second time"


@pytest.mark.parametrize(
    ("plan", "hooked"),
    [
        ("turns", {"text_encoder", "unet"}),
        ("stream", {"text_encoder", "unet"}),
        ("sequential", {"text_encoder", "unet", "vae"}),
        ("fp8", {"text_encoder", "unet"}),
    ],
)
def test_each_plan_hooks_the_parts_it_moves(plan: PlanName, hooked: set[str]):
    parts = tiny_parts()
    place(parts, plan, APART)
    assert {name for name, part in parts.items() if hooks(part)} == hooked


def test_a_transformer_is_streamed_block_by_block_and_gives_the_same():
    flux, plain = tiny_flux(), tiny_flux()
    place({"transformer": flux}, "stream", APART)
    blocks = [*flux.transformer_blocks, *flux.single_transformer_blocks]
    assert all(hasattr(block, "_diffusers_hook") for block in blocks)
    assert hooks(flux) == len(blocks) + 1
    assert torch.equal(flux_output(flux), flux_output(plain))


def test_weights_in_8_bits_take_less_and_give_nearly_the_same_picture():
    plain, parts = tiny_parts(), tiny_parts()
    place(plain, "resident", CPU)
    place(parts, "fp8", CPU)
    unet = parts["unet"]
    assert unet.get_parameter("mid_block.resnets.0.conv1.weight").dtype is torch.float8_e4m3fn
    assert unet.get_parameter("mid_block.resnets.0.norm1.weight").dtype is torch.float32
    assert weight_bytes(unet) < 0.3 * weight_bytes(plain["unet"])
    alike = psnr(painted(parts), painted(plain))
    assert 25 < alike < math.inf
    assert torch.equal(painted(parts), painted(parts)), "nothing drifts from run to run"


def test_weights_in_8_bits_come_to_the_device_as_such(monkeypatch: pytest.MonkeyPatch):
    came: list[int] = []

    def brought(module: torch.nn.Module, *args: Any, **kwargs: Any) -> None:
        came.append(weight_bytes(module))
        own(module, *args, **kwargs)

    monkeypatch.setattr(placement, "own", brought)
    parts = tiny_parts()
    place(parts, "fp8", APART)
    assert came == [weight_bytes(part) for part in parts.values()]


def weight_bytes(module: torch.nn.Module) -> int:
    return sum(parameter.nbytes for parameter in module.parameters())


def test_a_vae_in_tiles_gives_nearly_the_same_picture_and_back_the_same():
    vae: Any = tiny_parts()["vae"].eval()
    latents = torch.randn(2, 4, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        plain = vae.decode(latents, return_dict=False)[0]
        decode_in_tiles(vae, tiled=True)
        tiled = vae.decode(latents, return_dict=False)[0]
        decode_in_tiles(vae, tiled=False)
        again = vae.decode(latents, return_dict=False)[0]
    scale = (plain.max() - plain.min()).item()
    assert 25 < psnr(tiled / scale, plain / scale) < math.inf
    assert torch.equal(again, plain)


def test_tiles_are_no_larger_than_the_plan_counts_with():
    vae = UNTYPED_VAE(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        sample_size=1024,
    )
    decode_in_tiles(vae, tiled=True)
    assert (vae.tile_sample_min_size, vae.tile_latent_min_size) == (512, 64)


def test_parts_take_turns(monkeypatch: pytest.MonkeyPatch):
    """On the "meta" device in place of a GPU, what is where can be seen, though not computed."""
    parts = tiny_parts()
    text, unet = parts["text_encoder"], cast(UNet2DConditionModel, parts["unet"])
    gpu = Device("meta", torch.float32, "channels_last", "", "XPU")
    place({"text_encoder": text, "unet": unet}, "turns", gpu)
    assert [next(part.parameters()).device.type for part in (text, unet)] == ["cpu", "cpu"]
    sent: list[torch.device] = []
    with torch.no_grad():
        untyped: Any = text
        states = untyped(torch.zeros(1, 77, dtype=torch.long)).last_hidden_state
        assert states.device.type == "meta"
        assert [next(part.parameters()).device.type for part in (text, unet)] == ["meta", "cpu"]
        monkeypatch.setattr(text, "to", sent.append)
        unet(torch.zeros(1, 4, 8, 8), torch.tensor(1), torch.zeros(1, 77, TEXT_WIDTH))
    assert next(unet.parameters()).device.type == "meta"
    assert sent == [torch.device("cpu")], "the text encoder is sent away before"


def test_own_weights_are_copies_in_the_devices_layout():
    unet = tiny_unet()
    before = unet.conv_in.weight.data_ptr()
    own(unet, CPU, convolves=True)
    assert unet.conv_in.weight.data_ptr() != before
    assert unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert not unet.conv_in.weight.requires_grad


def test_a_mapped_weight_is_copied_and_one_that_lies_as_it_shall_is_not(tmp_path: Path):
    conv = torch.nn.Conv2d(4, 4, 3, bias=False)
    untyped: Any = safetensors
    untyped.save_file({"weight": conv.weight.detach().half()}, tmp_path / "a.safetensors")
    mapped = untyped.load_file(tmp_path / "a.safetensors")["weight"]
    half = torch.nn.Conv2d(4, 4, 3, bias=False, dtype=torch.float16)
    half.weight.data = mapped
    device = Device("cpu", torch.float16, "channels_last", "")
    own(half, device, convolves=True)
    assert half.weight.data_ptr() != mapped.data_ptr()
    assert torch.equal(half.weight, mapped)
    before = half.weight.data_ptr()
    own(half, device, convolves=True)
    assert half.weight.data_ptr() == before
    # A piece of a larger whole would keep all of that.
    half.weight.data = torch.zeros(8, 4, 3, 3, dtype=torch.float16)[:4]
    own(half, device, convolves=True)
    assert half.weight.untyped_storage().nbytes() == half.weight.nbytes
