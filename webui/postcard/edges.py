"""Where the untyped edges of torch, diffusers and transformers get their types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import safetensors
import safetensors.torch
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.controlnet.pipeline_controlnet import StableDiffusionControlNetPipeline
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from numpy.typing import NDArray
from peft import LoraConfig
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

Module = TypeVar("Module", bound=nn.Module)


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Return every tensor of a safetensors file, by name."""
    untyped: Any = safetensors.torch
    return cast(dict[str, Tensor], untyped.load_file(file))


def read_about(file: Path) -> dict[str, str]:
    """Return the words about the tensors in a safetensors file's header."""
    untyped: Any = safetensors.safe_open(file, framework="pt")
    with untyped as opened:
        return cast(dict[str, str], opened.metadata())


def write_tensors(
    tensors: Mapping[str, Tensor], file: Path, about: Mapping[str, str] | None = None
) -> None:
    """Write tensors by name to a safetensors file, with words about them in its header."""
    untyped: Any = safetensors.torch
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    untyped.save_file(whole, file, metadata=dict(about) if about else None)


def tensor_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Return what a safetensors file of the tensors holds after its header."""
    untyped: Any = safetensors.torch
    data = cast(bytes, untyped.save(dict(tensors)))
    return data[8 + int.from_bytes(data[:8], "little") :]


def seed_initial_weights(seed: int) -> None:
    """Seed the generator that new layers take their weights from."""
    torch.default_generator.manual_seed(seed)


def place(
    module: Module,
    device: torch.device,
    dtype: torch.dtype,
    layout: torch.memory_format = torch.contiguous_format,
) -> Module:
    """Move a module to a device, a type and a memory layout, in place, and return it."""
    # The plain `to`: that of diffusers warns at every cast.
    untyped: Any = nn.Module
    untyped.to(module, device=device, dtype=dtype, memory_format=layout)
    return module


def where(module: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Return the device and the type a module computes on and in."""
    parameter = next(module.parameters())
    return parameter.device, parameter.dtype


def tensor_of(array: NDArray[Any]) -> Tensor:
    """Return the array as a tensor that shares its memory."""
    untyped: Any = torch
    return cast(Tensor, untyped.from_numpy(array))


def pieces(tensor: Tensor, size: int) -> Sequence[Tensor]:
    """Return the tensor cut along its first axis into pieces of `size`."""
    return [tensor[start : start + size] for start in range(0, len(tensor), size)]


def new_autoencoder(**settings: object) -> AutoencoderKL:
    """Return an autoencoder of the given settings with the library's initial weights."""
    untyped: Any = AutoencoderKL
    return cast(AutoencoderKL, untyped(**settings))


def encode_pictures(vae: AutoencoderKL, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and log variance (N x 4 x H/8 x W/8, fp32) of pictures N x 3 x H x W."""
    untyped: Any = vae
    device, dtype = where(vae)
    latents = untyped.encode(x.to(device, dtype)).latent_dist
    return cast(Tensor, latents.mean).float(), cast(Tensor, latents.logvar).float()


def decode_latents(vae: AutoencoderKL, z: Tensor) -> Tensor:
    """Return pictures (N x 3 x H x W, fp32, about -1..1) of latents N x 4 x H/8 x W/8."""
    untyped: Any = vae
    device, dtype = where(vae)
    return cast(Tensor, untyped.decode(z.to(device, dtype)).sample).float()


def predict(unet: UNet2DConditionModel, noisy: Tensor, steps: Tensor, states: Tensor) -> Tensor:
    """Return the UNet's prediction (fp32) for noisy latents at `steps` under text `states`."""
    untyped: Any = unet
    device, dtype = where(unet)
    noisy = noisy.to(device, dtype).contiguous(memory_format=torch.channels_last)
    output = untyped(noisy, steps.to(device), states.to(device, dtype))
    return cast(Tensor, output.sample).float()


def predict_controlled(
    unet: UNet2DConditionModel,
    controlnet: ControlNetModel,
    noisy: Tensor,
    steps: Tensor,
    states: Tensor,
    hints: Tensor,
) -> Tensor:
    """Return the UNet's prediction (fp32) as steered by hints (N x 3 x H x W, 0..1)."""
    steered, untyped = cast(Any, controlnet), cast(Any, unet)
    device, dtype = where(unet)
    noisy = noisy.to(device, dtype).contiguous(memory_format=torch.channels_last)
    hints = hints.to(device, dtype).contiguous(memory_format=torch.channels_last)
    steps, states = steps.to(device), states.to(device, dtype)
    residuals = steered(noisy, steps, states, controlnet_cond=hints)
    output = untyped(
        noisy,
        steps,
        states,
        down_block_additional_residuals=residuals.down_block_res_samples,
        mid_block_additional_residual=residuals.mid_block_res_sample,
    )
    return cast(Tensor, output.sample).float()


def new_controlnet(unet: UNet2DConditionModel, channels: tuple[int, ...]) -> ControlNetModel:
    """Return a ControlNet that begins as the UNet's encoder; `channels` of its hint's embedding."""
    untyped: Any = ControlNetModel
    made = untyped.from_unet(unet, conditioning_embedding_out_channels=channels)
    return cast(ControlNetModel, made)


def save_model(model: ControlNetModel, folder: Path) -> None:
    """Write one model in the diffusers layout, weights in safetensors."""
    untyped: Any = model
    untyped.save_pretrained(str(folder), safe_serialization=True)


def add_lora(unet: UNet2DConditionModel, rank: int, layers: Sequence[str]) -> None:
    """Put fresh LoRA matrices of that rank beside the named layers; only they learn."""
    untyped: Any = unet
    untyped.requires_grad_(False)
    untyped.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(layers)))


