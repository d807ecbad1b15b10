"""What a LoRA adds to one weight, by its kind.

Every kind gives its delta at strength 1; strengths scale it. Conventions of kohya's scripts,
LyCORIS (Yeh et al., 2023) and DoRA (Liu et al., 2024); convolutions flatten their kernel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, cast

import torch

Tensors = dict[str, torch.Tensor]


class Rows(NamedTuple):
    """Some rows of a matrix.

    Attributes:
        spans: From where to where, in their order here.
        total: Rows of the matrix.
    """

    spans: tuple[tuple[int, int], ...]
    total: int

    def of(self, matrix: torch.Tensor, dim: int = 0) -> torch.Tensor:
        """These of a matrix whose rows lie along a dimension."""
        parts = [matrix.narrow(dim, begin, end - begin) for begin, end in self.spans]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim)


class Delta(Protocol):
    """Something that can be added to a weight."""

    def of(self, base: torch.Tensor) -> torch.Tensor:
        """The delta for that weight, in float32 and of its shape."""
        ...


@dataclass(frozen=True, eq=False)
class LowRank:
    """A plain product `scale * up @ down`, the kind that is added with one `addmm`.

    Attributes:
        up: (out, rank) in float32, so that a strength is rounded once, together with it.
        down: (rank, in * kernel) in the weight's format, or in float32 where that has 8 bits;
            columns in the order of `rows(weight)`.
        scale: alpha / rank.
    """

    up: torch.Tensor
    down: torch.Tensor
    scale: float

    def of(self, base: torch.Tensor) -> torch.Tensor:
        """up @ down."""
        return unrows(self.up @ self.down.float() * self.scale, base)


@dataclass(frozen=True, eq=False)
class Hadamard:
    """LoHa: the elementwise product of two products, or of two Tucker products."""

    tensors: Tensors
    scale: float

    def of(self, base: torch.Tensor) -> torch.Tensor:
        """(w1_a @ w1_b) * (w2_a @ w2_b)."""
        first, second = (
            _product(self.tensors, f"hada_w{n}_a", f"hada_w{n}_b", f"hada_t{n}") for n in (1, 2)
        )
        return (first * second * self.scale).reshape(base.shape)


@dataclass(frozen=True, eq=False)
class Kronecker:
    """LoKr: the Kronecker product of two matrices, each whole or a product itself.

    Attributes:
        rows: The rows of the product that are the weight's; None: all.
    """

    tensors: Tensors
    scale: float
    rows: Rows | None = None

    def of(self, base: torch.Tensor) -> torch.Tensor:
        """w1 (x) w2."""
        first, second = (
            self.tensors[f"lokr_w{n}"].float()
            if f"lokr_w{n}" in self.tensors
            else _product(self.tensors, f"lokr_w{n}_a", f"lokr_w{n}_b", f"lokr_t{n}")
            for n in (1, 2)
        )
        first = first.reshape(*first.shape, *[1] * (second.ndim - first.ndim))
        spans = ((0, len(base)),) if self.rows is None else self.rows.spans
        parts = [_kronecker(first, second.contiguous(), begin, end) for begin, end in spans]
        whole = parts[0] if len(parts) == 1 else torch.cat(parts)
        return (whole * self.scale).reshape(base.shape)


@dataclass(frozen=True, eq=False)
class Full:
    """A whole difference of weights."""

    diff: torch.Tensor

    def of(self, base: torch.Tensor) -> torch.Tensor:
        """As it is."""
        return self.diff.float().reshape(base.shape)


@dataclass(frozen=True, eq=False)
class Replaced:
    """A weight in place of the model's, as FLUX.1's LoRAs for hints bring their norms."""

    value: torch.Tensor

    def of(self, base: torch.Tensor) -> torch.Tensor:
        """What leads from the model's to it."""
        return self.value.float().reshape(base.shape) - base.float()


