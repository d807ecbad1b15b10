"""How many tokens a prompt takes and where it is cut, before anything is loaded."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from webui.errors import BadRequestError
from webui.generation.chunks import CHUNK_TOKENS, cut, encoded_blocks
from webui.generation.prompt_plan import locate_variants
from webui.generation.prompts import ParsedPrompt, PromptField, Source, unmatched_brackets
from webui.generation.vocabulary import PromptTokenizer
from webui.interchange.dynamicprompts import is_dynamic, unescaped
from webui.interchange.loratags import check_tags, tag_spans


class TextEncoder(NamedTuple):
    """A text encoder of a model, as far as counting needs to know it.

    Attributes:
        name: As people know it, such as "CLIP-L" or "T5".
        tokenizer: None where its vocabulary is not here.
        room: Tokens it reads at once, without those for start and end.
        chunks: Whether a longer prompt is read in chunks of A1111's grammar; otherwise the text is
            taken as it stands and what is beyond its room is lost.
    """

    name: str
    tokenizer: PromptTokenizer | None
    room: int = CHUNK_TOKENS
    chunks: bool = True


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
    """

    encoders: tuple[EncoderCount, ...]
    brackets: tuple[int, ...]
    problem: str | None
    drawn: bool = False


class _Token(NamedTuple):
    id: int
    position: int


def count_tokens(
    text: str,
    encoders: Sequence[TextEncoder],
    field: PromptField = "prompt",
    *,
    steps: int = 20,
    draw: Callable[[str], str] | None = None,
) -> TokenCount:
    """The prompt's tokens and cuts for each text encoder.

    Tags of LoRAs in the prompt are taken out before it is encoded, and so count for nothing.

    Args:
        steps: Over which it may change.
        draw: Gives an example of a text that draws lots.
    """
    units = _utf16_positions(text)
    weighted = any(encoder.chunks for encoder in encoders) or not encoders
    brackets = unmatched_brackets(text) if weighted else ()
    counted, drawn, problem = text, False, None
    counts = tuple(EncoderCount(e.name, None, e.room, None, (), lost=False) for e in encoders)
    try:
        if draw is not None and is_dynamic(text):
            counted, drawn = draw(text), True
        counts = tuple(_count(counted, encoder, field, steps) for encoder in encoders)
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
    )


def _count(text: str, encoder: TextEncoder, field: PromptField, steps: int) -> EncoderCount:
    """What an encoder makes of a text; cuts are in characters.

    Raises:
        BadRequestError: The text cannot be read.
    """
    left = _untagged(text) if field == "prompt" else range(len(text) + 1)
    if field == "prompt":
        check_tags(text)
    bare = "".join(text[at] for at in left[:-1])
    tokenizer = encoder.tokenizer
    if not encoder.chunks:
        return _plain(bare, left, encoder)
    variants = [
        _chunks(parsed, source, tokenizer) if tokenizer is not None else []
        for parsed, source in locate_variants(bare, field, steps)
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
    read = list(encoder.tokenizer.encode("".join(bare[at] for at in kept)))
    lost = len(read) > encoder.room
    cuts = (left[kept[read[encoder.room][1]]],) if lost else ()
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
            _Token(id, span[at])
            for segment, span in zip(block, spans, strict=True)
            for id, at in tokenizer.encode(segment.text)
        ]
        first, *others = cut(tokens, comma_id=tokenizer.comma_id)
        found.append((start, len(first)))
        found += ((chunk[0].position, len(chunk)) for chunk in others)
    return found


def _untagged(text: str) -> Sequence[int]:
    """Positions of the characters outside of tags, and of the end."""
    tagged = {at for start, end in tag_spans(text) for at in range(start, end)}
    return [at for at in range(len(text) + 1) if at not in tagged]


def _utf16_positions(text: str) -> list[int]:
    """For each character, and the end, how many UTF-16 code units lie before it."""
    return [0, *itertools.accumulate(1 + (character > "\uffff") for character in text)]
