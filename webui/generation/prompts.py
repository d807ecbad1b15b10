r"""A1111's prompt grammar, read into weighted segments.

`(x)` weighs x by 1.1, `[x]` by 1/1.1, `(x:1.5)` by 1.5; nested weights multiply. `\(` `\)` `\[`
`\]` `\\` are literal and any other backslash disappears; what is not closed reaches to the end,
what closes nothing is literal. `BREAK` ends the chunk of 75 tokens, inside brackets too.

Not read yet, and refused rather than taken for text: prompt editing `[from:to:when]`, `[to:when]`
(so `[x:1.5]` is an error here, as A1111 takes it for editing), alternation `[a|b]`, `AND` (which
A1111 knows in the positive prompt only) and `<name:...>` tags.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
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
_BREAK = re.compile(r"\s*\bBREAK\b\s*")
_AND = re.compile(r"\bAND\b")
_TAG = re.compile(r"<(\w+):[^>]+>")
_STRUCTURE = re.compile(r"\\.|[()\[\]:|]", re.DOTALL)
_INSIDE_SYNTAX = re.compile(r"(?<=\bB)(?=REAK\b)|(?<=\bA)(?=ND\b)|(?<=<)(?=\w+:)")
_NUMBER = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*")


class Segment(NamedTuple):
    """Text that has one weight; 1 is neutral."""

    text: str
    weight: float


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


def parse_prompt(text: str, field: PromptField = "prompt") -> ParsedPrompt:
    """The prompt's weighted segments.

    Raises:
        BadRequestError: With `field`, naming the position (characters from 1) of a weight that is
            no number or beyond `MAX_WEIGHT`, or of syntax that is not read.
    """
    return locate_prompt(text, field)[0]


def locate_prompt(text: str, field: PromptField = "prompt") -> tuple[ParsedPrompt, Source]:
    """The prompt's weighted segments, and where in the text they stand.

    Raises:
        BadRequestError: As `parse_prompt`.
    """
    _refuse_unread(text, field)
    blocks: list[list[Segment]] = [[]]
    characters: list[list[tuple[int, ...]]] = [[]]
    starts = [0]
    for piece in _weighted_pieces(text, field):
        block, positions = blocks[-1], characters[-1]
        span = tuple(range(piece.start, piece.start + len(piece.text)))
        if piece.is_break:
            blocks.append([])
            characters.append([])
            starts.append(piece.start)
        elif block and block[-1].weight == piece.weight:
            block[-1] = Segment(block[-1].text + piece.text, piece.weight)
            positions[-1] += span
        elif piece.text:
            block.append(Segment(piece.text, piece.weight))
            positions.append(span)
    source = Source(tuple(starts), tuple(tuple(spans) for spans in characters))
    return ParsedPrompt(tuple(tuple(block) for block in blocks)), source


def write_prompt(parsed: ParsedPrompt) -> str:
    """A text that is read as `parsed` again, with one bracket around each weighted segment.

    Weights are kept to four places, space beside a `BREAK` is not.
    """

    def written(segment: Segment) -> str:
        text = _INSIDE_SYNTAX.sub(r"\\", re.sub(r"[()\[\]\\]", r"\\\g<0>", segment.text))
        weight = f"{segment.weight:.4f}".rstrip("0").rstrip(".")
        return text if segment.weight == 1 else f"({text}:{weight})"

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


@dataclass
class _Piece:
    """A stretch of the text as it stands there, or a `BREAK`, which starts where it ends."""

    text: str
    start: int
    is_break: bool = False
    weight: float = 1.0


def _weighted_pieces(text: str, field: PromptField) -> list[_Piece]:
    pieces: list[_Piece] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def close(bracket: str, factor: float) -> None:
        for piece in pieces[opened[bracket].pop() :]:
            piece.weight *= factor

    for token in _TOKEN.finditer(text):
        if (escaped := token["escaped"]) is not None:
            pieces.append(_Piece(escaped, token.start("escaped")))
        elif (bracket := token["open"]) is not None:
            opened[bracket].append(len(pieces))
        elif token["weight"] is not None and opened["("]:
            close("(", _number(token, field))
        elif token["close"] == ")" and opened["("]:
            close("(", _ROUND)
        elif token["close"] == "]" and opened["["]:
            close("[", _SQUARE)
        else:
            pieces.extend(_split_at_breaks(token))
    for bracket, factor in (("(", _ROUND), ("[", _SQUARE)):
        while opened[bracket]:
            close(bracket, factor)

    for piece in pieces:
        if piece.text and abs(piece.weight) > MAX_WEIGHT:
            reason = f"the brackets multiply up to a weight of {piece.weight:.4g}, at most"
            raise _refusal(field, piece.start, f"{reason} {MAX_WEIGHT:g} is possible")
    return pieces


def _split_at_breaks(token: re.Match[str]) -> Iterator[_Piece]:
    position = 0
    for found in _BREAK.finditer(token.group()):
        yield _Piece(token.group()[position : found.start()], token.start() + position)
        yield _Piece("", token.start() + found.end(), is_break=True)
        position = found.end()
    yield _Piece(token.group()[position:], token.start() + position)


def _number(token: re.Match[str], field: PromptField) -> float:
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
    raise _refusal(field, token.start("weight"), f"the weight {shown!r} {reason}")


def _refuse_unread(text: str, field: PromptField) -> None:
    if tag := _TAG.search(text):
        advice = (
            "choose LoRAs in the field 'loras' instead"
            if tag[1] in ("lora", "lyco")
            else "put a space after '<' to write it as text"
        )
        raise _refusal(field, tag.start(), f"<{tag[1][:20]}:...> tags are not read here; {advice}")
    if field == "prompt" and (word := _AND.search(text)):
        reason = "AND between prompts is not supported; write 'and' for the word itself"
        raise _refusal(field, word.start(), reason)
    for start, kind in _scheduled(text):
        reason = f"{kind} is not supported; write \\[ and \\] for the brackets themselves"
        raise _refusal(field, start, reason)


@dataclass
class _Bracket:
    kind: str
    start: int
    colons: list[int]
    has_bar: bool = False


def _scheduled(text: str) -> Iterator[tuple[int, str]]:
    """Start and kind of each bracket that A1111 would change from step to step.

    Only balanced brackets count: a closer of the other kind makes all that are open plain text.
    """
    opened: list[_Bracket] = []
    for mark in _STRUCTURE.finditer(text):
        match mark.group():
            case "(" | "[" as kind:
                opened.append(_Bracket(kind, mark.start(), []))
            case ":" if opened:
                opened[-1].colons.append(mark.end())
            case "|" if opened:
                opened[-1].has_bar = True
            case ")" | "]" as closer if opened:
                bracket = opened.pop()
                if (bracket.kind, closer) not in (("(", ")"), ("[", "]")):
                    opened.clear()
                elif bracket.kind == "[" and bracket.has_bar:
                    yield bracket.start, "alternation [a|b]"
                elif (
                    bracket.kind == "["
                    and len(bracket.colons) in (1, 2)
                    and _NUMBER.fullmatch(text, bracket.colons[-1], mark.start())
                ):
                    yield bracket.start, "prompt editing [from:to:when]"
            case _:
                pass


def _refusal(field: PromptField, start: int, reason: str) -> BadRequestError:
    label = "Prompt" if field == "prompt" else "Negative prompt"
    return BadRequestError(f"{label}, character {start + 1}: {reason}.", field=field)
