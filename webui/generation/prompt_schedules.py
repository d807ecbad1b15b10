"""A1111's prompt editing and alternation: which text a prompt is at which step.

`[from:to:when]` is `from` up to and with step `when` and `to` from then on; `[to:when]` adds, and
`[from::when]` takes away. With a dot, `when` is a share of the steps, otherwise a step. `[a|b|]` is
each of its options in turn, step by step, the empty one too. Both nest. Brackets that do not match
are text, and so is what is escaped (`prompt_parser.py` of A1111).

Time grows with the length of the text, once for each different text.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

_MARK = re.compile(r"\\.|[()\[\]:|]", re.DOTALL)
_WHEN = re.compile(r"\s*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*")


class Span(NamedTuple):
    """Characters of a text, the last one not included."""

    start: int
    end: int


@dataclass(frozen=True)
class Change:
    """A bracket whose text is another one at another step.

    Attributes:
        options: Where in the text its options stand.
        when: As it was written, where the second option follows the first; None: they take turns.
    """

    span: Span
    options: tuple[Span, ...]
    when: str | None

    def last_step(self, steps: int) -> int:
        """The last step of the first option, which may lie beyond the first or the last of all."""
        written = self.when or "0"
        value = float(written) * (steps if "." in written else 1)
        return int(max(-1.0, min(value, steps)))

    def option(self, step: int, steps: int) -> Span:
        """What it is at a step, from 1."""
        if self.when is None:
            return self.options[(step - 1) % len(self.options)]
        return self.options[0 if step <= self.last_step(steps) else 1]


@dataclass(frozen=True)
class Variant:
    """What a prompt is during some of the steps.

    Attributes:
        until: The last of these steps, from 1.
        places: Where in the prompt each character of the text, and its end, stands.
    """

    until: int
    text: str
    places: tuple[int, ...]


class ScheduledText:
    """A text, or a part of it, with its changing brackets.

    Attributes:
        balanced: The outermost brackets that are closed by one of their own kind.
    """

    def __init__(self, text: str, part: Span | None = None) -> None:
        self._text = text
        self._part = Span(0, len(text)) if part is None else part
        found, balanced = _read(text, self._part)
        self._changes = sorted(found, key=lambda change: change.span.start)
        self._starts = [change.span.start for change in self._changes]
        self.balanced = balanced

    @property
    def changes(self) -> tuple[Change, ...]:
        """Every bracket whose text changes, also inside of others."""
        return tuple(self._changes)

    def variants(self, steps: int) -> tuple[Variant, ...]:
        """What the text is over that many steps; neighbours differ."""
        variants: list[Variant] = []
        for until in self._ends(steps):
            spans = list(self._at(until, steps))
            text = "".join(self._text[start:end] for start, end in spans)
            if variants and variants[-1].text == text:
                text, places = variants[-1].text, variants[-1].places
                variants.pop()
            else:
                places = (*chain.from_iterable(range(*span) for span in spans), self._part.end)
            variants.append(Variant(until, text, places))
        return tuple(variants)

    def _ends(self, steps: int) -> list[int]:
        """The steps after which something may change, and the last one."""
        if any(change.when is None for change in self._changes):
            return list(range(1, steps + 1))
        ends = {change.last_step(steps) for change in self._changes}
        return sorted({end for end in ends if end >= 1} | {steps})

    def _at(self, step: int, steps: int) -> Iterator[Span]:
        """The parts of the text that count at a step."""
        position = self._part.start
        # Where what is being read ends, and where to read on then.
        inside = [(self._part.end, self._part.end)]
        while inside:
            end, after = inside[-1]
            found = bisect_left(self._starts, position)
            if found < len(self._starts) and self._starts[found] < end:
                change = self._changes[found]
                yield Span(position, change.span.start)
                option = change.option(step, steps)
                inside.append((option.end, change.span.end))
                position = option.start
            else:
                yield Span(position, end)
                inside.pop()
                position = after


@dataclass
class _Bracket:
    kind: str
    start: int
    colons: list[int]
    bars: list[int]


def _read(text: str, part: Span) -> tuple[list[Change], tuple[Span, ...]]:
    """The brackets that change, and the outermost balanced ones.

    A closer of the other kind makes all that are open plain text.
    """
    changes: list[Change] = []
    balanced: list[Span] = []
    opened: list[_Bracket] = []
    for mark in _MARK.finditer(text, *part):
        match mark.group():
            case "(" | "[" as kind:
                opened.append(_Bracket(kind, mark.start(), [], []))
            case ":" if opened:
                opened[-1].colons.append(mark.start())
            case "|" if opened:
                opened[-1].bars.append(mark.start())
            case ")" | "]" as closer if opened:
                bracket = opened.pop()
                if (bracket.kind, closer) not in (("(", ")"), ("[", "]")):
                    opened.clear()
                    continue
                span = Span(bracket.start, mark.end())
                while balanced and balanced[-1].start > span.start:
                    balanced.pop()
                balanced.append(span)
                if bracket.kind == "[" and (change := _change(text, bracket, span)):
                    changes.append(change)
            case _:
                pass
    return changes, tuple(balanced)


def _change(text: str, bracket: _Bracket, span: Span) -> Change | None:
    inner = Span(span.start + 1, span.end - 1)
    if bracket.bars:
        starts = [inner.start, *(bar + 1 for bar in bracket.bars)]
        return Change(span, tuple(map(Span, starts, [*bracket.bars, inner.end])), None)
    if len(bracket.colons) not in (1, 2):
        return None
    *before, last = bracket.colons
    when = _WHEN.fullmatch(text, last + 1, inner.end)
    if when is None:
        return None
    first = Span(inner.start, before[0] if before else inner.start)
    second = Span(before[0] + 1 if before else inner.start, last)
    return Change(span, (first, second), when[1])
