"""How a prompt's tokens are cut into the chunks that CLIP encodes one by one, as A1111 does it.

Imports nothing heavy: the page counts with it what `webui.generation.text` encodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, TypeVar

from webui.generation.prompts import Block, ParsedPrompt

CHUNK_TOKENS = 75
"""Tokens of a chunk without its start and end token."""

COMMA_REACH = 20
"""How many tokens before the end of a full chunk a comma may lie to end it early."""

COMMA = ",</w>"
"""A comma that stands at the end of a word, in CLIP's vocabulary."""


class Token(Protocol):
    """What is known of a token here.

    Attributes:
        id: Its number in the vocabulary; of an embedding's vectors that of no comma.
        more: How many vectors of the same embedding follow it.
    """

    @property
    def id(self) -> int: ...  # noqa: D102

    @property
    def more(self) -> int: ...  # noqa: D102


T = TypeVar("T", bound=Token)


def encoded_blocks(parsed: ParsedPrompt) -> tuple[Block, ...]:
    """The blocks that are encoded: at least one, and none for a trailing BREAK."""
    *first, last = parsed.blocks
    return parsed.blocks if last or not first else tuple(first)


def cut(tokens: list[T], *, comma_id: int | None) -> Iterator[list[T]]:
    """Full chunks and a rest; a chunk ends after a comma near its end where there is one.

    An embedding that does not fit any more begins the next chunk whole.
    """
    while len(tokens) > CHUNK_TOKENS:
        end = CHUNK_TOKENS
        if tokens[end - 1].more:
            end = max(k for k in range(CHUNK_TOKENS) if k == 0 or not tokens[k - 1].more)
        elif tokens[end].id != comma_id:
            near = range(CHUNK_TOKENS, CHUNK_TOKENS - COMMA_REACH, -1)
            end = next((k for k in near if tokens[k - 1].id == comma_id), CHUNK_TOKENS)
        yield tokens[:end]
        tokens = tokens[end:]
    yield tokens
