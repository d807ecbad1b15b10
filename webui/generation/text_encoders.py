"""The text encoders of a model by its configurations, for counting tokens before it is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType
from typing import Any, NamedTuple

from webui.errors import BrokenFileError
from webui.generation import vocabulary
from webui.generation.chunks import CHUNK_TOKENS
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
_ROOM = 512
_ROOM_OF = MappingProxyType({"StableDiffusion3": 256})
"""Tokens that diffusers' pipelines read of a prompt where that is not CLIP's, the end included."""


class Layout(NamedTuple):
    """A text encoder without its vocabulary; see `webui.generation.tokens.TextEncoder`.

    Attributes:
        folder: Where its tokenizer is, below the model's folder.
    """

    name: str
    folder: str
    room: int
    chunks: bool

    def with_tokenizer(self, tokenizer: PromptTokenizer | None) -> TextEncoder:
        """The encoder as it can count."""
        return TextEncoder(self.name, tokenizer, self.room, self.chunks)


def layouts_of(model: Model) -> tuple[Layout, ...]:
    """The model's text encoders in order. Those of CLIP, which read alike, are one.

    Where all are CLIP, prompts are read in chunks; other models take plain text.

    Raises:
        BrokenFileError: A configuration is missing or damaged.
    """
    # An index need not name the parts of a family that has one encoder only.
    found = list(_found(model)) or [(_CLIP[0], _PARTS[0])]
    rooms = (room for name, room in _ROOM_OF.items() if model.pipeline.startswith(name))
    room = next(rooms, _ROOM) - 1
    clip = [(part, folder) for kind, (part, folder) in found if kind in _CLIP]
    layouts: list[Layout] = []
    if clip:
        names = dict.fromkeys(_OF_WIDTH.get(_width(model, part), "CLIP") for part, _ in clip)
        layouts.append(
            Layout(" + ".join(names), clip[0][1], CHUNK_TOKENS, chunks=len(clip) == len(found))
        )
    for kind, (_, folder) in found:
        if kind not in _CLIP:
            name = next((name for word, name in _NAMES if word in kind), kind)
            layouts.append(Layout(name, folder, room, chunks=False))
    return tuple(layouts)


def tokenizer_in(model: Model, folder: str) -> PromptTokenizer | None:
    """The tokenizer in one of the model's folders; None where its vocabulary is not there."""
    try:
        return read_tokenizer(model, folder)
    except BrokenFileError:
        pass
    try:
        return read_own_tokenizer(model.path / folder / "tokenizer.json")
    except BrokenFileError:
        return None


LAYOUT_SOURCES = (INDEX, *(f"{part}/config.json" for part, _ in _PARTS))
"""The files in a model's folder that `layouts_of` reads."""


def tokenizer_sources(folder: str) -> tuple[str, ...]:
    """The files in a model's folder that `tokenizer_in` reads."""
    return tuple(f"{folder}/{name}" for name in vocabulary.FILES)


def _found(model: Model) -> Iterator[tuple[str, tuple[str, str]]]:
    """The classes of the text encoders it has, with the names of encoder and tokenizer."""
    index = read_json(model.path / INDEX, model=model.name)
    for part in _PARTS:
        entry: Any = index.get(part[0])
        match entry:
            case [_, str(kind)]:
                yield kind, part
            case _:
                pass


def _width(model: Model, part: str) -> int:
    width: Any = model.config(part).get("hidden_size")
    return width if isinstance(width, int) else 0
