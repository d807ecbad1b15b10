"""How many tokens a prompt takes and where it is cut, before anything is loaded."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from webui.errors import BadRequestError
from webui.generation.chunks import CHUNK_TOKENS, cut, encoded_blocks
from webui.generation.prompts import (
    ParsedPrompt,
    PromptField,
    Source,
    locate_prompt,
    unmatched_brackets,
)
from webui.generation.vocabulary import PromptTokenizer
from webui.interchange.loratags import check_tags, tag_spans


@dataclass(frozen=True)
class TokenCount:
    """A prompt's tokens; positions count UTF-16 code units of it as typed, as JavaScript does.

    Attributes:
        tokens: As A1111 counts them, all chunks but the last as full; None where the prompt
            cannot be read or the model has no tokenizer.
        chunks: How many times the text encoder runs; None like `tokens`.
        cuts: Where each chunk but the first one starts.
        brackets: Brackets that nothing closes, or that close nothing.
        problem: Why the prompt cannot be read, in a sentence.
        chunk: Tokens of a full chunk.
    """

    tokens: int | None
    chunks: int | None
    cuts: tuple[int, ...]
    brackets: tuple[int, ...]
    problem: str | None
    chunk: int = CHUNK_TOKENS


class _Token(NamedTuple):
    id: int
    position: int


def count_tokens(
    text: str, tokenizer: PromptTokenizer | None, field: PromptField = "prompt"
) -> TokenCount:
    """The prompt's tokens and cuts; without a tokenizer, its brackets alone.

    Tags of LoRAs in the prompt are taken out before it is encoded, and so count for nothing.
    """
    units = _utf16_positions(text)
    brackets = tuple(units[position] for position in unmatched_brackets(text))
    left = _untagged(text) if field == "prompt" else range(len(text) + 1)
    try:
        if field == "prompt":
            check_tags(text)
        parsed, source = locate_prompt("".join(text[at] for at in left[:-1]), field)
    except BadRequestError as error:
        return TokenCount(None, None, (), brackets, error.message)
    if tokenizer is None:
        return TokenCount(None, None, (), brackets, None)
    chunks = list(_chunks(parsed, source, tokenizer))
    (_, last), others = chunks[-1], chunks[1:]
    return TokenCount(
        tokens=len(others) * CHUNK_TOKENS + last,
        chunks=len(chunks),
        cuts=tuple(units[left[start]] for start, _ in others),
        brackets=brackets,
        problem=None,
    )


def _chunks(
    parsed: ParsedPrompt, source: Source, tokenizer: PromptTokenizer
) -> Iterator[tuple[int, int]]:
    """Position in the text, and number of tokens, of each chunk."""
    for block, start, spans in zip(
        encoded_blocks(parsed), source.blocks, source.characters, strict=False
    ):
        tokens = [
            _Token(id, span[at])
            for segment, span in zip(block, spans, strict=True)
            for id, at in tokenizer.encode(segment.text)
        ]
        first, *others = cut(tokens, comma_id=tokenizer.comma_id)
        yield start, len(first)
        yield from ((chunk[0].position, len(chunk)) for chunk in others)


def _untagged(text: str) -> Sequence[int]:
    """Positions of the characters outside of tags, and of the end."""
    tagged = {at for start, end in tag_spans(text) for at in range(start, end)}
    return [at for at in range(len(text) + 1) if at not in tagged]


def _utf16_positions(text: str) -> list[int]:
    """For each character, and the end, how many UTF-16 code units lie before it."""
    return [0, *itertools.accumulate(1 + (character > "\uffff") for character in text)]
