"""A model's tokenizer without transformers: CLIP's byte-level BPE over the model's own vocabulary.

Gives the same tokens as transformers' `CLIPTokenizer`, which is built in the same way, and says
where in the text they stand.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from webui.errors import BrokenFileError
from webui.generation.chunks import COMMA
from webui.library.checkpoints import Model

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer

_FOLDER = "tokenizer"
_ONE_FILE = "tokenizer.json"
_SETTINGS = "tokenizer_config.json"

SOURCES = tuple(f"{_FOLDER}/{name}" for name in (_ONE_FILE, "vocab.json", "merges.txt", _SETTINGS))
"""The files in a model's folder that `read_tokenizer` reads."""

_START, _END = "<|startoftext|>", "<|endoftext|>"
_SPECIAL = {"bos_token": _START, "eos_token": _END, "unk_token": _END, "pad_token": _END}
"""Tokens with a meaning of their own, by their keys in the settings."""

_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)
"""What CLIP takes for a word (`simple_tokenizer.py` of openai/CLIP)."""


class PromptTokenizer:
    """A tokenizer that knows where its tokens stand.

    Attributes:
        comma_id: The token of a comma, where the vocabulary has one.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.comma_id = tokenizer.token_to_id(COMMA)

    def encode(self, text: str) -> Iterator[tuple[int, int]]:
        """Number in the vocabulary, and first character in `text`, of each token."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        for number, (start, _) in zip(encoding.ids, encoding.offsets, strict=True):
            yield number, start


def read_tokenizer(model: Model) -> PromptTokenizer:
    """The model's tokenizer.

    Raises:
        BrokenFileError: Its vocabulary is missing or damaged.
    """
    try:
        return PromptTokenizer(_built(model.path / _FOLDER))
    except Exception as error:  # tokenizers raises nothing more specific
        raise BrokenFileError(
            f"The model {model.name!r} is incomplete: its {_FOLDER} is missing or damaged.",
            field="model",
        ) from error


def _built(folder: Path) -> Tokenizer:
    # Imported here: it takes 40 ms, and starting the page needs none of it.
    from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
    from tokenizers.models import BPE

    vocabulary, merges = _vocabulary(folder)
    special = _special_tokens(folder)
    unknown = special["unk_token"].content
    # Without it, a text with a byte that the vocabulary lacks cannot be encoded.
    if unknown not in vocabulary:
        raise KeyError(unknown)
    # The library's own types leave out what the lists hold.
    tokenizer: Any = Tokenizer(
        BPE(vocab=vocabulary, merges=merges, unk_token=unknown, end_of_word_suffix="</w>")
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.add_special_tokens(list(special.values()))
    return tokenizer


def _vocabulary(folder: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Tokens and their numbers, and which pairs are merged, the first ones first."""
    from tokenizers.models import BPE

    if not (folder / _ONE_FILE).exists():
        read: Any = BPE.read_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
        return read
    model: Any = json.loads((folder / _ONE_FILE).read_bytes())["model"]
    # Files of before 2024 have each pair as one string.
    pairs = (pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"])
    return model["vocab"], [(first, second) for first, second in pairs]


def _special_tokens(folder: Path) -> dict[str, AddedToken]:
    """The special tokens by their keys, as the settings have them where there are any."""
    from tokenizers import AddedToken

    file = folder / _SETTINGS
    said: Any = json.loads(file.read_bytes()) if file.exists() else {}
    tokens: dict[str, AddedToken] = {}
    for key, usual in _SPECIAL.items():
        token: Any = said.get(key) or usual
        options = cast(dict[str, Any], token) if isinstance(token, dict) else {"content": token}
        tokens[key] = AddedToken(
            options["content"], special=True, normalized=bool(options.get("normalized"))
        )
    return tokens
