"""A prompt that draws lots as a tree of texts, lists and groups; see `dynamicprompts`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from webui.interchange.dynamicmarks import marks_in
from webui.interchange.sparse import shortened

MAX_DEPTH = 20
"""How deep drawing may nest, lists in lists included."""

_WAY = re.compile(r"\s*([~!@])")
_WEIGHT = re.compile(r"\s*([0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})::")


class UnreadError(Exception):
    """What is wrong, and where in the text (from 0): at a list, where it is in a line of that.

    Without a place it is about the prompt as a whole.
    """

    def __init__(self, start: int | None, reason: str, line: str | None = None) -> None:
        super().__init__(reason)
        self.start = start
        self.reason = reason
        self.line = line

    def sentence(self, field: str) -> str:
        """What is wrong in a field of the request."""
        label = "Prompt" if field == "prompt" else "Negative prompt"
        inside = "" if self.line is None else f" in the line {shortened(self.line)!r}"
        return f"{label}, character {(self.start or 0) + 1}{inside}: {self.reason}."


@dataclass(frozen=True)
class Wildcard:
    """A place where a line of a list stands."""

    name: str
    start: int


@dataclass
class Option:
    """One of a group, with what stands in it."""

    weight: float = 1.0
    items: list[str | Wildcard | Draw] = field(default_factory=list["str | Wildcard | Draw"])


@dataclass
class Draw:
    """A group in braces.

    Attributes:
        low, high: How many of the options are taken; None: as many as there are.
        separator: What stands between them; None where one is taken as it stands.
    """

    start: int
    low: int
    high: int | None
    separator: str | None
    options: list[Option] = field(default_factory=list[Option])


Items = list[str | Wildcard | Draw]


def read(text: str) -> Items:
    """The text with what is drawn in it.

    Raises:
        UnreadError: Something is written in a way that is not read.
    """
    root: Items = []
    items, position = root, 0
    # Each open brace with the items it stands in; without a group where it is text.
    opened: list[tuple[Draw | None, Items]] = []
    depth = 0
    for mark in marks_in(text):
        match = mark.match
        start, end = match.span()
        group = opened[-1][0] if opened else None
        match match.lastgroup:
            case "variable":
                raise UnreadError(start, "variables ${...} are not read; write \\${ for the text")
            case "wildcard":
                items += [text[position:start], Wildcard(match["wildcard"], start)]
                position = end
            case "bar":
                if mark.draws and group is not None:
                    items.append(text[position:start])
                    items, position = _next_option(group, text, end)
            case "square":
                pass
            case "close":
                if opened:
                    _, outer = opened.pop()
                    if group is not None:
                        items.append(text[position:start])
                        items, position, depth = outer, end, depth - 1
            case _ if mark.draws:
                depth += 1
                if depth > MAX_DEPTH:
                    raise UnreadError(start, f"braces nest more than {MAX_DEPTH} deep")
                items.append(text[position:start])
                draw = _opened(match)
                items.append(draw)
                opened.append((draw, items))
                items, position = _next_option(draw, text, end)
            case _:
                opened.append((None, items))
    items.append(text[position:])
    return root


def _opened(match: re.Match[str]) -> Draw:
    if match["picks"] is None:
        return Draw(match.start(), 1, 1, None)
    low, high, is_range = match["low"], match["high"], bool(match["to"])
    if not low and not high:
        reason = "how many to take is missing; write it like {2$$a|b|c}"
        raise UnreadError(match.start(), reason)
    least = int(low or 1)
    most = (int(high) if high else None) if is_range else least
    if most is not None and most < least:
        raise UnreadError(match.start(), f"{least} to {most} is no range")
    separator = match["separator"]
    return Draw(match.start(), least, most, "," if separator is None else separator)


def _next_option(draw: Draw, text: str, position: int) -> tuple[Items, int]:
    """The items of another option, and where its text begins."""
    if not draw.options and (way := _WAY.match(text, position)):
        if way[1] != "~":
            reason = f"'{way[1]}' asks for another way to draw, which is not read; remove it"
            raise UnreadError(way.start(1), reason)
        position = way.end()
    option = Option()
    draw.options.append(option)
    if weight := _WEIGHT.match(text, position):
        option.weight, position = float(weight[1]), weight.end()
    return option.items, position
