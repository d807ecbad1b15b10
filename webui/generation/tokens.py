"""How many tokens a prompt takes and where it is cut, before anything is loaded."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from webui.errors import BadRequestError
from webui.generation.chunks import CHUNK_TOKENS, cut, encoded_blocks
from webui.generation.prompt_plan import locate_variants, means_more
from webui.generation.prompts import (
    ParsedPrompt,
    PromptField,
    Segment,
    Source,
    unmatched_brackets,
)
from webui.generation.vocabulary import PromptTokenizer
from webui.interchange.dynamicmarks import is_dynamic, unescaped
from webui.interchange.loratags import check_tags, tag_spans

if TYPE_CHECKING:
    from webui.generation.embedding_words import EmbeddingReader


class TextEncoder(NamedTuple):
    """A text encoder of a model, as far as counting needs to know it.

    Attributes:
        name: As people know it, such as "CLIP-L" or "T5".
        tokenizer: None where its vocabulary is not here.
        room: Tokens of a prompt that it reads at once.
        chunks: Whether a longer prompt is read in chunks of A1111's grammar; otherwise the text is
            taken as it stands and what is beyond its room is lost.
        before: What it reads before the prompt, which is not counted.
    """

    name: str
    tokenizer: PromptTokenizer | None
    room: int = CHUNK_TOKENS
    chunks: bool = True
    before: str = ""


@dataclass(frozen=True)
class EncoderCount:
    """What one text encoder makes of a prompt; positions as in `TokenCount`.

    Attributes:
        tokens: Counted as A1111 does, all chunks but the last as full; None where the prompt
            cannot be read or the vocabulary is not here.
        room: Tokens of a chunk, or of all that is read.
        chunks: How many times it runs; None like `tokens`.
        cuts: Where each chunk but the first one starts, or where what is lost does.
        lost: Whether what is behind the cut is not read at all.
    """

    name: str
    tokens: int | None
    room: int
    chunks: int | None
    cuts: tuple[int, ...]
    lost: bool


@dataclass(frozen=True)
class TokenCount:
    """A prompt's tokens; positions count UTF-16 code units of it as typed, as JavaScript does.

    Where it changes over the steps or joins several prompts, the longest of them counts.

    Attributes:
        encoders: What each of the model's text encoders makes of it.
        brackets: Brackets that nothing closes, or that close nothing; none where they are text.
        problem: Why the prompt cannot be read, in a sentence.
        drawn: Whether this is one example of what may be drawn; it is then without cuts.
        unread: Whether it has some of the grammar and the model, which takes plain text, reads it
            as it is typed.
    """

    encoders: tuple[EncoderCount, ...]
    brackets: tuple[int, ...]
    problem: str | None
    drawn: bool = False
    unread: bool = False


_NO_ID = -1
"""Number of an embedding's tokens, which no vocabulary has."""


class _Token(NamedTuple):
    id: int
    position: int
    more: int = 0


def count_tokens(
    text: str,
    encoders: Sequence[TextEncoder],
    field: PromptField = "prompt",
    *,
    steps: int = 20,
    draw: Callable[[str], str] | None = None,
    embeddings: EmbeddingReader | None = None,
) -> TokenCount:
    """The prompt's tokens and cuts for each text encoder.

    Tags of LoRAs in the prompt are taken out before it is encoded, and so count for nothing.

    Args:
        steps: Over which it may change.
        draw: Gives an example of a text that draws lots.
        embeddings: Reads those that it names, each of which counts as many tokens as it has
            vectors; without it there are none.
    """
    units = _utf16_positions(text)
    weighted = any(encoder.chunks for encoder in encoders) or not encoders
    brackets = unmatched_brackets(text) if weighted else ()
    counted, drawn, problem, unread = text, False, None, False
    counts = tuple(EncoderCount(e.name, None, e.room, None, (), lost=False) for e in encoders)
    try:
        if draw is not None and is_dynamic(text):
            counted, drawn = draw(text), True
        counts = tuple(_count(counted, encoder, field, steps, embeddings) for encoder in encoders)
        unread = not weighted and means_more(_bare(counted, field), steps)
    except BadRequestError as error:
        problem = error.message
    return TokenCount(
        tuple(
            EncoderCount(
                count.name,
                count.tokens,
                count.room,
                count.chunks,
                () if drawn else tuple(units[cut] for cut in count.cuts),
                count.lost,
            )
            for count in counts
        ),
        tuple(units[position] for position in brackets),
        problem,
        drawn,
        unread,
    )


