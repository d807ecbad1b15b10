"""A ControlNet from a single file, whatever names its tensors have there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from webui.errors import BrokenFileError
from webui.generation.conversions import converted
from webui.generation.devices import is_out_of_memory
from webui.generation.lora_transformers import own_names
from webui.generation.weights import Tensors, WeightFile, assign, build
from webui.library.controlnets import ControlNetFolder


def load_net(kind: Any, net: ControlNetFolder, file: Path, dtype: torch.dtype) -> Any:
    """The ControlNet, its weights views of the mapped file where they are of that format.

    Args:
        kind: Class of diffusers.

    Raises:
        BrokenFileError: The file is damaged, or lacks something.
    """
    tensors = WeightFile(file).take(net.prefix, dtype)
    config = dict(net.config)
    if net.class_name == "ZImageControlNetModel":
        config["add_control_noise_refiner"] = _refined_by(tensors, config)
    model: Any = build(lambda: kind.from_config(config))
    try:
        tensors = _renamed(tensors, net.class_name, config, model)
    except (KeyError, IndexError, ValueError, RuntimeError, AttributeError) as error:
        if is_out_of_memory(error):
            raise
        raise BrokenFileError(
            f"The ControlNet in {file.name} is incomplete: {str(error)[:120]}."
        ) from error
    assign(model, tensors, dtype, what=f"The ControlNet in {file.name}")
    return model


def _refined_by(tensors: Tensors, config: dict[str, Any]) -> str | None:
    """Which layers of a ControlNet for Z-Image refine its hint: version 2.0 brings its refiner
    along, but untrained, and uses others."""
    own = config["add_control_noise_refiner"]
    first = tensors.get("control_noise_refiner.0.before_proj.weight")
    return "control_layers" if first is not None and not first.any() else own


def _renamed(tensors: Tensors, class_name: str, config: dict[str, Any], model: Any) -> Tensors:
    """The tensors by diffusers' names."""
    if "input_hint_block.0.weight" in tensors:
        if class_name == "FluxControlNetModel":
            return dict(_of_xlabs(tensors, model))
        added = {
            f"add_embedding.linear_{at}.{end}": tensors[f"label_emb.0.{2 * at - 2}.{end}"]
            for at in (1, 2)
            for end in ("weight", "bias")
            if "label_emb.0.0.weight" in tensors
        }
        # diffusers' conversion has nothing where the file has nothing.
        named: dict[str, torch.Tensor | None] = {**converted("ControlNetModel", tensors, config)}
        return {name: tensor for name, tensor in named.items() if tensor is not None} | added
    if "transformer_blocks.0.attn.qkv.weight" in tensors:
        return dict(_of_stability(tensors))
    return tensors


def _of_xlabs(tensors: Tensors, model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """FLUX.1's makers' names, and those of the hint's own layers, which are numbered through."""
    expected: dict[str, torch.Tensor] = model.state_dict()
    layers = [name.rpartition(".")[0] for name in expected]
    for own, ours, is_swapped in own_names("FluxTransformer2DModel", layers):
        assert not is_swapped, "ControlNets have no last norm."
        for end in ("weight", "bias", "scale"):
            if f"{own}.{end}" in tensors:
                end_of_ours = "weight" if end == "scale" else end
                names = [f"{path}.{end_of_ours}" for path in ours]
                whole: Any = tensors[f"{own}.{end}"]
                parts = whole.split([len(expected[name]) for name in names])
                yield from zip(names, parts, strict=True)
    for name, tensor in tensors.items():
        if name.startswith("controlnet_"):
            yield name, tensor
        elif name.startswith("pos_embed_input."):
            yield name.replace("pos_embed_input", "controlnet_x_embedder"), tensor
        elif hint := re.fullmatch(r"input_hint_block\.(\d+)\.(weight|bias)", name):
            layer = {0: "conv_in", 14: "conv_out"}.get(
                int(hint[1]), f"blocks.{int(hint[1]) // 2 - 1}"
            )
            yield f"input_hint_block.{layer}.{hint[2]}", tensor


_STABILITY = (
    ("attn.proj.", "attn.to_out.0."),
    ("mlp.fc1.", "ff.net.0.proj."),
    ("mlp.fc2.", "ff.net.2."),
    ("adaLN_modulation.1.", "norm1.linear."),
)
"""Source: `scripts/convert_sd3_controlnet_to_diffusers.py` of diffusers."""


def _of_stability(tensors: Tensors) -> Iterator[tuple[str, torch.Tensor]]:
    for name, tensor in tensors.items():
        if ".attn.qkv." in name:
            for part, values in zip("qkv", tensor.chunk(3), strict=True):
                yield name.replace(".attn.qkv.", f".attn.to_{part}."), values
            continue
        new = name
        if name.startswith("transformer_blocks."):
            for old, ours in _STABILITY:
                new = new.replace(old, ours)
        yield new, tensor
