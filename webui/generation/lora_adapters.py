"""What peft's configuration beside a LoRA says of its strength."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any, cast, get_args

import regex

from webui.errors import BrokenFileError
from webui.generation.lora_names import Layer
from webui.library.lora_facts import LoraPart
from webui.library.loras import LoraCard, read_adapter_config

_PARTS: tuple[LoraPart, ...] = get_args(LoraPart)
_MAX_PATTERNS = 2_000
_MAX_PATTERN = 300
_MATCHING_SECONDS = 1.0
"""Time that all patterns of a file have: some regular expressions run for ever."""


@dataclass(frozen=True)
class Adapter:
    """What is said of the strength of one part of a LoRA.

    Attributes:
        alpha, rank: Of all layers but those that have their own.
        alphas, ranks: By the layer's path.
        root: Whether the scale is alpha / sqrt(rank) ("rslora").
    """

    alpha: float
    rank: int
    alphas: Mapping[str, float]
    ranks: Mapping[str, int]
    root: bool

    def scale(self, path: str, rank: int | None) -> float:
        """The factor of the layer's product; `rank` is that of its tensors, where they show it."""
        alpha = self.alphas.get(path, self.alpha)
        rank = rank or self.ranks.get(path, self.rank)
        return alpha / (rank**0.5 if self.root else rank)


def read_adapters(
    card: LoraCard, metadata: Mapping[str, str], layers: Collection[Layer]
) -> Mapping[LoraPart, Adapter]:
    """The configurations by part: from the file beside, or from diffusers' metadata.

    Args:
        metadata: Of the LoRA's file.
        layers: The model's layers that the LoRA has something for.

    Raises:
        BrokenFileError: They are damaged, or cannot be made sense of.
    """
    if card.config is not None:
        config = read_adapter_config(card.config)
        said: dict[LoraPart, Mapping[str, Any]] = dict.fromkeys(_PARTS, config)
    else:
        said = _said_by_diffusers(card, metadata)
    parts: dict[LoraPart, Adapter] = {}
    for part, config in said.items():
        paths = [layer.path for layer in layers if layer.part == part]
        if config.get("lora_alpha", config.get("alpha")) is None:
            continue
        try:
            parts[part] = _adapter(config, paths)
        except (KeyError, TypeError, ValueError, OverflowError, TimeoutError, regex.error):
            raise _damaged(card) from None
    return parts


def _said_by_diffusers(
    card: LoraCard, metadata: Mapping[str, str]
) -> dict[LoraPart, Mapping[str, Any]]:
    try:
        said: Any = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise _damaged(card)
    return {
        part: {
            key.removeprefix(f"{part}."): value
            for key, value in cast(dict[str, Any], said).items()
            if key.startswith(f"{part}.")
        }
        for part in _PARTS
    }


def _adapter(config: Mapping[str, Any], paths: Collection[str]) -> Adapter:
    rank = int(config["r"])
    patterns = {name: dict(config.get(f"{name}_pattern") or {}) for name in ("alpha", "rank")}
    alphas, ranks = _by_path(patterns["alpha"], paths), _by_path(patterns["rank"], paths)
    adapter = Adapter(
        alpha=float(config.get("lora_alpha", config.get("alpha"))),
        rank=rank,
        alphas={path: float(alpha) for path, alpha in alphas.items()},
        ranks={path: int(own) for path, own in ranks.items()},
        root=bool(config.get("use_rslora")),
    )
    if min((rank, *adapter.ranks.values())) < 1:
        raise ValueError("no rank")
    if not all(map(math.isfinite, (adapter.alpha, *adapter.alphas.values()))):
        raise ValueError("no number")
    return adapter


def _by_path(patterns: Mapping[str, Any], paths: Collection[str]) -> dict[str, Any]:
    """The value of the first pattern that fits each path, as peft's `get_pattern_key` finds it.

    Raises:
        ValueError: There are too many patterns, or one is too long.
        TimeoutError: They take too long.
        regex.error: One is no regular expression.
    """
    if len(patterns) > _MAX_PATTERNS or any(len(name) > _MAX_PATTERN for name in patterns):
        raise ValueError("too long")
    until = perf_counter() + _MATCHING_SECONDS
    compiled = [(regex.compile(rf"(.*\.)?({name})$"), own) for name, own in patterns.items()]
    found: dict[str, Any] = {}
    for path in paths if compiled else ():
        # transformers has left out the first module of CLIP's text encoder since its version 5.
        for pattern, own in compiled:
            left = max(until - perf_counter(), 1e-6)
            if any(pattern.match(name, timeout=left) for name in (path, f"text_model.{path}")):
                found[path] = own
                break
    return found


def _damaged(card: LoraCard) -> BrokenFileError:
    return BrokenFileError(
        f"{card.file} comes with a configuration of peft that cannot be read: fetch it again.",
        field="loras",
    )
