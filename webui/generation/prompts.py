r"""A1111's attention grammar, read into weighted segments.

`(x)` weighs x by 1.1, `[x]` by 1/1.1, `(x:1.5)` by 1.5; nested weights multiply. `\(` `\)` `\[`
`\]` `\\` are literal and any other backslash disappears; what is not closed reaches to the end,
what closes nothing is literal. `BREAK` ends the chunk of 75 tokens, inside brackets too.

What changes from step to step and `AND` are read before, by `webui.generation.prompt_plan`.
`<name:...>` tags are refused rather than taken for text.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from webui.errors import BadRequestError

PromptField = Literal["prompt", "negative_prompt"]

MAX_WEIGHT = 10.0
"""Largest absolute weight of a segment; beyond it there is only noise."""

_ROUND, _SQUARE = 1.1, 1 / 1.1

_TOKEN = re.compile(
    r"\\(?P<escaped>[()\[\]\\]?)"
    r"|(?P<open>[(\[])"
    r"|:\s*(?P<weight>[+-]?[.\d]+)\s*\)"
    r"|(?P<close>[)\]])"
    r"|[^\\()\[\]:]+|:"
)
_BREAK = re.compile(r"\bBREAK\b")
_TAG = re.compile(r"<(\w+):[^<>]+>")
_INSIDE_SYNTAX = re.compile(r"(?<=\bB)(?=REAK\b)|(?<=\bA)(?=ND\b)|(?<=<)(?=\w+:)")


@dataclass(frozen=True)
class EmbeddedWord:
    """A textual-inversion embedding that stands in a prompt.

    Attributes:
        name: What the shelf calls it.
        sha256: Hex digest of its file.
        vectors: How many tokens it takes.
        word: What it was trained for, where the file says it.
        path: Where its vectors are read from when they are encoded.
    """

    name: str
    sha256: str
    vectors: int
    word: str | None
    path: Path = dataclasses.field(compare=False, repr=False)


class Segment(NamedTuple):
    """Text that has one weight; 1 is neutral.

    Attributes:
        text: As it was written, the escapes read.
        embedding: What takes its place when it is encoded.
    """

    text: str
    weight: float
    embedding: EmbeddedWord | None = None


Block = tuple[Segment, ...]


@dataclass(frozen=True)
class ParsedPrompt:
    """A prompt as blocks, each of which starts a new chunk of tokens; at least one block.

    A block is empty where there is nothing before, between or after `BREAK`.
    """

    blocks: tuple[Block, ...]


EMPTY_PROMPT = ParsedPrompt(((),))


@dataclass(frozen=True)
class Source:
    """Where a parsed prompt stands in the text it was read from, in characters from 0.

    Attributes:
        blocks: Where each block begins: behind its `BREAK` and the space around that.
        characters: For each segment of each block, the position of each of its characters.
    """

    blocks: tuple[int, ...]
    characters: tuple[tuple[tuple[int, ...], ...], ...]


PutEmbeddings = Callable[[ParsedPrompt, Source, PromptField], tuple[ParsedPrompt, Source]]
"""Puts embeddings into a prompt where it names them."""


def parse_prompt(text: str, field: PromptField = "prompt") -> ParsedPrompt:
    """The prompt's weighted segments.

    Raises:
        BadRequestError: With `field`, naming the position (characters from 1) of a weight that is
            no number or beyond `MAX_WEIGHT`, or of syntax that is not read.
    """
    return locate_prompt(text, field)[0]


def locate_prompt(
    text: str, field: PromptField = "prompt", places: Sequence[int] | None = None
) -> tuple[ParsedPrompt, Source]:
    """The prompt's weighted segments, and where in the text they stand.

    Args:
        places: Where each character of the text, and its end, was typed, if not just there.

    Raises:
        BadRequestError: As `parse_prompt`.
    """
    at = range(len(text) + 1) if places is None else places
    if tag := _TAG.search(text):
        advice = (
            "choose LoRAs in the field 'loras' instead"
            if tag[1] in ("lora", "lyco")
            else "put a space after '<' to write it as text"
        )
        reason = f"<{tag[1][:20]}:...> tags are not read here; {advice}"
        raise refusal(field, at[tag.start()], reason)
    blocks = [_Reading(at[0])]
    for piece in _weighted_pieces(text, field, at):
        if piece.is_break:
            blocks.append(_Reading(at[piece.start]))
        elif piece.text:
            blocks[-1].add(piece, at)
    source = Source(
        tuple(block.start for block in blocks),
        tuple(tuple(map(tuple, block.characters)) for block in blocks),
    )
    return ParsedPrompt(tuple(block.segments() for block in blocks)), source


def write_prompt(parsed: ParsedPrompt) -> str:
    """A text that is read as `parsed` again, with one bracket around each weighted segment.

    Weights are kept to four places, space beside a `BREAK` is not.
    """

    def written(segment: Segment) -> str:
        # With its colon, which may make a tag of what stands before it.
        colon = "" if segment.weight == 1 else ":"
        text = re.sub(r"[()\[\]\\]", r"\\\g<0>", segment.text) + colon
        text = _INSIDE_SYNTAX.sub(r"\\", text)
        weight = f"{segment.weight:.4f}".rstrip("0").rstrip(".")
        return f"({text}{weight})" if colon else text

    return " BREAK ".join("".join(map(written, block)) for block in parsed.blocks)


def lighten_prompt(text: str, above: float, to: float) -> str:
    """The text with each weight that is written in it and larger than `above` set to `to`.

    Raises:
        ValueError: The text is none that `parse_prompt` reads.
    """
    closers, _ = _brackets(text)
    for closer in reversed(closers):
        if closer["weight"] is not None and float(closer["weight"]) > above:
            start, end = closer.span("weight")
            text = f"{text[:start]}{to:g}{text[end:]}"
    return text


def refusal(field: PromptField, position: int, reason: str) -> BadRequestError:
    """The error of a prompt that cannot be read at a position, in characters from 0."""
    label = "Prompt" if field == "prompt" else "Negative prompt"
    return BadRequestError(f"{label}, character {position + 1}: {reason}.", field=field)


def unmatched_brackets(text: str) -> tuple[int, ...]:
    """Positions of brackets that nothing closes, or that close nothing, in any text."""
    return _brackets(text)[1]


def _brackets(text: str) -> tuple[list[re.Match[str]], tuple[int, ...]]:
    """The tokens that close a bracket, and the positions of brackets without a counterpart."""
    opened: dict[str, list[int]] = {"(": [], "[": []}
    closers: list[re.Match[str]] = []
    stray: list[int] = []
    for token in _TOKEN.finditer(text):
        if (bracket := token["open"]) is not None:
            opened[bracket].append(token.start())
        elif token["weight"] is not None or token["close"] is not None:
            if fitting := opened["[" if token["close"] == "]" else "("]:
                fitting.pop()
                closers.append(token)
            else:
                stray.append(token.end() - 1)
    return closers, tuple(sorted((*stray, *opened["("], *opened["["])))


class _Piece(NamedTuple):
    """A stretch of the text as it stands there, or a `BREAK`, which starts where it ends."""

    text: str
    start: int
    is_break: bool = False
    weight: float = 1.0


class _Reading:
    """A block while it is read."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.characters: list[list[int]] = []
        self._texts: list[list[str]] = []
        self._weights: list[float] = []

    def add(self, piece: _Piece, places: Sequence[int]) -> None:
        if not self._weights or self._weights[-1] != piece.weight:
            self._weights.append(piece.weight)
            self._texts.append([])
            self.characters.append([])
        self._texts[-1].append(piece.text)
        self.characters[-1] += places[piece.start : piece.start + len(piece.text)]

    def segments(self) -> Block:
        texts = map("".join, self._texts)
        return tuple(map(Segment, texts, self._weights))


