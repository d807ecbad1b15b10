"""Results of stages by frozen key: only what changed is computed again."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar, cast

import torch

from webui.generation.backbones.base import Encoding
from webui.generation.canvas import Canvas, Cover, Source
from webui.generation.control import Control
from webui.generation.fills import FILLS
from webui.generation.hints import Hint
from webui.generation.lora_plan import TimedStrength, denoiser_strengths, text_strengths
from webui.generation.loras import Strength
from webui.generation.plan import Plan
from webui.generation.prompt_plan import PromptPlan
from webui.generation.prompts import ParsedPrompt
from webui.generation.speed import Rung
from webui.request import (
    ControlKind,
    InpaintFill,
    PredictionName,
    SamplerName,
    ScheduleName,
)

T = TypeVar("T")


class Key(Generic[T]):
    """A frozen, hashable description of everything a result of type T depends on.

    Attributes:
        most_kept: How many results of this kind are kept at most; None: as many as there is room.
    """

    most_kept: ClassVar[int | None] = None


@dataclass(frozen=True)
class TextKey(Key[Encoding]):
    """One prompt as the text encoders give it."""

    model: str
    clip_skip: int
    prompt: ParsedPrompt
    loras: tuple[Strength, ...]


@dataclass(frozen=True)
class InitKey(Key[torch.Tensor]):
    """An encoded init picture, of shape (1, channels, height / 8, width / 8).

    `cover` and `fill` are set only where something is put under the mask before; `vae` where it is
    not the model's own.
    """

    model: str
    vae: str | None
    source: Source
    fill: InpaintFill
    cover: Cover | None


@dataclass(frozen=True)
class MaskKey(Key[torch.Tensor]):
    """A mask over the latents, of shape (1, 1, height / 8, width / 8)."""

    source: Source
    cover: Cover


@dataclass(frozen=True)
class ChannelsKey(Key[torch.Tensor]):
    """What a denoiser of 9 channels sees beside the latents: the mask, and the picture without what
    lies under it, of shape (1, 5, height / 8, width / 8).

    Without a source all is to be painted.
    """

    model: str
    vae: str | None
    width: int
    height: int
    source: Source | None
    cover: Cover | None


@dataclass(frozen=True)
class HintKey(Key[torch.Tensor]):
    """What a ControlNet is shown, as bytes of shape (3, height, width)."""

    hint: Hint


@dataclass(frozen=True)
class ControlKey:
    """What of a control unit shapes the latents; `net` is a content hash, None the model itself.

    `vae` is set where hints are encoded by one that is not the model's own.
    """

    hint: Hint
    net: str | None
    kind: ControlKind
    vae: str | None
    weight: float
    start: float
    end: float


@dataclass(frozen=True)
class StartKey:
    """What a denoising that starts from a picture depends on, beside what every one does."""

    init: InitKey
    mask: MaskKey | None
    steps: int
    fill: InpaintFill


@dataclass(frozen=True)
class PromptsKey:
    """The prompts that shape the latents: of the picture, and what it is steered away from."""

    model: str
    clip_skip: int
    prompts: tuple[PromptPlan, ...]
    loras: tuple[Strength, ...]


@dataclass(frozen=True)
class LatentsKey(Key[torch.Tensor]):
    """Denoised latents of one batch, of shape (batch, channels, height / 8, width / 8)."""

    prompts: PromptsKey
    loras: tuple[TimedStrength, ...]
    width: int
    height: int
    steps: int
    cfg: float
    guidance: float | None
    shift: float | None
    sampler: SamplerName
    schedule: ScheduleName
    seeds: tuple[int, ...]
    start: StartKey | None
    controls: tuple[ControlKey, ...]
    prediction: PredictionName | None
    rung: Rung
    refined: RefinedKey | None


@dataclass(frozen=True)
class RefinedKey:
    """What the last steps depend on: `latents` is what the refiner would make of all of them."""

    latents: LatentsKey
    steps: int


@dataclass(frozen=True)
class PicturesKey(Key[tuple[bytes, ...]]):
    """The finished pictures of one batch as PNG files without text.

    `mask_blur` is how they are pasted back, where not all is painted anew. They are on disk
    already, and made again from latents in a moment: only the newest are kept.
    """

    most_kept: ClassVar[int | None] = 32

    latents: LatentsKey
    vae: str | None
    mask_blur: int | None


def text_key(plan: Plan, prompt: ParsedPrompt) -> TextKey:
    """Key of the embeddings of one of the plan's prompts."""
    loras = text_strengths(plan.loras)
    return TextKey(plan.checkpoint.key, plan.request.clip_skip, prompt, loras)


