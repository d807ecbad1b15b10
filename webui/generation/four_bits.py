"""Weights that bitsandbytes has packed, unpacked as they are read; the package is not needed.

Format: `QuantState.as_dict(packed=True)` of `bitsandbytes/functional.py` (0.50). Two numbers lie in
a byte, the first in the upper half, each the place of a value between -1 and 1 in a table of 16;
every block of numbers is scaled with its largest one, and these may be packed the same way in 8
bits each (Dettmers et al., arXiv 2305.14314, section 3). Of 8 bits: arXiv 2208.07339.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, cast

import torch

MARKS = (".quant_state.bitsandbytes__nf4", ".quant_state.bitsandbytes__fp4")
"""What is added to the name of a weight packed in 4 bits, for how it is."""

_ROWS = ".SCB"
"""Ends the name of the largest number of each row of a weight in 8 bits."""

_BESIDE = (
    *MARKS,
    *(".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map"),
    *(_ROWS, ".weight_format"),
)
_MOST_IN_BLOCK = 4096

Tensors = dict[str, torch.Tensor]


def is_packed(shapes: Mapping[str, object]) -> bool:
    """Whether there are packed weights among tensors of these names."""
    return any(name.endswith((*MARKS, _ROWS)) for name in shapes)


def bytes_unpacked(shapes: Mapping[str, tuple[int, ...]], name: str, itemsize: int) -> int | None:
    """Bytes of a tensor once it is unpacked; None for those that packing does not change.

    Args:
        shapes: Those of all tensors, by name.
        itemsize: Bytes of a number.
    """
    if name.endswith(_BESIDE):
        return 0
    if f"{name}.absmax" in shapes:
        return 2 * prod(shapes[name]) * itemsize
    return prod(shapes[name]) * itemsize if _rows_of(name) in shapes else None


def unpacked(tensors: Tensors, dtype: torch.dtype) -> Tensors:
    """The tensors with all that is packed in that format, by the weights' names alone.

    Raises:
        ValueError: What lies beside a packed weight is missing or does not fit it.
    """
    done: Tensors = {}
    for name, tensor in tensors.items():
        if name.endswith(_BESIDE):
            continue
        mark = next((f"{name}{mark}" for mark in MARKS if f"{name}{mark}" in tensors), None)
        if mark is not None:
            done[name] = _four_bits(name, tensors, _State.read(tensors[mark]), dtype)
        elif _rows_of(name) in tensors and tensor.dtype is torch.int8:
            order = tensors.get(f"{name}_format")
            if order is not None and bool(order.any()):
                raise ValueError(f"{name} is ordered as an old graphics card wants it")
            rows = tensors[_rows_of(name)].to(torch.float32)
            done[name] = (tensor.to(torch.float32) * (rows / 127)[:, None]).to(dtype)
        else:
            done[name] = tensor
    return done


@dataclass(frozen=True)
class _State:
    """How a weight is packed; `nested` where its blocks' scales are packed as well."""

    shape: tuple[int, ...]
    block: int
    nested_block: int
    nested_offset: float

    @classmethod
    def read(cls, state: torch.Tensor) -> _State:
        said: Any = json.loads(bytes(cast(Any, state).tolist()))
        try:
            shape = tuple(int(side) for side in said["shape"])
            block = int(said["blocksize"])
            nested = int(said.get("nested_blocksize", 0))
            offset = float(said.get("nested_offset", 0))
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError("it does not say how its weights are packed") from error
        if not (0 < block <= _MOST_IN_BLOCK and 0 <= nested <= _MOST_IN_BLOCK):
            raise ValueError("its weights are packed in blocks of no known size")
        return cls(shape, block, nested, offset)


def _four_bits(name: str, tensors: Tensors, state: _State, dtype: torch.dtype) -> torch.Tensor:
    beside = {end: tensors.get(f"{name}{end}") for end in _BESIDE}
    table, scales = beside[".quant_map"], beside[".absmax"]
    packed = tensors[name].flatten()
    if table is None or scales is None or table.numel() != 16 or packed.dtype is not torch.uint8:
        raise ValueError(f"what {name} is packed with is missing")
    if (prod(state.shape) + 1) // 2 != packed.numel():
        raise ValueError(f"{name} is packed in another shape than it says")
    if beside[".nested_absmax"] is not None:
        scales = _nested(name, scales, beside, state)
    if scales.numel() != -(-prod(state.shape) // state.block):
        raise ValueError(f"{name} has another number of scales than blocks")
    values = table.to(torch.float32)
    # A byte's two numbers at once: a table of 256 pairs.
    pairs = torch.cartesian_prod(values, values)
    numbers = pairs[packed.to(torch.int32)].flatten()[: prod(state.shape)]
    whole = len(numbers) // state.block * state.block
    numbers[:whole].view(-1, state.block).mul_(scales[: whole // state.block, None])
    numbers[whole:].mul_(scales[-1])
    return numbers.view(state.shape).to(dtype)


def _nested(
    name: str, packed: torch.Tensor, beside: Mapping[str, torch.Tensor | None], state: _State
) -> torch.Tensor:
    """The blocks' scales, where these are packed in blocks of 8 bits."""
    table, scales = beside[".nested_quant_map"], beside[".nested_absmax"]
    fits = table is not None and table.numel() == 256 and packed.dtype is torch.uint8
    if not fits or table is None or scales is None or not state.nested_block:
        raise ValueError(f"what {name} is packed with is missing")
    if scales.numel() != -(-packed.numel() // state.nested_block):
        raise ValueError(f"{name} has another number of scales than blocks")
    each = scales.to(torch.float32).repeat_interleave(state.nested_block)[: packed.numel()]
    return table.to(torch.float32)[packed.flatten().to(torch.int32)] * each + state.nested_offset


def _rows_of(name: str) -> str:
    return f"{name.removesuffix('.weight')}{_ROWS}"