def read_captions(encoder: CLIPTextModel, token_numbers: Tensor) -> Tensor:
    """Return the hidden states (N x 77 x width) of N x 77 token numbers."""
    untyped: Any = encoder
    return cast(Tensor, untyped(token_numbers.to(where(encoder)[0])).last_hidden_state)


def tokenized(tokenizer: CLIPTokenizer, texts: Sequence[str], length: int) -> Tensor:
    """Return N x length token numbers, padded and cut as the diffusers pipeline does."""
    untyped: Any = tokenizer
    encoded = untyped(
        list(texts),
        padding="max_length",
        max_length=length,
        truncation=True,
        return_tensors="pt",
    )
    return cast(Tensor, encoded.input_ids)


def save_tokenizer(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write the tokenizer in the layout diffusers loads."""
    untyped: Any = tokenizer
    untyped.save_pretrained(str(folder))


def load_tokenizer(folder: Path, **settings: object) -> CLIPTokenizer:
    """Return the tokenizer saved in `folder`."""
    untyped: Any = CLIPTokenizer
    return cast(CLIPTokenizer, untyped.from_pretrained(str(folder), **settings))


def new_pipeline(**parts: object) -> StableDiffusionPipeline:
    """Return a pipeline of the given parts, without safety checker and feature extractor."""
    untyped: Any = StableDiffusionPipeline
    absent = {"safety_checker": None, "feature_extractor": None}
    pipeline = untyped(**parts, **absent, requires_safety_checker=False)
    return cast(StableDiffusionPipeline, pipeline)


def save_pipeline(pipeline: StableDiffusionPipeline, folder: Path) -> None:
    """Write the pipeline in the diffusers layout, weights in safetensors."""
    untyped: Any = pipeline
    untyped.save_pretrained(str(folder), safe_serialization=True)


def read_pipeline(folder: Path) -> StableDiffusionPipeline:
    """Return the pipeline saved in `folder` in bf16, without a progress bar."""
    untyped: Any = StableDiffusionPipeline
    pipeline = untyped.from_pretrained(str(folder), dtype=torch.bfloat16)
    pipeline.set_progress_bar_config(disable=True)
    return cast(StableDiffusionPipeline, pipeline)


def run_pipeline(pipeline: StableDiffusionPipeline, **arguments: object) -> NDArray[np.float32]:
    """Return the pictures the pipeline makes, N x H x W x 3 in 0..1."""
    untyped: Any = pipeline
    return np.asarray(untyped(**arguments, output_type="np").images, np.float32)


def convolution(module: object) -> nn.Conv2d:
    """Return the module as the convolution it is known to be."""
    assert isinstance(module, nn.Conv2d)
    return module


def bias(layer: nn.Conv2d) -> Tensor:
    """Return the bias of a layer that has one."""
    assert layer.bias is not None
    return layer.bias


def read_controlnet(folder: Path) -> ControlNetModel:
    """Return the ControlNet saved in `folder`."""
    untyped: Any = ControlNetModel
    return cast(ControlNetModel, untyped.from_pretrained(str(folder), local_files_only=True))


def run_controlled(
    pipeline: StableDiffusionPipeline,
    controlnet: ControlNetModel,
    prompt: str,
    hint: Tensor,
    seed: int,
) -> NDArray[np.uint8]:
    """Return the picture of a prompt and a hint (1 x 3 x H x W, 0..1): 20 steps, guidance 5."""
    untyped: Any = StableDiffusionControlNetPipeline
    parts = {**pipeline.components, "requires_safety_checker": False}
    controlled = untyped(**parts, controlnet=controlnet)
    controlled.set_progress_bar_config(disable=True)
    made = controlled(
        prompt,
        image=hint,
        num_inference_steps=20,
        guidance_scale=5.0,
        generator=torch.Generator().manual_seed(seed),
        output_type="np",
    )
    return np.asarray(made.images[0] * 255).round().astype(np.uint8)


def set_loras(pipeline: StableDiffusionPipeline, files: Mapping[str, tuple[Path, float]]) -> None:
    """Apply LoRA files with their strengths, by names of choice; none takes them all off."""
    untyped: Any = pipeline
    untyped.unload_lora_weights()
    for name, (file, _) in files.items():
        untyped.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name=name)
    if files:
        untyped.set_adapters(list(files), [strength for _, strength in files.values()])
