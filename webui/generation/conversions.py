"""Names of tensors as other programs write them, turned into diffusers' and transformers'."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

import torch
from diffusers.loaders import single_file_model, single_file_utils
from torch import nn

from webui.generation.weights import Tensors

_UNET = "model.diffusion_model."
"""What diffusers' conversion of a UNet wants before the names."""

_ALREADY = ("down_blocks.0.resnets.0.norm1.weight", "encoder.mid_block.resnets.0.conv1.weight")
"""Tensors that a UNet or VAE has in diffusers' layout alone."""

_FOREIGN_STARTS = re.compile(r"^(?:(?:text_model|transformer|model|language_model)\.)+")
"""What programs put before the names of the same text encoder's tensors."""


def convert_network(
    tensors: Tensors, kind: str, config: Mapping[str, Any], names: Mapping[str, object]
) -> Tensors:
    """A denoiser's or VAE's tensors by diffusers' names.

    Args:
        tensors: By the file's names, without a prefix; emptied on the way.
        kind: The class, such as "UNet2DConditionModel".
        config: Its configuration.
        names: The names that the class has.

    Raises:
        KeyError, IndexError, ValueError, RuntimeError: A tensor is missing or of another shape.
    """
    if tensors.keys() >= names.keys() or any(name in tensors for name in _ALREADY):
        return tensors
    if kind == "UNet2DConditionModel":
        return _converted(kind, {_UNET + name: t for name, t in tensors.items()}, config)
    if kind == "AutoencoderKLFlux2":
        return _flux2_vae(tensors, config)
    if kind == "AutoencoderKLQwenImage":
        # The same network, part by part, as Wan's.
        return _converted("AutoencoderKLWan", tensors, config)
    return _converted(kind, tensors, config)


def _converted(kind: str, tensors: Tensors, config: Mapping[str, Any]) -> Tensors:
    kinds = cast(Any, single_file_model).SINGLE_FILE_LOADABLE_CLASSES
    return kinds[kind]["checkpoint_mapping_fn"](checkpoint=tensors, config=dict(config))


def _flux2_vae(tensors: Tensors, config: Mapping[str, Any]) -> Tensors:
    """FLUX.2's: the LDM layout, its last convolutions elsewhere and statistics of latents beside.

    Source: `scripts/convert_flux2_to_diffusers.py` of diffusers.
    """
    moved = {
        re.sub(r"^(?:encoder|decoder)\.((?:post_)?quant_conv\.)", r"\1", name): tensor
        for name, tensor in tensors.items()
    }
    statistics = {name: tensor for name, tensor in moved.items() if name.startswith("bn.")}
    return _converted("AutoencoderKL", moved, config) | statistics


def convert_text_encoder(tensors: Tensors, model: nn.Module) -> Tensors:
    """A text encoder's tensors by the names of the model, which says what it has.

    Args:
        tensors: By the file's names, without a prefix: transformers' own names in any of the
            forms they had, or OpenCLIP's.
    """
    if "positional_embedding" in tensors:
        read = cast(Any, single_file_utils).convert_open_clip_checkpoint
        named = {f"{_OPEN_CLIP}{name}": tensor for name, tensor in tensors.items()}
        tensors = read(model, named, prefix=_OPEN_CLIP)
    plain = {_FOREIGN_STARTS.sub("", name): tensor for name, tensor in tensors.items()}
    names = {_FOREIGN_STARTS.sub("", name): name for name in model.state_dict()}
    return {names[name]: tensor for name, tensor in plain.items() if name in names}


_OPEN_CLIP = "conditioner.embedders.1.model."
"""What diffusers' conversion of OpenCLIP's names wants before them."""


def without_unused(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Takes the parts of a language model out that reading a text needs none of, where the file
    leaves them out: its eyes and its mouth."""
    for path in _UNUSED:
        holder, _, name = path.rpartition(".")
        try:
            parent = model.get_submodule(holder)
            parent.get_submodule(name)
        except AttributeError:
            continue
        if not any(tensor.startswith(f"{path}.") for tensor in tensors):
            setattr(parent, name, nn.Identity())


_UNUSED = ("lm_head", "model.visual", "model.vision_tower", "model.multi_modal_projector")
