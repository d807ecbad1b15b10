from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from webui.errors import StartError
from webui.generation import attention
from webui.generation.attention import (
    attention_of,
    choose_attention,
    trouble_with,
    use_attention,
)
from webui.generation.devices import Device

CPU = Device("cpu", torch.float32, "contiguous", "as asked")
GPU = Device("cuda:0", torch.bfloat16, "channels_last", "", "CUDA")


def tiny_unet() -> UNet2DConditionModel:
    torch.default_generator.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=8,
    ).eval()


def tiny_flux() -> FluxTransformer2DModel:
    torch.default_generator.manual_seed(0)
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8),
    ).eval()


def unet_output(unet: UNet2DConditionModel) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    sample = torch.randn(2, 4, 8, 8, generator=generator)
    text = torch.randn(2, 7, 32, generator=generator)
    with torch.no_grad():
        return unet(sample, torch.tensor(5), text, return_dict=False)[0]


def flux_output(flux: FluxTransformer2DModel) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        return flux(
            hidden_states=torch.randn(1, 16, 4, generator=generator),
            encoder_hidden_states=torch.randn(1, 5, 32, generator=generator),
            pooled_projections=torch.randn(1, 32, generator=generator),
            timestep=torch.tensor([0.5]),
            img_ids=torch.zeros(16, 3),
            txt_ids=torch.zeros(5, 3),
            return_dict=False,
        )[0]


def test_torchs_own_is_taken_on_the_cpu():
    assert choose_attention("auto", CPU) == "native"
    assert choose_attention("native", CPU) == "native"


def test_what_works_on_a_gpu_is_taken_in_order(monkeypatch: pytest.MonkeyPatch):
    for works, expected in (
        ({"flash", "xformers", "sage"}, "flash"),
        ({"xformers", "sage"}, "xformers"),
        ({"sage"}, "native"),
    ):

        def trouble(name: str, device: Device, works: set[str] = works) -> str | None:
            return None if name in works else "missing"

        monkeypatch.setattr(attention, "trouble_with", trouble)
        assert choose_attention("auto", GPU) == expected


@pytest.mark.parametrize("name", ["flash", "xformers", "sage"])
def test_what_does_not_work_here_is_said_with_the_reason(name: str):
    assert trouble_with(name, CPU)
    with pytest.raises(StartError, match=f"--attention {name} does not work on cpu: "):
        choose_attention(name, CPU)  # pyright: ignore[reportArgumentType]


def test_a_unet_computes_attention_as_told_and_says_so():
    unet = tiny_unet()
    plain = unet_output(unet)
    assert attention_of(unet) == "native"
    use_attention(unet, "native")
    assert torch.equal(unet_output(unet), plain)
    use_attention(unet, "math")
    assert attention_of(unet) == "math"
    other = unet_output(unet)
    assert not torch.equal(other, plain)
    torch.testing.assert_close(other, plain, rtol=1e-4, atol=1e-5)


def test_our_processor_alone_changes_no_bit():
    unet = tiny_unet()
    plain = unet_output(unet)
    untyped: Any = unet
    untyped.set_attn_processor(attention.DispatchedAttention("native"))
    assert torch.equal(unet_output(unet), plain)


def test_a_transformer_computes_attention_as_told_and_says_so():
    flux = tiny_flux()
    plain = flux_output(flux)
    assert attention_of(flux) == "native"
    use_attention(flux, "math")
    assert attention_of(flux) == "math"
    other = flux_output(flux)
    assert not torch.equal(other, plain)
    torch.testing.assert_close(other, plain, rtol=1e-4, atol=1e-5)
    use_attention(flux, "native")
    assert torch.equal(flux_output(flux), plain)


@pytest.mark.parametrize(
    ("name", "width", "expected"),
    [
        ("sage", 64, "sage"),
        ("sage", 160, "native"),
        ("sage", 40, "native"),
        ("flash", 160, "flash"),
        ("flash", 512, "native"),
        ("math", 512, "math"),
    ],
)
def test_heads_that_a_kernel_cannot_take_go_by_torch(
    monkeypatch: pytest.MonkeyPatch, name: str, width: int, expected: str
):
    asked: list[str] = []

    def dispatch(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, backend: str, **_: object
    ) -> torch.Tensor:
        asked.append(backend)
        return query

    monkeypatch.setattr(attention, "dispatch_attention_fn", dispatch)
    layer = attention.Attention(query_dim=8, heads=1, dim_head=width)
    attention.DispatchedAttention(name)(layer, torch.zeros(1, 4, 8))
    assert asked == [attention.BACKENDS[expected]]


def test_a_denoiser_that_masks_is_not_given_a_kernel_without_masks(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(attention, "_MASKING", ("FluxTransformer2DModel",))
    flux = tiny_flux()
    use_attention(flux, "flash")
    assert attention_of(flux) == "native"
    use_attention(flux, "math")
    assert attention_of(flux) == "math"