def keys_of(plan: Plan, batch: int, rung: Rung) -> tuple[LatentsKey, PicturesKey]:
    """Keys of the latents and of the pictures of one of the plan's batches, made so."""
    latents = LatentsKey(
        prompts=PromptsKey(
            plan.checkpoint.key,
            plan.request.clip_skip,
            plan.prompts[batch],
            text_strengths(plan.loras),
        ),
        loras=denoiser_strengths(plan.loras),
        width=plan.paint_width,
        height=plan.paint_height,
        steps=plan.sampling.steps,
        cfg=plan.sampling.cfg if len(plan.prompts[batch]) > 1 else 1.0,
        guidance=plan.sampling.guidance,
        shift=plan.shift,
        sampler=plan.sampling.sampler,
        schedule=plan.sampling.schedule,
        seeds=plan.batches[batch],
        start=_start_key(plan),
        controls=tuple(_control_key(plan, control) for control in plan.controls),
        prediction=plan.request.prediction,
        rung=rung,
        refined=None
        if plan.refiner is None
        else RefinedKey(keys_of(plan.refiner, batch, rung)[0], plan.refiner.steps),
    )
    masked = plan.canvas is not None and plan.canvas.mask is not None
    return latents, PicturesKey(latents, _vae_key(plan), plan.request.mask_blur if masked else None)


def init_key(plan: Plan, canvas: Canvas) -> InitKey:
    """Key of the encoded init picture."""
    fills = canvas.fill in FILLS
    return InitKey(
        plan.checkpoint.key,
        _vae_key(plan),
        canvas.source,
        canvas.fill if fills else "original",
        canvas.cover if fills else None,
    )


def mask_key(canvas: Canvas) -> MaskKey | None:
    """Key of the mask over the latents, if there is one."""
    return None if canvas.cover is None else MaskKey(canvas.source, canvas.cover)


def channels_key(plan: Plan) -> ChannelsKey:
    """Key of what a denoiser of 9 channels sees beside the latents."""
    canvas = plan.canvas if plan.canvas is not None and plan.canvas.cover is not None else None
    return ChannelsKey(
        plan.checkpoint.key,
        _vae_key(plan),
        plan.paint_width,
        plan.paint_height,
        None if canvas is None else canvas.source,
        None if canvas is None else canvas.cover,
    )


def _start_key(plan: Plan) -> StartKey | None:
    canvas = plan.canvas
    if canvas is None:
        return None
    return StartKey(init_key(plan, canvas), mask_key(canvas), plan.steps, canvas.fill)


def _control_key(plan: Plan, control: Control) -> ControlKey:
    # Transformers' ControlNets are shown latents, those of UNets the hint itself.
    vae = _vae_key(plan) if plan.family.flow else None
    return ControlKey(
        control.hint,
        None if control.net is None else control.net.sha256,
        control.kind,
        vae,
        control.weight,
        control.start,
        control.end,
    )


def _vae_key(plan: Plan) -> str | None:
    return None if plan.vae is None else plan.vae.key


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
        if key.most_kept is not None:
            alike = [known for known in self._entries if type(known) is type(key)]
            for oldest in alike[: -key.most_kept]:
                self._bytes -= self._entries.pop(oldest)[1]
        while self._bytes > self._max_bytes:
            _, (_, freed) = self._entries.popitem(last=False)
            self._bytes -= freed

    def clear(self) -> None:
        """Forgets everything."""
        self._entries.clear()
        self._bytes = 0

    def drop(self, key: Key[Any]) -> None:
        """Forgets the result of that key, if it is held."""
        if key in self._entries:
            self._bytes -= self._entries.pop(key)[1]


def _size(value: object) -> int:
    """Bytes a stage's result takes."""
    match value:
        case None:
            return 0
        case torch.Tensor():
            return value.nbytes
        case bytes():
            return len(value)
        case tuple():
            return sum(_size(part) for part in cast(tuple[object, ...], value))
        case _:
            raise TypeError(f"a stage does not give {type(value).__name__}")