def _weighted_pieces(text: str, field: PromptField, places: Sequence[int]) -> Iterator[_Piece]:
    tokens = list(_TOKEN.finditer(text))
    factors, closers = _factors(tokens, field, places)
    # Brackets of one kind nest in each other, those of different kinds may overlap.
    products = {"(": [1.0], "[": [1.0]}
    for number, token in enumerate(tokens):
        if (bracket := token["open"]) is not None:
            products[bracket].append(products[bracket][-1] * factors[number])
        elif number in closers:
            products[closers[number]].pop()
        else:
            weight = products["("][-1] * products["["][-1]
            for piece in _bare_pieces(token):
                if piece.text and not abs(weight) <= MAX_WEIGHT:
                    reason = f"the brackets multiply up to a weight of {weight:.4g}, at most"
                    reason = f"{reason} {MAX_WEIGHT:g} is possible"
                    raise refusal(field, places[piece.start], reason)
                yield piece._replace(weight=weight)


def _factors(
    tokens: Sequence[re.Match[str]], field: PromptField, places: Sequence[int]
) -> tuple[dict[int, float], dict[int, str]]:
    """By number of token, what each opened bracket weighs by, and which kind each closer closes."""
    opened: dict[str, list[int]] = {"(": [], "[": []}
    factors: dict[int, float] = {}
    closers: dict[int, str] = {}
    for number, token in enumerate(tokens):
        if (bracket := token["open"]) is not None:
            opened[bracket].append(number)
            factors[number] = _ROUND if bracket == "(" else _SQUARE
        elif token["weight"] is not None or token["close"] is not None:
            kind = "[" if token["close"] == "]" else "("
            if opened[kind]:
                opener = opened[kind].pop()
                closers[number] = kind
                if token["weight"] is not None:
                    factors[opener] = _number(token, field, places)
    return factors, closers


def _bare_pieces(token: re.Match[str]) -> Iterator[_Piece]:
    """A token that is no bracket's, without the backslash, and parted at each `BREAK`."""
    if token["escaped"] is not None:
        yield _Piece(token["escaped"], token.start("escaped"))
        return
    text, position = token.group(), 0
    for found in _BREAK.finditer(text):
        yield _Piece(text[position : found.start()].rstrip(), token.start() + position)
        position = found.end()
        position += len(text[position:]) - len(text[position:].lstrip())
        yield _Piece("", token.start() + position, is_break=True)
    yield _Piece(text[position:], token.start() + position)


def _number(token: re.Match[str], field: PromptField, places: Sequence[int]) -> float:
    written = token["weight"]
    try:
        weight = float(written)
    except ValueError:
        weight = math.nan
    if abs(weight) <= MAX_WEIGHT:
        return weight
    shown = written if len(written) <= 20 else written[:17] + "..."
    reason = (
        "is not a number; write it like (word:1.2)"
        if math.isnan(weight)
        else f"is out of range, at most {MAX_WEIGHT:g} is possible"
    )
    raise refusal(field, places[token.start("weight")], f"the weight {shown!r} {reason}")