@dataclass(frozen=True, eq=False)
class Decomposed:
    """DoRA: the changed weight brought to a learned length, for each output or each input.

    Attributes:
        magnitude: Of as many dimensions as the weight, 1 in all but the one it belongs to.
    """

    inner: Delta
    magnitude: torch.Tensor

    def of(self, base: torch.Tensor) -> torch.Tensor:
        """The changed weight at its learned lengths, less the weight."""
        whole = base.float()
        turned = whole + self.inner.of(base)
        others = tuple(n for n, size in enumerate(self.magnitude.shape) if size == 1)
        length = turned.square().sum(others, keepdim=True).sqrt()
        tiny = torch.finfo(torch.float32).tiny
        return turned * (self.magnitude.float() / length.clamp_min(tiny)) - whole


def bytes_of(delta: Delta) -> int:
    """Bytes the delta's tensors take."""
    return sum(tensor.nbytes for tensor in tensors_of(delta))


def tensors_of(delta: Delta) -> Iterator[torch.Tensor]:
    """What the delta is made of."""
    for value in vars(delta).values():
        match value:
            case torch.Tensor():
                yield value
            case dict():
                yield from cast(Tensors, value).values()
            case Decomposed() | LowRank() | Hadamard() | Kronecker() | Full() | Replaced():
                yield from tensors_of(value)
            case _:
                pass


def rows(weight: torch.Tensor) -> torch.Tensor:
    """The weight as a matrix (out, in * kernel), sharing its memory whatever its layout."""
    if _is_channels_last(weight):
        return weight.permute(0, 2, 3, 1).view(weight.shape[0], -1)
    return weight.view(weight.shape[0], -1)


