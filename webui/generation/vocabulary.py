"""A model's tokenizer without transformers: CLIP's byte-level BPE over the model's own vocabulary.

Gives the same tokens as transformers' `CLIPTokenizer`, which is built in the same way, and says
where in the text they stand.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from webui.errors import BrokenFileError
from webui.generation.chunks import COMMA
from webui.generation.clip_vocabulary import END, END_OF_WORD, START, clip_vocabulary
from webui.library.checkpoints import INDEX, Model, read_json

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer

_FOLDER = "tokenizer"
_ONE_FILE = "tokenizer.json"
_SETTINGS = "tokenizer_config.json"

FILES = (_ONE_FILE, "vocab.json", "merges.txt", _SETTINGS)
"""The files in a tokenizer's folder that are read."""

_SPECIAL = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
"""Tokens with a meaning of their own, by their keys in the settings."""

_NO_PART = (None, None)

_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)
"""What CLIP takes for a word (`simple_tokenizer.py` of openai/CLIP)."""

_QWENS_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""What Qwen takes for one (`PRETOKENIZE_REGEX` of transformers)."""


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


def read_tokenizer(model: Model, folder: str = _FOLDER) -> PromptTokenizer:
    """The model's CLIP tokenizer, or that of another of its text encoders; of a single file, which
    has none with it, CLIP's as it is shipped.

    Args:
        folder: Its name below the model's folder.

    Raises:
        BrokenFileError: Its vocabulary is missing or damaged, or not CLIP's.
    """
    if model.file is not None and _is_clips(model, folder):
        return clip_tokenizer()
    try:
        return PromptTokenizer(_built(model.path / folder))
    except Exception as error:  # tokenizers raises nothing more specific
        raise BrokenFileError(
            f"The model {model.name!r} is incomplete: its {folder} is missing or damaged.",
            field="model",
        ) from error


def _is_clips(model: Model, folder: str) -> bool:
    index: Mapping[str, Any] = read_json(model.path / INDEX, model=model.name)
    return index.get(folder, _NO_PART)[1] == "CLIPTokenizer"


def clip_tokenizer() -> PromptTokenizer:
    """The tokenizer of every published CLIP, for a single file, which has none with it.

    Raises:
        BrokenFileError: The package with its vocabulary is missing or damaged.
    """
    # Imported here: it takes 40 ms, and starting the page needs none of it.
    from tokenizers import AddedToken

    numbers, merges = clip_vocabulary()
    special = {
        key: AddedToken(content, special=True, normalized=True) for key, content in _SPECIAL.items()
    }
    return PromptTokenizer(_tokenizer(dict(numbers), list(merges), special))


def read_own_tokenizer(folder: Path) -> PromptTokenizer:
    """A tokenizer that is not CLIP's: of any kind from its `tokenizer.json`, otherwise Qwen's from
    its vocabulary.

    Raises:
        BrokenFileError: The files are missing or damaged.
    """
    from tokenizers import Tokenizer

    file = folder / _ONE_FILE
    try:
        if not file.exists():
            return PromptTokenizer(_qwens(folder))
        # Built from what was read, since the library opens whatever the name leads to.
        tokenizer = Tokenizer.from_str(file.read_text(encoding="utf-8"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return PromptTokenizer(tokenizer)
    except Exception as error:  # tokenizers raises nothing more specific
        raise BrokenFileError(f"The tokenizer in {folder.name} is missing or damaged.") from error


def _qwens(folder: Path) -> Tokenizer:
    """As transformers' `Qwen2Tokenizer` builds it."""
    from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers
    from tokenizers.models import BPE

    vocabulary, merges = _vocabulary(folder)
    said: Any = json.loads((folder / _SETTINGS).read_bytes())
    # The library's own types leave out what the lists hold.
    tokenizer: Any = Tokenizer(BPE(vocab=vocabulary, merges=merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_QWENS_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    added = sorted(said["added_tokens_decoder"].items(), key=lambda token: int(token[0]))
    tokenizer.add_tokens(
        [AddedToken(token["content"], special=token["special"]) for _, token in added]
    )
    return tokenizer


def _built(folder: Path) -> Tokenizer:
    vocabulary, merges = _vocabulary(folder)
    return _tokenizer(vocabulary, merges, _special_tokens(folder))


def _tokenizer(
    vocabulary: dict[str, int], merges: list[tuple[str, str]], special: dict[str, AddedToken]
) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
    from tokenizers.models import BPE

    unknown = special["unk_token"].content
    # Without it, a text with a byte that the vocabulary lacks cannot be encoded.
    if unknown not in vocabulary:
        raise KeyError(unknown)
    # The library's own types leave out what the lists hold.
    tokenizer: Any = Tokenizer(
        BPE(vocab=vocabulary, merges=merges, unk_token=unknown, end_of_word_suffix=END_OF_WORD)
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
