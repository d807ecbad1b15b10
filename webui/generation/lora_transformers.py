"""What the layers of transformers are called in the code of those who made the models.

LoRAs trained with it, or with tools over it, carry these names. Where it computes several of
diffusers' layers as one, the LoRA's one layer is for all of them, one above the other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

Paths = tuple[str, ...]
"""The layers of diffusers' model that one layer of the maker's code stands for, in order."""


@dataclass(frozen=True)
class Blocks:
    """A row of equal blocks.

    Attributes:
        own, ours: What the row is called there and in diffusers.
        layers: Layers of a block, by their names there.
        last_swapped: Which of these are as `Naming.swapped` in the last block.
    """

    own: str
    ours: str
    layers: Mapping[str, Paths]
    last_swapped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Naming:
    """All names of one architecture.

    Attributes:
        others: Layers outside of the blocks, by their names there.
        swapped: Those of them that give a shift and a scale there, and in diffusers a scale and a
            shift.
    """

    blocks: tuple[Blocks, ...]
    others: Mapping[str, str]
    swapped: tuple[str, ...] = ()


_LAST_NORM = "final_layer.adaLN_modulation.1"


_FLUX = Naming(
    (
        Blocks(
            "double_blocks",
            "transformer_blocks",
            MappingProxyType(
                {
                    "img_mod.lin": ("norm1.linear",),
                    "txt_mod.lin": ("norm1_context.linear",),
                    "img_attn.norm.query_norm": ("attn.norm_q",),
                    "img_attn.norm.key_norm": ("attn.norm_k",),
                    "txt_attn.norm.query_norm": ("attn.norm_added_q",),
                    "txt_attn.norm.key_norm": ("attn.norm_added_k",),
                    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
                    "img_attn.proj": ("attn.to_out.0",),
                    "img_mlp.0": ("ff.net.0.proj",),
                    "img_mlp.2": ("ff.net.2",),
                    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
                    "txt_attn.proj": ("attn.to_add_out",),
                    "txt_mlp.0": ("ff_context.net.0.proj",),
                    "txt_mlp.2": ("ff_context.net.2",),
                }
            ),
        ),
        Blocks(
            "single_blocks",
            "single_transformer_blocks",
            MappingProxyType(
                {
                    "modulation.lin": ("norm.linear",),
                    "norm.query_norm": ("attn.norm_q",),
                    "norm.key_norm": ("attn.norm_k",),
                    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
                    "linear2": ("proj_out",),
                }
            ),
        ),
    ),
    MappingProxyType(
        {
            "img_in": "x_embedder",
            "txt_in": "context_embedder",
            "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
            "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
            "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
            "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
            "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
            "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
            "final_layer.linear": "proj_out",
            _LAST_NORM: "norm_out.linear",
        }
    ),
    swapped=(_LAST_NORM,),
)

_SD3 = Naming(
    (
        Blocks(
            "joint_blocks",
            "transformer_blocks",
            MappingProxyType(
                {
                    "x_block.adaLN_modulation.1": ("norm1.linear",),
                    "context_block.adaLN_modulation.1": ("norm1_context.linear",),
                    "x_block.attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
                    "x_block.attn.proj": ("attn.to_out.0",),
                    "x_block.attn2.qkv": ("attn2.to_q", "attn2.to_k", "attn2.to_v"),
                    "x_block.attn2.proj": ("attn2.to_out.0",),
                    "x_block.mlp.fc1": ("ff.net.0.proj",),
                    "x_block.mlp.fc2": ("ff.net.2",),
                    "context_block.attn.qkv": (
                        "attn.add_q_proj",
                        "attn.add_k_proj",
                        "attn.add_v_proj",
                    ),
                    "context_block.attn.proj": ("attn.to_add_out",),
                    "context_block.mlp.fc1": ("ff_context.net.0.proj",),
                    "context_block.mlp.fc2": ("ff_context.net.2",),
                }
            ),
            last_swapped=("context_block.adaLN_modulation.1",),
        ),
    ),
    MappingProxyType(
        {
            "x_embedder.proj": "pos_embed.proj",
            "t_embedder.mlp.0": "time_text_embed.timestep_embedder.linear_1",
            "t_embedder.mlp.2": "time_text_embed.timestep_embedder.linear_2",
            "y_embedder.mlp.0": "time_text_embed.text_embedder.linear_1",
            "y_embedder.mlp.2": "time_text_embed.text_embedder.linear_2",
            "final_layer.linear": "proj_out",
            _LAST_NORM: "norm_out.linear",
        }
    ),
    swapped=(_LAST_NORM,),
)

_FLUX2 = Naming(
    (
        Blocks(
            "double_blocks",
            "transformer_blocks",
            MappingProxyType(
                {
                    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
                    "img_attn.proj": ("attn.to_out.0",),
                    "img_mlp.0": ("ff.linear_in",),
                    "img_mlp.2": ("ff.linear_out",),
                    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
                    "txt_attn.proj": ("attn.to_add_out",),
                    "txt_mlp.0": ("ff_context.linear_in",),
                    "txt_mlp.2": ("ff_context.linear_out",),
                }
            ),
        ),
        Blocks(
            "single_blocks",
            "single_transformer_blocks",
            MappingProxyType({"linear1": ("attn.to_qkv_mlp_proj",), "linear2": ("attn.to_out",)}),
        ),
    ),
    MappingProxyType(
        {
            "img_in": "x_embedder",
            "txt_in": "context_embedder",
            "time_in.in_layer": "time_guidance_embed.timestep_embedder.linear_1",
            "time_in.out_layer": "time_guidance_embed.timestep_embedder.linear_2",
            "guidance_in.in_layer": "time_guidance_embed.guidance_embedder.linear_1",
            "guidance_in.out_layer": "time_guidance_embed.guidance_embedder.linear_2",
            "double_stream_modulation_img.lin": "double_stream_modulation_img.linear",
            "double_stream_modulation_txt.lin": "double_stream_modulation_txt.linear",
            "single_stream_modulation.lin": "single_stream_modulation.linear",
            "final_layer.linear": "proj_out",
            _LAST_NORM: "norm_out.linear",
        }
    ),
    swapped=(_LAST_NORM,),
)

_Z_ATTENTION: Mapping[str, Paths] = MappingProxyType(
    {
        "attention.qkv": ("attention.to_q", "attention.to_k", "attention.to_v"),
        "attention.out": ("attention.to_out.0",),
    }
)
_Z_IMAGE = Naming(
    tuple(Blocks(row, row, _Z_ATTENTION) for row in ("layers", "noise_refiner", "context_refiner")),
    MappingProxyType(
        {
            "x_embedder": "all_x_embedder.2-1",
            "final_layer.linear": "all_final_layer.2-1.linear",
            "final_layer.adaLN_modulation.1": "all_final_layer.2-1.adaLN_modulation.1",
        }
    ),
)

_NAMINGS: Mapping[str, Naming] = MappingProxyType(
    {
        "FluxTransformer2DModel": _FLUX,
        "SD3Transformer2DModel": _SD3,
        "Flux2Transformer2DModel": _FLUX2,
        "ZImageTransformer2DModel": _Z_IMAGE,
    }
)
"""By diffusers' class; the others' makers have diffusers' names."""


