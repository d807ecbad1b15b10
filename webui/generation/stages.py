"""Results of stages by frozen key: only what changed is computed again."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import torch

from webui.generation.lora_plan import TimedStrength, denoiser_strengths, text_strengths
from webui.generation.loras import Strength
from webui.generation.prompts import ParsedPrompt
from webui.generation.resolve import Plan
from webui.request import SamplerName, ScheduleName

T = TypeVar("T")


class Key(Generic[T]):
    """A frozen, hashable description of everything a result of type T depends on."""


@dataclass(frozen=True)
class TextKey(Key[torch.Tensor]):
    """Text embeddings of one prompt, of shape (tokens, width)."""

    model: str
    clip_skip: int
    prompt: ParsedPrompt
    loras: tuple[Strength, ...]


@dataclass(frozen=True)
class LatentsKey(Key[torch.Tensor]):
    """Denoised latents of one batch, of shape (batch, channels, height / 8, width / 8)."""

    prompt: TextKey
    negative_prompt: TextKey | None
    loras: tuple[TimedStrength, ...]
    width: int
    height: int
    steps: int
    cfg: float
    sampler: SamplerName
    schedule: ScheduleName
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class PicturesKey(Key[tuple[bytes, ...]]):
    """The decoded pictures of one batch as PNG files without text."""

    latents: LatentsKey


def text_key(plan: Plan, prompt: ParsedPrompt) -> TextKey:
    """Key of the embeddings of one of the plan's prompts."""
    loras = text_strengths(plan.loras)
    return TextKey(plan.checkpoint.sha256, plan.request.clip_skip, prompt, loras)


def keys_of(plan: Plan, seeds: tuple[int, ...]) -> tuple[LatentsKey, PicturesKey]:
    """Keys of the latents and of the pictures of one of the plan's batches."""
    prompt, *negative = (text_key(plan, prompt) for prompt in plan.prompts)
    latents = LatentsKey(
        prompt=prompt,
        negative_prompt=negative[0] if negative else None,
        loras=denoiser_strengths(plan.loras),
        width=plan.width,
        height=plan.height,
        steps=plan.request.steps,
        cfg=plan.request.cfg,
        sampler=plan.request.sampler,
        schedule=plan.request.schedule,
        seeds=seeds,
    )
    return latents, PicturesKey(latents)


class StageCache:
    """Least recently used results go first once the bound in bytes is passed."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Key[Any], tuple[Any, int]] = OrderedDict()
        self._bytes = 0

    @property
    def bytes_held(self) -> int:
        """Sum of the sizes of all results held."""
        return self._bytes

    def get(self, key: Key[T]) -> T | None:
        """The result of that key, or None."""
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return cast(T, self._entries[key][0])

    def put(self, key: Key[T], value: T) -> None:
        """Keeps a result; one larger than the whole bound is not kept."""
        size = _size(value)
        if size > self._max_bytes:
            return
        if key in self._entries:
            self._bytes -= self._entries.pop(key)[1]
        self._entries[key] = (value, size)
        self._bytes += size
        while self._bytes > self._max_bytes:
            _, (_, freed) = self._entries.popitem(last=False)
            self._bytes -= freed


def _size(value: object) -> int:
    """Bytes a stage's result takes."""
    match value:
        case torch.Tensor():
            return value.nbytes
        case bytes():
            return len(value)
        case tuple():
            return sum(_size(part) for part in cast(tuple[object, ...], value))
        case _:
            raise TypeError(f"a stage does not give {type(value).__name__}")
