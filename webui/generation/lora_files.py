"""Reads LoRA files: kohya's, diffusers' and peft's names, LoCon, LoHa, LoKr, DoRA, full."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import torch
from safetensors import SafetensorError, safe_open

from webui.errors import BrokenFileError
from webui.generation.lora_adapters import Adapter, read_adapters
from webui.generation.lora_deltas import (
    Delta,
    Full,
    Hadamard,
    Kronecker,
    LowRank,
    Replaced,
    Rows,
    Tensors,
    bytes_of,
    check_shapes,
    decomposed,
    low_rank,
    product_size,
)
from webui.generation.lora_names import Layer, Stacked, Target
from webui.generation.lora_stacked import rows_of, taken_apart
from webui.library.lora_facts import LORA_TENSOR, LoraPart
from webui.library.loras import LoraCard

NO_SUCH_LAYER = "has no such layers"
OTHER_SHAPE = "has layers of another shape"
UNKNOWN_KIND = "cannot be changed in this way"
OFT = "cannot be changed by OFT"
"""Why a layer of a LoRA is not applied: what is to be said of the model."""

_PLAIN: Mapping[str, str] = MappingProxyType(
    {
        "lora_down": "down",
        "lora_A": "down",
        "lora.down": "down",
        "lora_linear_layer.down": "down",
        "lora_up": "up",
        "lora_B": "up",
        "lora.up": "up",
        "lora_linear_layer.up": "up",
        "lora_mid": "mid",
    }
)
"""What trainers call the factors of a plain product, and what they are called here."""

_TENSOR = re.compile(
    r"(?P<layer>.+?)\.(?:"
    rf"(?P<plain>{'|'.join(map(re.escape, _PLAIN))})(?:\.default)?\.weight"
    r"|(?P<bias>lora_B|lora_up)(?:\.default)?\.bias"
    r"|(?P<other>lora_magnitude_vector|alpha|dora_scale|diff|diff_b|w_norm|b_norm"
    r"|hada_(?:w[12]_[ab]|t[12])|lokr_(?:w[12](?:_[ab])?|t2))(?:\.default)?(?:\.weight)?)"
)
_PROCESSOR = re.compile(r"(.+)\.processor\.(to_[qkv]|to_out)_lora\.(down|up)\.weight")
_XLABS = re.compile(r"(.+\.processor\.(?:qkv|proj)_lora[12]?)\.(down|up)\.weight")
_NORM = re.compile(r"(.+\.(?:norm\.(?:query|key)_norm|norm_(?:added_)?[qk]))\.(?:scale|weight)")
"""A norm of queries or keys as FLUX.1's makers and diffusers call it, which comes whole."""

_LENGTHS = ("dora_scale", "lora_magnitude_vector")


class Weight(NamedTuple):
    """A parameter of a model, such as ("unet", "conv_in.weight")."""

    part: LoraPart
    name: str


@dataclass(frozen=True)
class ReadLora:
    """A LoRA made ready for a model.

    Attributes:
        matched, total: Layers that fit the model, and layers in the file.
        misfits: How many layers do not fit, by what is to be said of the model.
        hint: What its first layer makes of the channels of a hint, which the model's lacks; None
            of one that takes no hint.
    """

    deltas: Mapping[Weight, Delta]
    matched: int
    total: int
    misfits: Mapping[str, int]
    hint: LowRank | None = None

    @property
    def nbytes(self) -> int:
        """Bytes it takes in memory."""
        own = sum(map(bytes_of, self.deltas.values()))
        return own + (0 if self.hint is None else bytes_of(self.hint))


@dataclass
class _Layer:
    """The tensors of one layer of a file, and what the first is called that is not understood."""

    tensors: Tensors = field(default_factory=dict[str, torch.Tensor])
    unknown: str | None = None


