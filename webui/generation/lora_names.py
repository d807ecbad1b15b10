"""How LoRA files spell the layers of a model: one table from spelling to layer.

Made from the model's own modules. A spelling is never taken apart: with "." and "_" both written
as "_" that cannot be done.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

from webui.generation.lora_transformers import own_names, trainers_names
from webui.library.lora_facts import LoraPart


class Layer(NamedTuple):
    """A module with a weight, such as ("unet", "mid_block.resnets.0.conv1")."""

    part: LoraPart
    path: str


class Stacked(NamedTuple):
    """Layers that one layer of a file is for, whose outputs it has one above the other.

    Attributes:
        is_swapped: Whether the file has the second half of each one's outputs first.
    """

    layers: tuple[Layer, ...]
    is_swapped: bool = False


Target = Layer | Stacked


_RESNET: Mapping[str, str] = MappingProxyType(
    {
        "norm1": "in_layers.0",
        "conv1": "in_layers.2",
        "time_emb_proj": "emb_layers.1",
        "norm2": "out_layers.0",
        "conv2": "out_layers.3",
        "conv_shortcut": "skip_connection",
    }
)
_ENDS: Mapping[str, str] = MappingProxyType(
    {
        "conv_in": "input_blocks.0.0",
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
    }
)
_ENCODERS: Mapping[LoraPart, tuple[str, ...]] = MappingProxyType(
    {
        "text_encoder": ("lora_te_", "lora_te1_"),
        "text_encoder_2": ("lora_te2_",),
        "text_encoder_3": ("lora_te3_",),
    }
)
"""How kohya's names of each text encoder's layers begin."""

_T5 = "lora_te3_"
"""How those of T5 begin, whichever encoder of a model it is."""

_COMFY: Mapping[LoraPart, tuple[str, ...]] = MappingProxyType(
    {"text_encoder": ("clip_l", "clip_h"), "text_encoder_2": ("clip_g",)}
)
_COMFY_T5 = "t5xxl"
"""What ComfyUI calls the text encoders."""

_OF_UNET = ("lora_unet_", "lycoris_")
_OF_TRANSFORMER = (*_OF_UNET, "lora_transformer_")
"""How kohya's, LyCORIS's and OneTrainer's names of a denoiser's layers begin."""

_BLOCK = re.compile(r"((?:down_blocks|up_blocks)\.\d+\.\w+\.\d+|mid_block\.\w+\.\d+)\.(.+)")


def spellings(parts: Mapping[LoraPart, torch.nn.Module]) -> dict[str, Target]:
    """Every spelling of every layer of a model's parts."""
    table: dict[str, Target] = {}
    for part, module in parts.items():
        if part == "unet":
            table |= _of_unet(module)
        elif part == "transformer":
            table |= _of_transformer(module)
        elif part in _ENCODERS:
            table |= _of_encoder(part, module)
    return table


def _of_unet(unet: torch.nn.Module) -> dict[str, Target]:
    table: dict[str, Target] = {}
    blocks = dict(_sgm_blocks(unet))
    for path in _weighted(unet):
        layer = Layer("unet", path)
        for dotted in (path, f"unet.{path}"):
            table[dotted] = table[f"base_model.model.{dotted}"] = layer
        sgm = _sgm(path, blocks)
        if sgm is not None:
            table[f"diffusion_model.{sgm}"] = layer
        for name in filter(None, (path, sgm)):
            for prefix in _OF_UNET:
                table[prefix + _mangled(name)] = layer
    return table


def _of_transformer(transformer: torch.nn.Module) -> dict[str, Target]:
    table: dict[str, Target] = {}
    paths = dict.fromkeys(_weighted(transformer))
    kind = type(transformer).__name__
    targets: dict[str, Target] = {path: Layer("transformer", path) for path in paths}
    for name, ours, is_swapped in (*own_names(kind, paths), *trainers_names(kind, paths)):
        layers = tuple(Layer("transformer", path) for path in ours)
        is_one = len(layers) == 1 and not is_swapped
        targets[name] = layers[0] if is_one else Stacked(layers, is_swapped)
    for name, target in targets.items():
        for dotted in (name, f"transformer.{name}", f"diffusion_model.{name}"):
            table[dotted] = table[f"base_model.model.{dotted}"] = target
        for prefix in _OF_TRANSFORMER:
            table[prefix + _mangled(name)] = target
    return table


def _of_encoder(part: LoraPart, encoder: torch.nn.Module) -> dict[str, Target]:
    table: dict[str, Target] = {}
    is_t5 = type(encoder).__name__ == "T5EncoderModel"
    prefixes = dict.fromkeys((*_ENCODERS[part], *((_T5,) if is_t5 else ())))
    comfy = (_COMFY_T5,) if is_t5 else _COMFY.get(part, ())
    for path in _weighted(encoder):
        layer = Layer(part, path)
        inner = path.removeprefix("text_model.")
        for name in (inner, f"text_model.{inner}"):
            # Without the part's name before it, the first encoder is meant.
            alone = (name,) if part == "text_encoder" else ()
            for dotted in (*alone, f"{part}.{name}"):
                table[dotted] = table[f"base_model.model.{dotted}"] = layer
            for encoder_name in comfy:
                table[f"text_encoders.{encoder_name}.transformer.{name}"] = layer
            for prefix in prefixes:
                table[prefix + _mangled(name)] = layer
    return table


def _weighted(module: torch.nn.Module) -> Iterator[str]:
    """Paths of the modules that have a weight of their own, but for embeddings."""
    # torch declares neither names nor modules here.
    untyped: Any = module
    for path, one in untyped.named_modules():
        is_embedding = isinstance(one, torch.nn.Embedding)
        if isinstance(getattr(one, "weight", None), torch.nn.Parameter) and not is_embedding:
            yield path


def _mangled(path: str) -> str:
    return path.replace(".", "_")


def _sgm_blocks(unet: Any) -> Iterator[tuple[str, str]]:
    """Our name of each inner block and the one in Stability's own code, which counts through."""
    number = 1
    for i, block in enumerate(unet.down_blocks):
        for j in range(len(block.resnets)):
            yield f"down_blocks.{i}.resnets.{j}", f"input_blocks.{number}.0"
            yield f"down_blocks.{i}.attentions.{j}", f"input_blocks.{number}.1"
            number += 1
        if block.downsamplers is not None:
            yield f"down_blocks.{i}.downsamplers.0", f"input_blocks.{number}.0"
            number += 1
    yield "mid_block.resnets.0", "middle_block.0"
    yield "mid_block.attentions.0", "middle_block.1"
    yield "mid_block.resnets.1", "middle_block.2"
    number = 0
    for i, block in enumerate(unet.up_blocks):
        attends = hasattr(block, "attentions")
        for j in range(len(block.resnets)):
            yield f"up_blocks.{i}.resnets.{j}", f"output_blocks.{number}.0"
            yield f"up_blocks.{i}.attentions.{j}", f"output_blocks.{number}.1"
            number += 1
        if block.upsamplers is not None:
            yield f"up_blocks.{i}.upsamplers.0", f"output_blocks.{number - 1}.{1 + attends}"


def _sgm(path: str, blocks: Mapping[str, str]) -> str | None:
    """The layer's name in Stability's own code."""
    found = _BLOCK.fullmatch(path)
    if found is None:
        return _ENDS.get(path)
    block, inner = found.groups()
    if ".resnets." in block:
        inner = _RESNET[inner]
    if ".downsamplers." in block:
        inner = "op"
    return f"{blocks[block]}.{inner}"
