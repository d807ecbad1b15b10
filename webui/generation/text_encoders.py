"""The text encoders of a model by its configurations, for counting tokens before it is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Any

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


def text_encoders_of(
    model: Model, tokenizer_of: Callable[[Model, str], PromptTokenizer | None]
) -> tuple[TextEncoder, ...]:
    """The model's text encoders in order. Those that read alike are one.

    Where all are CLIP, prompts are read in chunks; other models take plain text.

    Args:
        tokenizer_of: `tokenizer_in`, or what remembers what that gave.

    Raises:
        BrokenFileError: A configuration is missing or damaged.
    """
    found = list(_found(model))
    chunks = all(kind in _CLIP for kind, _ in found)
    rooms = (room for name, room in _ROOM_OF.items() if model.pipeline.startswith(name))
    room = next(rooms, _ROOM) - 1
    clip: list[str] = []
    others: list[TextEncoder] = []
    tokenizer = None
    for kind, (part, folder) in found:
        if kind in _CLIP:
            clip.append(_OF_WIDTH.get(_width(model, part), "CLIP"))
            tokenizer = tokenizer or tokenizer_of(model, folder)
        else:
            name = next((name for word, name in _NAMES if word in kind), kind)
            others.append(TextEncoder(name, tokenizer_of(model, folder), room, chunks=False))
    # CLIP's vocabulary is the same in all of them.
    first = TextEncoder(" + ".join(dict.fromkeys(clip)), tokenizer, CHUNK_TOKENS, chunks)
    return (*([first] if clip else []), *others)


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


def sources(folder: str) -> tuple[str, ...]:
    """The files in a model's folder that `tokenizer_in` reads."""
    return tuple(f"{folder}/{name}" for name in vocabulary.FILES)


def _found(model: Model) -> Iterator[tuple[str, tuple[str, str]]]:
    """The classes of the text encoders it has, with the names of encoder and tokenizer."""
    index = read_json(model.path / INDEX, model=model.name)
    for part in _PARTS:
        entry: Any = index.get(part[0])
        if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], str):
            yield entry[1], part


def _width(model: Model, part: str) -> int:
    width: Any = model.config(part).get("hidden_size")
    return width if isinstance(width, int) else 0