def read_lora(
    card: LoraCard, table: Mapping[str, Target], weights: Mapping[Weight, torch.Tensor]
) -> ReadLora:
    """The LoRA's deltas for a model's weights.

    Args:
        table: Spellings of the model's layers (`lora_names.spellings`).
        weights: The model's parameters, for shape, format, layout and device.

    Raises:
        BrokenFileError: The file is damaged, or holds numbers that are none.
    """
    layers, metadata = _read(card)
    known = {layer for name in layers if name in table for layer in _layers_of(table[name])}
    adapters = read_adapters(card, metadata, known)
    deltas: dict[Weight, Delta] = {}
    misfits: Counter[str] = Counter()
    hint: LowRank | None = None
    for name, layer in layers.items():
        target = table.get(name)
        if target is None or layer.unknown is not None:
            misfits[NO_SUCH_LAYER if target is None else _reason(layer.unknown)] += 1
            continue
        made: dict[Weight, Delta] = {}
        try:
            layer.tensors, of_hint = _parted(target, layer.tensors, weights)
            for one, tensors, rows in _one_by_one(target, layer.tensors, weights):
                made |= _deltas(one, tensors, rows, adapters.get(one.part), weights)
            hint = hint or _hint(made, of_hint)
        except (ValueError, RuntimeError, IndexError):
            misfits[OTHER_SHAPE] += 1
        except KeyError:
            misfits[UNKNOWN_KIND] += 1
        else:
            deltas |= made
    matched = len(layers) - misfits.total()
    return ReadLora(deltas, matched, len(layers), misfits, hint)


def _parted(
    target: Target, tensors: Tensors, weights: Mapping[Weight, torch.Tensor]
) -> tuple[Tensors, torch.Tensor | None]:
    """The tensors for what the model's layer takes, and what there is for the channels of a hint
    behind: FLUX.1's LoRAs for hints have its first layer take both."""
    if not isinstance(target, Layer) or target.path != _FIRST_LAYER or "down" not in tensors:
        return tensors, None
    own = weights[Weight(target.part, f"{target.path}.weight")].shape[1]
    down = tensors["down"]
    if down.shape[1] != 2 * own:
        return tensors, None
    return tensors | {"down": down[:, :own].contiguous()}, down[:, own:]


_FIRST_LAYER = "x_embedder"


def _hint(made: Mapping[Weight, Delta], down: torch.Tensor | None) -> LowRank | None:
    delta = next((one for one in made.values() if isinstance(one, LowRank)), None)
    return None if down is None or delta is None else replace(delta, down=down.to(delta.down))


def _layers_of(target: Target) -> tuple[Layer, ...]:
    return target.layers if isinstance(target, Stacked) else (target,)


def _one_by_one(
    target: Target, tensors: Tensors, weights: Mapping[Weight, torch.Tensor]
) -> Iterator[tuple[Layer, Tensors, Rows | None]]:
    """Each of the model's layers with the tensors that are for it, and which rows of what they
    make, where they make more.

    Raises:
        ValueError: The tensors are of another shape.
        KeyError: They cannot be taken apart.
    """
    if isinstance(target, Layer):
        yield target, tensors, None
        return
    outputs = [weights[Weight(one.part, f"{one.path}.weight")].shape[0] for one in target.layers]
    rows = rows_of(outputs, is_swapped=target.is_swapped)
    yield from zip(target.layers, taken_apart(tensors, rows), rows, strict=True)


