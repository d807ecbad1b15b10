"""Text encoders of GGUF files: unpacked as they are read, and named as transformers names them.

Names: `gguf/constants.py` of the gguf package (0.19).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from webui.errors import BrokenFileError
from webui.generation.weights import unpack_gguf

_TABLE = "token_embd.weight"

_T5 = (
    (r"^enc\.blk\.(\d+)\.attn_([qkvo])\.", r"encoder.block.\1.layer.0.SelfAttention.\2."),
    (
        r"^enc\.blk\.(\d+)\.attn_rel_b\.",
        r"encoder.block.\1.layer.0.SelfAttention.relative_attention_bias.",
    ),
    (r"^enc\.blk\.(\d+)\.attn_norm\.", r"encoder.block.\1.layer.0.layer_norm."),
    (r"^enc\.blk\.(\d+)\.ffn_norm\.", r"encoder.block.\1.layer.1.layer_norm."),
    (r"^enc\.blk\.(\d+)\.ffn_gate\.", r"encoder.block.\1.layer.1.DenseReluDense.wi_0."),
    (r"^enc\.blk\.(\d+)\.ffn_up\.", r"encoder.block.\1.layer.1.DenseReluDense.wi_1."),
    (r"^enc\.blk\.(\d+)\.ffn_down\.", r"encoder.block.\1.layer.1.DenseReluDense.wo."),
    (r"^enc\.output_norm\.", "encoder.final_layer_norm."),
    (r"^token_embd\.", "shared."),
)
_LANGUAGE_MODEL = (
    (r"^blk\.(\d+)\.attn_([qkv])\.", r"layers.\1.self_attn.\2_proj."),
    (r"^blk\.(\d+)\.attn_([qk])_norm\.", r"layers.\1.self_attn.\2_norm."),
    (r"^blk\.(\d+)\.attn_output\.", r"layers.\1.self_attn.o_proj."),
    (r"^blk\.(\d+)\.attn_norm\.", r"layers.\1.input_layernorm."),
    (r"^blk\.(\d+)\.ffn_norm\.", r"layers.\1.post_attention_layernorm."),
    (r"^blk\.(\d+)\.ffn_(gate|up|down)\.", r"layers.\1.mlp.\2_proj."),
    (r"^output_norm\.", "norm."),
    (r"^token_embd\.", "embed_tokens."),
    (r"^output\.", "lm_head."),
)

_TURNED = ("llama", "mistral3")
"""Architectures of which llama.cpp stores queries and keys in another order than transformers."""


def read_text_encoder(
    path: Path, dtype: torch.dtype, wanted: Callable[[str], bool]
) -> dict[str, torch.Tensor]:
    """The weights of a T5 or language model in that format, one after the other unpacked.

    Args:
        wanted: Whether a weight is read, by transformers' name.

    Raises:
        BrokenFileError: A tensor is stored in a way that is not read, or it is another network.
    """
    # The optional half of diffusers as well; slow to import, and few have such files.
    import gguf

    reader: Any = gguf.GGUFReader(str(path))
    names = {tensor.name: tensor for tensor in reader.tensors}
    if _TABLE not in names:
        raise BrokenFileError(
            f"{path.name} holds no text encoder that is known here: take a safetensors version.",
            field="model",
        )
    rules = _T5 if any(name.startswith("enc.") for name in names) else _LANGUAGE_MODEL
    architecture = str(_said(reader, "general.architecture"))
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in names.items():
        new = _renamed(name, rules)
        if new is None or not wanted(new):
            continue
        weight = unpack_gguf(tensor, path, dtype)
        heads = _heads(reader, architecture, new) if architecture in _TURNED else 0
        tensors[new] = _turned_back(weight, heads) if heads else weight
    return tensors


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str | None:
    for pattern, new in rules:
        renamed, found = re.subn(pattern, new, name)
        if found:
            return renamed
    return None


def _heads(reader: Any, architecture: str, name: str) -> int:
    """How many heads a layer's weights are ordered by; 0 where their order is the usual one."""
    if ".q_proj." in name:
        return int(_said(reader, f"{architecture}.attention.head_count"))
    if ".k_proj." in name:
        return int(_said(reader, f"{architecture}.attention.head_count_kv"))
    return 0


def _said(reader: Any, key: str) -> Any:
    field = reader.get_field(key)
    if field is None:
        raise BrokenFileError(f"{Path(reader.data.filename).name} does not say its {key}.")
    return field.contents()


def _turned_back(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows in transformers' order: the halves of a head apart, not the pairs side by side."""
    pairs = weight.view(heads, weight.shape[0] // heads // 2, 2, *weight.shape[1:])
    return pairs.transpose(1, 2).reshape(weight.shape)
