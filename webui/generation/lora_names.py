"""How LoRA files spell the layers of a model: one table from spelling to layer.

Made from the model's own modules. A spelling is never taken apart: with "." and "_" both written
as "_" that cannot be done.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import torch

Part = Literal["unet", "text_encoder"]


class Layer(NamedTuple):
    """A module with a weight, such as ("unet", "mid_block.resnets.0.conv1")."""

    part: Part
    path: str


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
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
    }
)
_BLOCK = re.compile(r"((?:down_blocks|up_blocks)\.\d+\.\w+\.\d+|mid_block\.\w+\.\d+)\.(.+)")


def spellings(parts: Mapping[Part, torch.nn.Module]) -> dict[str, Layer]:
    """Every spelling of every layer of a model of the family of Stable Diffusion 1."""
    table: dict[str, Layer] = {}
    unet, text_encoder = parts["unet"], parts["text_encoder"]
    blocks = dict(_sgm_blocks(unet))
    for path in _weighted(unet):
        layer = Layer("unet", path)
        for dotted in (path, f"unet.{path}"):
            table[dotted] = table[f"base_model.model.{dotted}"] = layer
        for name in filter(None, (path, _sgm(path, blocks))):
            table[f"lora_unet_{_mangled(name)}"] = layer
    for path in _weighted(text_encoder):
        layer = Layer("text_encoder", path)
        inner = path.removeprefix("text_model.")
        for name in (inner, f"text_model.{inner}"):
            for dotted in (name, f"text_encoder.{name}"):
                table[dotted] = table[f"base_model.model.{dotted}"] = layer
            for prefix in ("lora_te_", "lora_te1_"):
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