def unrows(matrix: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """A matrix in the order of `rows(weight)` in the shape of the weight."""
    if _is_channels_last(weight):
        out, inner, *kernel = weight.shape
        return matrix.view(out, *kernel, inner).permute(0, 3, 1, 2)
    return matrix.view(weight.shape)


def low_rank(
    up: torch.Tensor,
    down: torch.Tensor,
    mid: torch.Tensor | None,
    scale: float,
    weight: torch.Tensor,
) -> LowRank:
    """A plain product for that weight, a Tucker core taken into `down`.

    Raises:
        ValueError: The tensors do not fit the weight or each other.
    """
    down, up = down.float(), up.float()
    if mid is not None:
        down = torch.einsum("mnkl,ni->mikl", mid.float(), down.flatten(1))
    rank = down.shape[0]
    if up.numel() != weight.shape[0] * rank or down.numel() != rank * weight[0].numel():
        raise ValueError("another shape")
    down = down.reshape(rank, *weight.shape[1:])
    if _is_channels_last(weight):
        down = down.permute(0, 2, 3, 1)
    return LowRank(
        up.reshape(weight.shape[0], rank).to(weight.device, copy=True),
        down.reshape(rank, -1).to(weight.device, _wide(weight.dtype), copy=True),
        scale,
    )


def merge_into(weight: torch.Tensor, base: torch.Tensor, deltas: list[tuple[Delta, float]]) -> None:
    """Writes `base` plus the deltas, each times its strength, into `weight`.

    Products are added by one multiplication, which sums in float32 and rounds once; where another
    kind is among them, the sum is made in float32 as a whole. Deltas may lie on another device than
    the weight.
    """
    deltas = [(on_device(delta, base.device), strength) for delta, strength in deltas]
    product = joined(deltas, base.dtype)
    if product is not None:
        torch.addmm(rows(base), product.up, product.down, out=rows(weight))
        return
    weight.copy_(summed(base, deltas))


def joined(deltas: Sequence[tuple[Delta, float]], dtype: torch.dtype) -> LowRank | None:
    """All of them, each times its strength, as one product of scale 1 that is concatenated along
    the rank, its factors in that format; None where another kind is among them."""
    products = [(delta, strength) for delta, strength in deltas if isinstance(delta, LowRank)]
    if len(products) < len(deltas):
        return None
    up = torch.cat([delta.up * (strength * delta.scale) for delta, strength in products], 1)
    down = torch.cat([delta.down for delta, _ in products])
    return LowRank(up.to(dtype), down.to(dtype), 1.0)


def summed(base: torch.Tensor, deltas: Sequence[tuple[Delta, float]]) -> torch.Tensor:
    """The weight plus the deltas, each times its strength, in float32."""
    total = base.float()
    for delta, strength in deltas:
        total = total + delta.of(base) * strength
    return total


def _wide(dtype: torch.dtype) -> torch.dtype:
    """The format that matrices for a weight of that format are kept in."""
    return dtype if dtype.itemsize > 1 else torch.float32


def on_device(delta: Delta, device: torch.device) -> Delta:
    """The delta with its tensors on that device."""
    found: Any = delta
    tensors: dict[str, object] = vars(delta)
    return replace(found, **{name: _moved(value, device) for name, value in tensors.items()})


def _moved(value: object, device: torch.device) -> object:
    match value:
        case torch.Tensor():
            return value.to(device)
        case dict():
            return {k: v.to(device) for k, v in cast(Tensors, value).items()}
        case Decomposed() | LowRank() | Hadamard() | Kronecker() | Full() | Replaced():
            return on_device(value, device)
        case _:
            return value


def decomposed(inner: Delta, tensors: Tensors, weight: torch.Tensor) -> Decomposed:
    """DoRA with lengths by output, or, as LyCORIS once wrote them in (1, in, ...), by input.

    Raises:
        ValueError: The lengths fit neither.
    """
    ones = [1] * (weight.ndim - 2)
    lengths = tensors.get("dora_scale", tensors.get("lora_magnitude_vector"))
    if lengths is None:
        raise ValueError("no lengths")
    by_input = "dora_scale" in tensors and lengths.ndim > 1 and lengths.shape[0] == 1
    if lengths.numel() != weight.shape[1 if by_input else 0]:
        raise ValueError("another shape")
    shape = (1, -1, *ones) if by_input else (-1, 1, *ones)
    return Decomposed(inner, lengths.reshape(shape).to(weight.device, copy=True))


def check_shapes(delta: Delta, weight: torch.Tensor) -> None:
    """Has a delta's shapes worked through for that weight, without its numbers.

    Raises:
        RuntimeError: They do not fit each other, or the weight.
    """
    nowhere = torch.device("meta")
    on_device(delta, nowhere).of(torch.empty(weight.shape, device=nowhere))


def product_size(tensors: Tensors, kind: str) -> int:
    """How many numbers the delta of a LoHa ("hada") or LoKr ("lokr") has.

    Raises:
        KeyError: A tensor is missing.
    """
    if kind == "hada":
        return _size(tensors, "hada_w1_a", "hada_w1_b", "hada_t1")
    return math.prod(
        tensors[f"lokr_w{n}"].numel()
        if f"lokr_w{n}" in tensors
        else _size(tensors, f"lokr_w{n}_a", f"lokr_w{n}_b", f"lokr_t{n}")
        for n in (1, 2)
    )


def _size(tensors: Tensors, a: str, b: str, core: str) -> int:
    if core in tensors:
        kernel = math.prod(tensors[core].shape[2:])
        return tensors[a].shape[1] * tensors[b].shape[1] * kernel
    return tensors[a].shape[0] * tensors[b].flatten(1).shape[1]


def _product(tensors: Tensors, a: str, b: str, core: str) -> torch.Tensor:
    left, right = tensors[a].float(), tensors[b].float()
    if core in tensors:
        return torch.einsum("ijkl,jr,ip->prkl", tensors[core].float(), right, left)
    return left @ right.flatten(1)


def _kronecker(first: torch.Tensor, second: torch.Tensor, begin: int, end: int) -> torch.Tensor:
    """Some rows of the product, computed from only what they are made of."""
    height = len(second)
    skipped = begin // height
    product = torch.kron(first[skipped : -(-end // height)], second)
    return product[begin - skipped * height : end - skipped * height]


def _is_channels_last(weight: torch.Tensor) -> bool:
    return weight.ndim == 4 and not weight.is_contiguous()