def _read(card: LoraCard) -> tuple[dict[str, _Layer], dict[str, str]]:
    """The file's tensors by the spelling of their layer, and its metadata."""
    layers: defaultdict[str, _Layer] = defaultdict(_Layer)
    try:
        # safetensors declares no types.
        with cast(Any, safe_open)(card.path, framework="pt", device="cpu") as opened:
            for name in cast(list[str], opened.keys()):
                layer, tensor, known = _place(name)
                if not known:
                    layers[layer].unknown = layers[layer].unknown or tensor
                    continue
                value = cast(torch.Tensor, opened.get_tensor(name))
                if not torch.isfinite(value.float()).all():
                    raise BrokenFileError(
                        f"{card.file} holds invalid numbers in {name!r}: fetch it again.",
                        field="loras",
                    )
                layers[layer].tensors[tensor] = value
            return dict(layers), dict(opened.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise BrokenFileError(f"{card.file} cannot be read: {error}.", field="loras") from None


def _place(name: str) -> tuple[str, str, bool]:
    """Spelling of the layer, our name of the tensor, and whether that is understood."""
    if old := _PROCESSOR.fullmatch(name):
        module = "to_out.0" if old[2] == "to_out" else old[2]
        return f"{old[1]}.{module}", old[3], True
    if xlabs := _XLABS.fullmatch(name):
        return xlabs[1], xlabs[2], True
    found = _TENSOR.fullmatch(name)
    if found is not None:
        tensor = _PLAIN[found["plain"]] if found["plain"] else found["other"]
        return found["layer"], "up_bias" if found["bias"] else tensor, True
    if norm := _NORM.fullmatch(name):
        return norm[1], "norm", True
    end = LORA_TENSOR.search(name)
    layer, _, tensor = name.rpartition(".") if end is None else (name[: end.start()], "", end[0])
    return layer or name, tensor, False


def _reason(tensor: str | None) -> str:
    """Why a layer is left out that has a tensor of that name."""
    return OFT if tensor is not None and "oft_" in tensor else UNKNOWN_KIND


def _deltas(
    target: Layer,
    tensors: Tensors,
    rows: Rows | None,
    adapter: Adapter | None,
    weights: Mapping[Weight, torch.Tensor],
) -> dict[Weight, Delta]:
    """What one layer of a file does to the weight and the bias of the model's layer.

    Args:
        rows: Of a product that cannot be taken apart, those that are the layer's; None: all.

    Raises:
        ValueError: The tensors are of another shape.
        KeyError: One is missing, or the kind is not known.
    """
    deltas: dict[Weight, Delta] = {}
    for ours, theirs in (("weight", ("diff", "w_norm")), ("bias", ("diff_b", "b_norm"))):
        for tensor in theirs:
            if tensor in tensors:
                where = Weight(target.part, f"{target.path}.{ours}")
                deltas[where] = _full(tensors[tensor], weights[where])
    if tensors.keys() <= {"diff", "w_norm", "diff_b", "b_norm", "alpha"} and deltas:
        return deltas
    where = Weight(target.part, f"{target.path}.weight")
    if where in deltas:
        raise KeyError("two kinds at once")
    weight = weights[where]
    if "norm" in tensors:
        return {where: Replaced(_full(tensors["norm"], weight).diff)}
    delta = _factored(target.path, tensors, rows, adapter, weight)
    if "up_bias" in tensors:
        bias = Weight(target.part, f"{target.path}.bias")
        deltas[bias] = _full(tensors["up_bias"].float() * delta.scale, weights[bias])
    if any(lengths in tensors for lengths in _LENGTHS):
        delta = decomposed(delta, tensors, weight)
    return deltas | {where: delta}


def _factored(
    path: str,
    tensors: Tensors,
    rows: Rows | None,
    adapter: Adapter | None,
    weight: torch.Tensor,
) -> LowRank | Hadamard | Kronecker:
    def scale(rank: int | None) -> float:
        if adapter is not None:
            return adapter.scale(path, rank)
        return float(tensors["alpha"]) / rank if rank and "alpha" in tensors else 1.0

    if "down" in tensors:
        rank = tensors["down"].shape[0]
        return low_rank(tensors["up"], tensors["down"], tensors.get("mid"), scale(rank), weight)
    kind = "hada" if "hada_w1_a" in tensors else "lokr"
    rows = rows if kind == "lokr" else None
    outputs = len(weight) if rows is None else rows.total
    if product_size(tensors, kind) != outputs * weight[0].numel():
        raise ValueError(OTHER_SHAPE)
    own = {
        name: tensor.to(weight.device, copy=True)
        for name, tensor in tensors.items()
        if name.startswith(f"{kind}_")
    }
    if kind == "hada":
        delta = Hadamard(own, scale(own["hada_w1_b"].shape[0]))
    else:
        ranked = next((own[name] for name in ("lokr_w1_b", "lokr_w2_b") if name in own), None)
        delta = Kronecker(own, scale(None if ranked is None else ranked.shape[0]), rows)
    check_shapes(delta, weight)
    return delta


def _full(diff: torch.Tensor, weight: torch.Tensor) -> Full:
    if diff.numel() != weight.numel():
        raise ValueError(OTHER_SHAPE)
    return Full(diff.to(weight.device, copy=True))