_XLABS = Naming(
    (
        Blocks(
            "double_blocks",
            "transformer_blocks",
            MappingProxyType(
                {
                    "processor.qkv_lora1": ("attn.to_q", "attn.to_k", "attn.to_v"),
                    "processor.proj_lora1": ("attn.to_out.0",),
                    "processor.qkv_lora2": (
                        "attn.add_q_proj",
                        "attn.add_k_proj",
                        "attn.add_v_proj",
                    ),
                    "processor.proj_lora2": ("attn.to_add_out",),
                }
            ),
        ),
        Blocks(
            "single_blocks",
            "single_transformer_blocks",
            MappingProxyType(
                {
                    "processor.qkv_lora": ("attn.to_q", "attn.to_k", "attn.to_v"),
                    "processor.proj_lora": ("proj_out",),
                }
            ),
        ),
    ),
    MappingProxyType({}),
)

_TRAINERS: Mapping[str, Naming] = MappingProxyType({"FluxTransformer2DModel": _XLABS})


class Named(NamedTuple):
    """A layer of the maker's code.

    Attributes:
        layers: Those of diffusers' model that it stands for.
        is_swapped: Whether it is as `Naming.swapped`.
    """

    name: str
    layers: Paths
    is_swapped: bool


def own_names(kind: str, paths: Collection[str]) -> Iterator[Named]:
    """Names in the maker's code.

    Args:
        kind: Diffusers' class of the model.
        paths: Its layers.
    """
    return _named(_NAMINGS[kind], paths) if kind in _NAMINGS else iter(())


def trainers_names(kind: str, paths: Collection[str]) -> Iterator[Named]:
    """Names that only a trainer of LoRAs gave, otherwise as `own_names`."""
    return _named(_TRAINERS[kind], paths) if kind in _TRAINERS else iter(())


def _named(naming: Naming, paths: Collection[str]) -> Iterator[Named]:
    for blocks in naming.blocks:
        begin = f"{blocks.ours}."
        starts = (path[len(begin) :].partition(".")[0] for path in paths if path.startswith(begin))
        numbers = {int(start) for start in starts}
        for number in numbers:
            is_last = number == max(numbers)
            for own, layers in blocks.layers.items():
                ours = tuple(f"{begin}{number}.{layer}" for layer in layers)
                # The last block of some lacks what nothing reads any more.
                if all(path in paths for path in ours):
                    is_swapped = is_last and own in blocks.last_swapped
                    yield Named(f"{blocks.own}.{number}.{own}", ours, is_swapped)
    for own, ours in naming.others.items():
        if ours in paths:
            yield Named(own, (ours,), own in naming.swapped)
