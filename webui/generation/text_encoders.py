"""The text encoders of a model by its configurations, for counting tokens before it is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from webui.errors import BrokenFileError
from webui.generation import vocabulary
from webui.generation.companions import Companions
from webui.generation.families import Family
from webui.generation.prompt_rooms import CLIP_ROOM, PROMPT_ROOMS, PromptRoom
from webui.generation.stored_tokenizers import PIECES, is_stored, read_stored_tokenizer
from webui.generation.tokens import TextEncoder
from webui.generation.vocabulary import PromptTokenizer, read_own_tokenizer, read_tokenizer
from webui.library.checkpoints import Model, read_json
from webui.library.weight_files import INDEX

_PARTS = (
    ("text_encoder", "tokenizer"),
    ("text_encoder_2", "tokenizer_2"),
    ("text_encoder_3", "tokenizer_3"),
)
_CLIP = ("CLIPTextModel", "CLIPTextModelWithProjection")
_OF_WIDTH = MappingProxyType({768: "CLIP-L", 1024: "CLIP-H", 1280: "CLIP-G"})
_NAMES = (("T5", "T5"), ("Qwen", "Qwen"), ("Mistral", "Mistral"))
_CLIPS_TOKENIZER = "CLIPTokenizer"


class Layout(NamedTuple):
    """A text encoder without its vocabulary; see `webui.generation.tokens.TextEncoder`.

    Attributes:
        tokenizer: The name of its tokenizer's folder, below the model's.
        kind: Its tokenizer's class.
    """

    name: str
    tokenizer: str
    kind: str
    room: PromptRoom
    chunks: bool

    def with_tokenizer(self, tokenizer: PromptTokenizer | None) -> TextEncoder:
        """The encoder as it can count."""
        room = self.room.tokens - self.room.marks
        if tokenizer is not None:
            room -= sum(1 for _ in tokenizer.encode(self.room.before))
        return TextEncoder(self.name, tokenizer, room, self.chunks, self.room.before)


def layouts_of(model: Model, family: Family) -> tuple[Layout, ...]:
    """The model's text encoders in order. Those of CLIP, which read alike, are one.

    Raises:
        BrokenFileError: A configuration is missing or damaged.
    """
    index = read_json(model.path / INDEX, model=model.name)
    # An index need not name the parts of a family that has one encoder only.
    found = list(_found(model)) or [(_CLIP[0], _PARTS[0])]
    clip = [part for kind, part in found if kind in _CLIP]
    plain = PROMPT_ROOMS.get(family.backbone)
    layouts: list[Layout] = []

    def lay_out(name: str, tokenizer: str, room: PromptRoom) -> None:
        kind = _class_in(index, tokenizer) or _CLIPS_TOKENIZER
        layouts.append(Layout(name, tokenizer, kind, room, chunks=plain is None))

    if clip:
        names = dict.fromkeys(_OF_WIDTH.get(_width(model, part), "CLIP") for part, _ in clip)
        lay_out(" + ".join(names), clip[0][1], CLIP_ROOM)
    for kind, (_, tokenizer) in found:
        if kind not in _CLIP:
            name = next((name for word, name in _NAMES if word in kind), kind)
            lay_out(name, tokenizer, plain or CLIP_ROOM)
    return tuple(layouts)


def clip_widths(model: Model) -> tuple[int, ...]:
    """Widths of the model's text encoders in order, where all of them are CLIP; otherwise empty.

    Raises:
        BrokenFileError: A configuration is missing or damaged.
    """
    found = list(_found(model)) or [(_CLIP[0], _PARTS[0])]
    if any(kind not in _CLIP for kind, _ in found):
        return ()
    return tuple(_width(model, part) for _, (part, _) in found)


def find_vocabulary(model: Model, companions: Companions, layout: Layout) -> Path | None:
    """The folder or file with the tokenizer that the model is run with; None where there is none.

    A single file is run with CLIP's that is shipped, and its folder need not be there.

    Raises:
        BrokenFileError: The model's file is damaged.
    """
    if layout.kind == _CLIPS_TOKENIZER:
        return model.path / layout.tokenizer
    return companions.place(layout.tokenizer)


def tokenizer_in(place: Path, model: Model, layout: Layout) -> PromptTokenizer | None:
    """The tokenizer that was found there; None where it cannot be read."""
    try:
        if layout.kind == _CLIPS_TOKENIZER:
            return read_tokenizer(model, layout.tokenizer)
        if is_stored(place):
            return PromptTokenizer(read_stored_tokenizer(place).backend)
        return read_own_tokenizer(place)
    except BrokenFileError:
        return None


LAYOUT_SOURCES = (INDEX, *(f"{part}/config.json" for part, _ in _PARTS))
"""The files in a model's folder that `layouts_of` reads."""


def tokenizer_sources(place: Path) -> tuple[Path, ...]:
    """The files that `tokenizer_in` reads."""
    return (place, *(place / name for name in (*vocabulary.FILES, PIECES)))


def _found(model: Model) -> Iterator[tuple[str, tuple[str, str]]]:
    """The classes of the text encoders it has, with the names of encoder and tokenizer."""
    index = read_json(model.path / INDEX, model=model.name)
    for part in _PARTS:
        kind = _class_in(index, part[0])
        if kind is not None:
            yield kind, part


def _class_in(index: Mapping[str, Any], part: str) -> str | None:
    """The class of a part, where an index names it."""
    match index.get(part):
        case [_, str(kind)]:
            return kind
        case _:
            return None


def _width(model: Model, part: str) -> int:
    width: Any = model.config(part).get("hidden_size")
    return width if isinstance(width, int) else 0
