"""Tokenizers as text encoders' files and folders keep them, read without torch.

A GGUF file has its text encoder's vocabulary in its metadata, a safetensors file from ComfyUI a
SentencePiece model or Mistral's `tekken.json` as one of its tensors; some folders have a
SentencePiece model and nothing else.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from pydantic_core import from_json

from webui.errors import BrokenFileError
from webui.generation.mistral_tokenizers import (
    MISTRAL_TEMPLATE,
    MISTRALS_OPTIONS,
    TEKKEN,
    read_tekken,
)
from webui.library import gguf
from webui.library.headers import GGUF_SUFFIX, Header
from webui.library.pipeline_folders import read_object

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PIECES = "spiece.model"
"""A SentencePiece model in a folder."""

_PIECES_TENSOR, _TEKKEN_TENSOR = "spiece_model", "tekken_model"
_ONE_FILE, _WORDS = "tokenizer.json", "vocab.json"

VOCABULARIES = (_ONE_FILE, _WORDS, PIECES)
"""One of these is in every tokenizer's folder."""

_MISTRALS = "PixtralProcessor"

_KINDS = MappingProxyType(
    {
        ("t5", ""): "T5Tokenizer",
        ("gpt2", "qwen2"): "Qwen2Tokenizer",
        ("gpt2", TEKKEN): _MISTRALS,
    }
)
"""By what GGUF files call them: how words are made, and how texts are split into words."""

_TEMPLATES = ("chat_template.jinja", "chat_template.json")

_EXTRA_IDS = 100
"""Tokens behind the pieces of a T5, which stand for what is left out of a text."""


@dataclass(frozen=True)
class StoredTokenizer:
    """A tokenizer, and the options with which transformers' class for it is made."""

    backend: Tokenizer
    options: Mapping[str, Any]


def stem_of(kind: str) -> str:
    """A tokenizer's class, which has had two names."""
    return kind.removesuffix("Fast")


def has_vocabulary(folder: Path) -> bool:
    """Whether a folder has a tokenizer's vocabulary."""
    return any((folder / name).is_file() for name in VOCABULARIES)


def is_stored(place: Path) -> bool:
    """Whether the tokenizer there is one for `read_stored_tokenizer`, and not for transformers."""
    return not place.is_dir() or not any(
        (place / name).is_file() for name in VOCABULARIES if name != PIECES
    )


def kind_in_file(header: Header) -> str | None:
    """The class of the tokenizer in a text encoder's file; None where there is none."""
    if _PIECES_TENSOR in header.shapes:
        return "T5Tokenizer"
    if _TEKKEN_TENSOR in header.shapes:
        return _MISTRALS
    model = header.metadata.get("tokenizer.ggml.model", "")
    split = header.metadata.get("tokenizer.ggml.pre", "") if model == "gpt2" else ""
    return _KINDS.get((model, split))


def kinds_in_folder(folder: Path) -> tuple[str, ...]:
    """The classes that a tokenizer's folder is for: its own and that of a processor around it."""
    said = [read_object(folder / f"{name}_config.json") for name in ("tokenizer", "processor")]
    kinds = (one.get(f"{name}_class") for one in said for name in ("tokenizer", "processor"))
    return tuple(stem_of(kind) for kind in kinds if isinstance(kind, str))


def template_in_file(header: Header) -> str:
    """The template by which the tokenizer in a text encoder's file writes a conversation.

    Mistral's files have none, or one for more than is told here, and are used with ours.
    """
    if kind_in_file(header) == _MISTRALS:
        return MISTRAL_TEMPLATE
    return header.metadata.get("tokenizer.chat_template", "")


def template_in_folder(folder: Path) -> str:
    """The template by which a tokenizer writes a conversation; empty where it has none."""
    for file in (folder / name for name in _TEMPLATES):
        if file.is_file():
            return file.read_text(encoding="utf-8", errors="replace")
    # Of several, by name, each may be the one.
    return str(read_object(folder / "tokenizer_config.json").get("chat_template") or "")


def numbers_in_folder(folder: Path) -> int:
    """One more than a tokenizer's highest number; 0 of one that is damaged or not there."""
    try:
        if (folder / _ONE_FILE).is_file():
            said: Any = from_json((folder / _ONE_FILE).read_bytes())
            added = [one["id"] for one in said.get("added_tokens", ())]
            return 1 + max(len(said["model"]["vocab"]) - 1, *added, -1)
        if (folder / _WORDS).is_file():
            words: Any = from_json((folder / _WORDS).read_bytes())
            told: Any = read_object(folder / "tokenizer_config.json")
            older: Any = read_object(folder / "added_tokens.json")
            added = [*map(int, told.get("added_tokens_decoder", ())), *older.values()]
            return 1 + max(len(words) - 1, *added, -1)
        return len(_pieces((folder / PIECES).read_bytes())[0]) + _EXTRA_IDS
    except (OSError, ValueError, TypeError, LookupError, struct.error):
        return 0


