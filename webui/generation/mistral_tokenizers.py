"""Mistral's tokenizers, as the text encoder of FLUX.2 is told prompts."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, cast

from pydantic_core import from_json

TEKKEN = "tekken"
"""What llama.cpp calls the way in which Mistral's tokenizer splits texts into words."""

MISTRAL_TEMPLATE = (
    "<s>{% for message in messages %}{% set mark = 'SYSTEM_PROMPT' if message.role == 'system' else"
    " 'INST' %}[{{ mark }}]{% for part in message.content %}{{ part.text }}{% endfor %}"
    "[/{{ mark }}]{% endfor %}"
)
"""How Mistral Small is told what it is and what is asked of it, which is all it is told here."""

MISTRALS_OPTIONS: Mapping[str, Any] = MappingProxyType(
    {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "padding_side": "left",
        "chat_template": MISTRAL_TEMPLATE,
    }
)
"""As FLUX.2's tokenizer is published."""

_NORMAL, _CONTROL = 1, 3
"""Kinds of tokens in GGUF files."""


class Tekken(NamedTuple):
    """A tokenizer that Mistral has written.

    Attributes:
        said: As GGUF files say it, by their keys without "tokenizer.".
        pattern: By which texts are split into words.
    """

    said: Mapping[str, Any]
    pattern: str


def read_tekken(written: bytes) -> Tekken:
    """What a `tekken.json` says: https://github.com/mistralai/mistral-common.

    The special tokens come first, then words in the order in which they were made of others.

    Raises:
        ValueError, LookupError, TypeError: It is damaged.
    """
    from transformers import tokenization_utils_base
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    content: Any = from_json(written)
    config = content["config"]
    count: int = config["default_num_special_tokens"]
    ordered = sorted(content["special_tokens"], key=lambda one: one["rank"])
    special: list[str] = [one["token_str"] for one in ordered]
    special += (f"<SPECIAL_{at}>" for at in range(len(special), count))
    letters = cast(Any, bytes_to_unicode)()
    words = [
        "".join(letters[byte] for byte in b64decode(one["token_bytes"]))
        for one in content["vocab"][: config["default_vocab_size"] - count]
    ]
    merges = cast(Any, tokenization_utils_base).generate_merges(
        {word: rank for rank, word in enumerate(words)}
    )
    said = {
        "ggml.model": "gpt2",
        "ggml.pre": TEKKEN,
        "ggml.tokens": special + words,
        "ggml.merges": [" ".join(pair) for pair in merges],
        "ggml.token_type": [_CONTROL] * count + [_NORMAL] * len(words),
    }
    return Tekken(said, config["pattern"])
