"""What diffusers itself says of the layouts that are recognised by hand-written names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers.loaders import single_file_utils
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.autoencoder_kl_flux2 import AutoencoderKLFlux2
from diffusers.models.autoencoders.autoencoder_kl_qwenimage import AutoencoderKLQwenImage
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from diffusers.models.transformers.transformer_flux2 import Flux2Transformer2DModel
from diffusers.models.transformers.transformer_qwenimage import QwenImageTransformer2DModel
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from tests.library import weights
from webui.library.headers import Header
from webui.library.recognition import Recognised, recognise


def look(model: torch.nn.Module, file: str = "diffusion_pytorch_model.safetensors") -> Recognised:
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    return recognise(Header(shapes, {}, 0), file=file)


def unet(**values: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(**values)


def sdxl(**values: Any) -> UNet2DConditionModel:
    return unet(
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
        **values,
    )


def refiner() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        block_out_channels=(384, 768, 1536, 1536),
        down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * 2, "DownBlock2D"),
        up_block_types=("UpBlock2D", *("CrossAttnUpBlock2D",) * 2, "UpBlock2D"),
        transformer_layers_per_block=4,
        cross_attention_dim=1280,
        use_linear_projection=True,
    )


def sd3(depth: int, twice: tuple[int, ...] = ()) -> SD3Transformer2DModel:
    return SD3Transformer2DModel(
        num_layers=depth,
        num_attention_heads=depth,
        caption_projection_dim=64 * depth,
        dual_attention_layers=twice,
    )


def flux(channels: int = 64, *, guidance: bool = True) -> FluxTransformer2DModel:
    return FluxTransformer2DModel(in_channels=channels, guidance_embeds=guidance)


def flux2(double: int, single: int, heads: int, width: int) -> Flux2Transformer2DModel:
    return Flux2Transformer2DModel(
        num_layers=double,
        num_single_layers=single,
        num_attention_heads=heads,
        joint_attention_dim=width,
        guidance_embeds=single == 48,
    )


@pytest.mark.parametrize(
    ("make", "config"),
    [
        (lambda: unet(cross_attention_dim=768), "sd1"),
        (lambda: unet(cross_attention_dim=768, in_channels=9), "sd1-inpaint"),
        (lambda: unet(cross_attention_dim=1024, use_linear_projection=True), "sd2-v"),
        (lambda: unet(cross_attention_dim=1024, in_channels=9), "sd2-inpaint"),
        (sdxl, "sdxl"),
        (lambda: sdxl(in_channels=9), "sdxl-inpaint"),
        (refiner, "sdxl-refiner"),
        (lambda: sd3(24), "sd3-medium"),
        (lambda: sd3(24, tuple(range(13))), "sd3.5-medium"),
        (lambda: sd3(38), "sd3.5-large"),
        (flux, "flux-dev"),
        (lambda: flux(guidance=False), "flux-schnell"),
        (lambda: flux(384), "flux-fill"),
        (lambda: flux(128), "flux-control"),
        (lambda: flux2(8, 48, 48, 15360), "flux2-dev"),
        (lambda: flux2(5, 20, 24, 7680), "flux2-klein-4b"),
        (lambda: flux2(8, 24, 32, 12288), "flux2-klein-9b"),
        (ZImageTransformer2DModel, "z-image"),
        (QwenImageTransformer2DModel, "qwen-image"),
    ],
)
def test_a_denoiser_in_diffusers_layout(make: Callable[[], torch.nn.Module], config: str):
    with torch.device("meta"):
        known = look(make())
    assert (known.kind, known.config, known.problem) == ("denoiser", config, None)


@pytest.mark.parametrize(
    ("make", "component"),
    [
        (AutoencoderKL, "vae-sd"),
        (lambda: AutoencoderKL(latent_channels=16, use_quant_conv=False), "vae-flux"),
        (AutoencoderKLFlux2, "vae-flux2"),
        (AutoencoderKLQwenImage, "vae-qwen"),
    ],
)
def test_a_vae_in_diffusers_layout(make: Callable[[], torch.nn.Module], component: str):
    with torch.device("meta"):
        known = look(make())
    assert (known.kind, known.component, known.problem) == ("vae", component, None)


def test_a_controlnet_in_diffusers_layout():
    with torch.device("meta"):
        known = look(ControlNetModel(cross_attention_dim=768))
    assert (known.kind, known.family, known.problem) == ("controlnet", "SD 1", None)


@pytest.mark.parametrize(
    ("shapes", "kind"),
    [
        (weights.sd1(), "v1"),
        (weights.sd1(9), "inpainting"),
        (weights.sd2(), "v2"),
        (weights.sd2(9), "inpainting_v2"),
        (weights.sdxl(), "xl_base"),
        (weights.sdxl(9), "xl_inpaint"),
        (weights.refiner(), "xl_refiner"),
        (weights.sd3(38), "sd35_large"),
        (weights.flux(), "flux-dev"),
        (weights.flux(guidance=False), "flux-schnell"),
        (weights.flux(inputs=384), "flux-fill"),
        (weights.flux(inputs=128), "flux-depth"),
        (weights.flux2(6144, 15360, 8, 48), "flux-2-dev"),
    ],
)
def test_the_original_layouts_the_other_tests_are_made_of_are_those_diffusers_knows(
    shapes: weights.Shapes, kind: str
):
    theirs: Any = single_file_utils
    tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    assert theirs.infer_diffusers_model_type(tensors) == kind