def read_stored_tokenizer(place: Path) -> StoredTokenizer:
    """The tokenizer in a GGUF or safetensors file, or in a folder that has its pieces alone.

    Raises:
        BrokenFileError: It is damaged.
    """
    try:
        if place.suffix.casefold() == GGUF_SUFFIX:
            with place.open("rb") as file:
                return _from_gguf(gguf.read_tokenizer(file))
        name, model = _model_in(place)
        return _from_tekken(model) if name == _TEKKEN_TENSOR else _from_pieces(model)
    except Exception as error:  # tokenizers raises nothing more specific
        raise BrokenFileError(
            f"The tokenizer in {place.name} is damaged: fetch it again.", field="model"
        ) from error


def _from_gguf(said: Mapping[str, Any]) -> StoredTokenizer:
    # Imported here: slow, and of no use to those whose tokenizers lie in folders.
    from tokenizers import normalizers
    from transformers.integrations.gguf import gguf_tokenizer_mapping

    tokens: list[str] = said["ggml.tokens"]
    about = {
        "tokenizer_type": said["ggml.model"],
        "pre_tokenizer_type": said.get("ggml.pre"),
        "tokens": tokens,
        **{
            name: said[f"ggml.{name}"]
            for name in ("scores", "merges", "token_type")
            if f"ggml.{name}" in said
        },
    }
    backend, _ = cast(Any, gguf_tokenizer_mapping).convert_gguf_tokenizer("", about)
    if said.get("ggml.pre") == TEKKEN:
        # Words of the vocabulary are taken whole, though no merges may lead to them.
        backend.model.ignore_merges = True
        return StoredTokenizer(backend, MISTRALS_OPTIONS)
    # What transformers' reader of these files leaves out of the published tokenizers.
    if said["ggml.model"] == "gpt2":
        backend.normalizer = normalizers.NFC()
    elif "ggml.precompiled_charsmap" in said:
        backend.normalizer = normalizers.Precompiled(bytes(_bytes(said)))
    ids = {"eos_token": "ggml.eos_token_id", "pad_token": "ggml.padding_token_id"}
    options: dict[str, Any] = {
        option: tokens[said[key]] for option, key in ids.items() if key in said
    }
    if "chat_template" in said:
        options["chat_template"] = said["chat_template"]
    return StoredTokenizer(backend, options)


def _bytes(said: Mapping[str, Any]) -> Iterator[int]:
    """Normalisation rules; llama.cpp writes them as signed bytes."""
    return (number % 256 for number in said["ggml.precompiled_charsmap"])


def _model_in(place: Path) -> tuple[str, bytes]:
    """The name of what a tokenizer is stored as, and its bytes."""
    if place.is_dir():
        return PIECES, (place / PIECES).read_bytes()
    # Not torch's, which need not be there to count tokens.
    from safetensors import safe_open

    with cast(Any, safe_open)(place, framework="np") as file:
        name = _TEKKEN_TENSOR if _TEKKEN_TENSOR in file.keys() else _PIECES_TENSOR  # noqa: SIM118
        return name, file.get_tensor(name).tobytes()


def _from_tekken(written: bytes) -> StoredTokenizer:
    from tokenizers import Regex, pre_tokenizers

    tekken = read_tekken(written)
    made = _from_gguf(tekken.said)
    splits: Any = pre_tokenizers.Split(Regex(tekken.pattern), "isolated")
    spells = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.backend.pre_tokenizer = pre_tokenizers.Sequence([splits, spells])
    return made


def _from_pieces(model: bytes) -> StoredTokenizer:
    from transformers.models.t5.tokenization_t5 import T5Tokenizer

    pieces, rules = _pieces(model)
    pieces += ((f"<extra_id_{at}>", 0.0) for at in reversed(range(_EXTRA_IDS)))
    made: Any = cast(Any, T5Tokenizer)(vocab=pieces, _spm_precompiled_charsmap=rules or None)
    return StoredTokenizer(made.backend_tokenizer, {})


def _pieces(model: bytes) -> tuple[list[tuple[str, float]], bytes]:
    """Pieces with their scores, and the normalisation rules, of a SentencePiece model.

    Format: https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto
    """
    pieces: list[tuple[str, float]] = []
    rules = b""
    for field, value in _fields(model):
        if field == _PIECE:
            piece = dict(_fields(value))
            (score,) = struct.unpack("<f", piece.get(_SCORE, bytes(4)))
            pieces.append((piece[_TEXT].decode(), score))
        elif field == _NORMALIZER:
            rules = dict(_fields(value)).get(_RULES, b"")
    return pieces, rules


_PIECE, _NORMALIZER = 1, 3
_TEXT, _SCORE = 1, 2
_RULES = 2
"""Numbers of fields, of the model, of a piece and of the normaliser."""


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a protocol buffer that are of a length, by their numbers.

    Raises:
        ValueError: It is damaged.
    """
    at = 0
    while at < len(message):
        tag, at = _number(message, at)
        match tag % 8:
            case 0:
                _, at = _number(message, at)
                continue
            case 1:
                length = 8
            case 2:
                length, at = _number(message, at)
            case 5:
                length = 4
            case _:
                raise ValueError
        if at + length > len(message):
            raise ValueError
        yield tag // 8, message[at : at + length]
        at += length


def _number(message: bytes, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, ten at most, and where it ends."""
    number = 0
    for place in range(10):
        byte = message[at + place]
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number, at + place + 1
    raise ValueError