def _count(
    text: str,
    encoder: TextEncoder,
    field: PromptField,
    steps: int,
    embeddings: EmbeddingReader | None,
) -> EncoderCount:
    """What an encoder makes of a text; cuts are in characters.

    Raises:
        BadRequestError: The text cannot be read.
    """
    left = _untagged(text, field)
    if field == "prompt":
        check_tags(text)
    bare = _bare(text, field)
    tokenizer = encoder.tokenizer
    if not encoder.chunks:
        if embeddings is not None:
            embeddings.check_plain(bare, field)
        return _plain(bare, left, encoder)
    put = None if embeddings is None else embeddings.put
    variants = [
        _chunks(parsed, source, tokenizer) if tokenizer is not None else []
        for parsed, source in locate_variants(bare, field, steps, put)
    ]
    if tokenizer is None:
        return EncoderCount(encoder.name, None, encoder.room, None, (), lost=False)
    sizes = [(len(chunks) - 1) * encoder.room + chunks[-1][1] for chunks in variants]
    tokens = max(sizes)
    chunks = variants[sizes.index(tokens)]
    cuts = tuple(left[start] for start, _ in chunks[1:])
    return EncoderCount(encoder.name, tokens, encoder.room, len(chunks), cuts, lost=False)


def _plain(bare: str, left: Sequence[int], encoder: TextEncoder) -> EncoderCount:
    if encoder.tokenizer is None:
        return EncoderCount(encoder.name, None, encoder.room, None, (), lost=False)
    kept = unescaped(bare)
    start = len(encoder.before)
    given = encoder.tokenizer.encode(encoder.before + "".join(bare[at] for at in kept))
    read = [at - start for _, at in given if at >= start]
    lost = len(read) > encoder.room
    cuts = (left[kept[read[encoder.room]]],) if lost else ()
    return EncoderCount(encoder.name, len(read), encoder.room, 1, cuts, lost)


def _chunks(
    parsed: ParsedPrompt, source: Source, tokenizer: PromptTokenizer
) -> list[tuple[int, int]]:
    """Position in the text, and number of tokens, of each chunk."""
    found: list[tuple[int, int]] = []
    for block, start, spans in zip(
        encoded_blocks(parsed), source.blocks, source.characters, strict=False
    ):
        tokens = [
            token
            for segment, span in zip(block, spans, strict=True)
            for token in _tokens(segment, span, tokenizer)
        ]
        first, *others = cut(tokens, comma_id=tokenizer.comma_id)
        found.append((start, len(first)))
        found += ((chunk[0].position, len(chunk)) for chunk in others)
    return found


def _tokens(
    segment: Segment, places: Sequence[int], tokenizer: PromptTokenizer
) -> Iterator[_Token]:
    if segment.embedding is None:
        for id, at in tokenizer.encode(segment.text):
            yield _Token(id, places[at])
    else:
        for more in reversed(range(segment.embedding.vectors)):
            yield _Token(_NO_ID, places[0], more)


def _untagged(text: str, field: PromptField) -> Sequence[int]:
    """Positions of the characters outside of tags, and of the end."""
    spans = tag_spans(text) if field == "prompt" else ()
    tagged = {at for start, end in spans for at in range(start, end)}
    return [at for at in range(len(text) + 1) if at not in tagged]


def _bare(text: str, field: PromptField) -> str:
    return "".join(text[at] for at in _untagged(text, field)[:-1])


def _utf16_positions(text: str) -> list[int]:
    """For each character, and the end, how many UTF-16 code units lie before it."""
    return [0, *itertools.accumulate(1 + (character > "\uffff") for character in text)]
