"""Names of tensors as other programs write them, turned into diffusers' and transformers'."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, cast

import torch
from diffusers.loaders import single_file_model, single_file_utils
from torch import nn

from webui.generation.language_models import plain_name
from webui.generation.weights import Tensors
from webui.library.architectures import GUIDANCE_LAYERS

_UNET = "model.diffusion_model."
"""What diffusers' conversion of a UNet wants before the names."""

_ALREADY = ("down_blocks.0.resnets.0.norm1.weight", "encoder.mid_block.resnets.0.conv1.weight")
"""Tensors that a UNet or VAE has in diffusers' layout alone."""


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
    if kind in _LDM_VAES:
        tensors = {_vae_name(name): tensor for name, tensor in tensors.items()}
    if tensors.keys() >= names.keys() or any(name in tensors for name in _ALREADY):
        return tensors
    if kind == "UNet2DConditionModel":
        guidance = [tensors.pop(name) for name in GUIDANCE_LAYERS if name in tensors]
        made = converted(kind, {_UNET + name: t for name, t in tensors.items()}, config)
        # diffusers' conversion leaves it out.
        return made | dict.fromkeys(GUIDANCE_LAYERS[:1], guidance[0]) if guidance else made
    if kind == "AutoencoderKLFlux2":
        return _flux2_vae(tensors, config)
    if kind == "AutoencoderKLQwenImage":
        # The same network, part by part, as Wan's.
        return converted("AutoencoderKLWan", tensors, config)
    return converted(kind, tensors, config)


_LDM_VAES = ("AutoencoderKL", "AutoencoderKLFlux2")

_VAE_ATTENTION = re.compile(
    r"^((?:en|de)coder\.mid(\.attn_1|_block\.attentions\.0))"
    r"\.(to_q|to_k|to_v|to_out\.0|query|key|value|proj_attn)\."
)
_TODAYS: Mapping[str, str] = MappingProxyType(
    {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
)
_LDMS: Mapping[str, str] = MappingProxyType(
    {"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
)
"""The layers of a VAE's attention: as diffusers first called them by what it does today, and these
by what they are called in the LDM layout."""


def _vae_name(name: str) -> str:
    """The name of a VAE's tensor as its layout has it.

    Files that diffusers' script wrote back into the LDM layout have diffusers' own names in the
    attention; diffusers' first VAEs have others there than today's, which it renames too
    (`_fix_state_dict_keys_on_load`).
    """

    def layer(found: re.Match[str]) -> str:
        todays = _TODAYS.get(found[3], found[3])
        return f"{found[1]}.{_LDMS[todays] if found[2] == '.attn_1' else todays}."

    return _VAE_ATTENTION.sub(layer, name)


def fitted(tensors: Tensors, shapes: Mapping[str, torch.Tensor]) -> Tensors:
    """The tensors, those that differ from the network's in lengths of one alone in its shapes.

    Programs that convert files drop them, or write a linear layer as a convolution of one pixel.

    Args:
        tensors: By the network's names; those that are still packed are left as they are.
        shapes: The network's own tensors.
    """

    def fitting(name: str, tensor: torch.Tensor) -> torch.Tensor:
        shape = shapes[name].shape if name in shapes else tensor.shape
        alike = tensor.shape != shape and _without_ones(tensor) == _without_ones(shapes[name])
        return tensor.view(shape) if alike else tensor

    return {name: fitting(name, tensor) for name, tensor in tensors.items()}


def _without_ones(tensor: torch.Tensor) -> list[int]:
    return [length for length in tensor.shape if length != 1]


def fitted_config(kind: str, config: Mapping[str, Any], tensors: Tensors) -> Mapping[str, Any]:
    """A network's configuration, with what tells its kinds apart as the file has it.

    Of FLUX.2's VAE there is one whose decoder alone is narrower.

    Args:
        kind, config: As in `convert_network`.
        tensors: As they are in the file, without a prefix.

    Raises:
        KeyError, IndexError: A tensor is missing or of another shape.
    """
    if kind != "AutoencoderKLFlux2":
        return config
    widths, found = config["block_out_channels"], tensors[_DECODERS_FIRST].shape[0]
    if found == widths[-1]:
        return config
    narrow = [width * found // widths[-1] for width in widths]
    return {**config, "decoder_block_out_channels": narrow}


_DECODERS_FIRST = "decoder.conv_in.weight"
"""What a VAE's decoder begins with, at its widest."""


def converted(kind: str, tensors: Tensors, config: Mapping[str, Any]) -> Tensors:
    """What diffusers' own conversion for that class makes of the tensors."""
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
    return converted("AutoencoderKL", moved, config) | statistics


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
    plain = {plain_name(name): tensor for name, tensor in tensors.items()}
    names = {plain_name(name): name for name in model.state_dict()}
    return {names[name]: tensor for name, tensor in plain.items() if name in names}


_OPEN_CLIP = "conditioner.embedders.1.model."
"""What diffusers' conversion of OpenCLIP's names wants before them."""
