r"""Prompts that draw lots, in the syntax of sd-dynamic-prompts: `{a|b}` and `__name__`.

`{a|b|c}` is one of its options, `{3::a|b}` three times as often the first one, `{2$$a|b|c}` two of
them, `{1-2$$ and $$a|b}` one or two with " and " between (without it a comma), and `__name__` a
line of a list, in which all of this may stand again. All nest. Braces without `|` and `$$` are
text, and so is what follows a backslash or stands in a tag `<lora:...>`; a bar in square brackets
is theirs. Variables and other ways to draw are refused.

Written anew for Easel, since the package `dynamicprompts` (0.31) has no escape for braces, fails on
"$5" and "50%", takes "#" for a comment, and neither bounds what it makes nor ends in cycles.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random
from typing import Protocol

from webui.errors import BadRequestError
from webui.interchange.dynamicgrammar import (
    MAX_DEPTH,
    Draw,
    Items,
    Option,
    UnreadError,
    Wildcard,
    read,
)
from webui.interchange.dynamicmarks import (
    inert,
    is_dynamic,
    marks_in,
)
from webui.interchange.sparse import shortened
from webui.request import MAX_PROMPT_CHARACTERS

MAX_DRAWS = 1_000
"""How often one prompt may draw."""

_LONE_BACKSLASH = re.compile(r"(?<!\\)((?:\\\\)*)\\\Z")


class Lists(Protocol):
    """Where lists are taken from: `webui.library.wildcards.Wildcards`."""

    def lines(self, pattern: str) -> tuple[str, ...]:
        """The lines of the lists that are so called, at least one.

        Raises:
            BadRequestError: There are none.
        """
        ...


def expand(text: str, seed: int, lists: Lists, field: str = "prompt") -> str:
    """What the prompt is for that seed; see `Expander.expand`.

    Raises:
        BadRequestError: As there.
    """
    return Expander(lists).expand(text, seed, field)


class Expander:
    """Draws from lists, which it reads and looks through once."""

    def __init__(self, lists: Lists) -> None:
        self._lists = lists
        self._sound: set[str] = set()

    def expand(self, text: str, seed: int, field: str = "prompt") -> str:
        """What the prompt is for that seed: always the same, as long as the lists are.

        In the result nothing is drawn any more; backslashes stay in it. Time and length are
        bounded.

        Args:
            field: The request's, named in errors; another field draws other lots.

        Raises:
            BadRequestError: Something in it cannot be read, lists go round in a circle, or it
                becomes too long.
        """
        if not is_dynamic(text):
            return text
        try:
            self._check_all(text)
            drawn = inert(_Drawing(self._lists, Random(f"{seed}/{field}")).drawn(read(text), 0))
            _check_length(len(drawn))
            return drawn
        except UnreadError as error:
            raise BadRequestError(error.sentence(field), field=field) from None

    def _lines(self, name: str, start: int) -> tuple[str, ...]:
        try:
            return self._lists.lines(name)
        except BadRequestError as error:
            reason = f"{_small(error.message)} To write it as text, put a backslash before it"
            raise UnreadError(start, reason) from None

    def _check_all(self, text: str) -> None:
        """Passes a text all of whose lists are there, those that it may not come to as well."""
        for mark in marks_in(text):
            if (name := mark.match["wildcard"]) is not None:
                self._check(name, (), mark.match.start())

    def _check(self, name: str, above: tuple[str, ...], start: int) -> None:
        """Passes a list from which no way leads back to it."""
        if name in self._sound:
            return
        way = (*above, name)
        if name in above:
            raise UnreadError(start, f"wildcards go round in a circle: {_way(way)}")
        if len(way) > MAX_DEPTH:
            raise UnreadError(start, f"wildcards nest more than {MAX_DEPTH} deep")
        named = {
            mark.match["wildcard"]
            for line in self._lines(name, start)
            if "__" in line
            for mark in marks_in(line)
        }
        for inner in sorted(named - {None}):
            self._check(inner, way, start)
        self._sound.add(name)


def _way(names: Sequence[str]) -> str:
    """Names in the order in which they lead to each other, in one line."""
    return " > ".join(shortened(name) for name in names)


class _Drawing:
    """One prompt's draws."""

    def __init__(self, lists: Lists, random: Random) -> None:
        self._lists = lists
        self._random = random
        self._draws = 0
        self._characters = 0

    def drawn(self, items: Items, depth: int) -> str:
        return "".join(self._text(item, depth) for item in items)

    def _text(self, item: str | Wildcard | Draw, depth: int) -> str:
        if isinstance(item, str):
            self._characters += len(item)
            _check_length(self._characters)
            return item
        self._draws += 1
        if self._draws > MAX_DRAWS:
            raise UnreadError(None, f"more than {MAX_DRAWS:,} draws would be made")
        if depth >= MAX_DEPTH:
            raise UnreadError(None, f"what is drawn nests more than {MAX_DEPTH} deep")
        if isinstance(item, Wildcard):
            lines = self._lists.lines(item.name)
            return self._line(lines[int(self._random.random() * len(lines))], item, depth)
        return self._picked(item, depth)

    def _line(self, line: str, wildcard: Wildcard, depth: int) -> str:
        try:
            # A backslash at the end would take the meaning from what follows in the prompt.
            return self.drawn(read(_LONE_BACKSLASH.sub(r"\1", line)), depth + 1)
        except UnreadError as error:
            if error.start is None:
                raise
            raise UnreadError(wildcard.start, error.reason, error.line or line) from None

    def _picked(self, draw: Draw, depth: int) -> str:
        """As many of the options as the group says, none of them twice."""
        first = draw.options[0]
        wildcards = [item for item in first.items if isinstance(item, Wildcard)]
        if draw.separator is not None and len(draw.options) == 1 and _is_list(first):
            lines = list(self._lists.lines(wildcards[0].name))
            return draw.separator.join(
                self._line(lines.pop(int(self._random.random() * len(lines))), wildcards[0], depth)
                for _ in range(self._number(draw, len(lines)))
            )
        left = list(draw.options)
        options = [self._option(draw, left) for _ in range(self._number(draw, len(left)))]
        texts = [self.drawn(option.items, depth + 1) for option in options]
        if draw.separator is None:
            return "".join(texts)
        self._characters += len(draw.separator) * len(texts)
        return draw.separator.join(text.strip() for text in texts)

    def _number(self, draw: Draw, options: int) -> int:
        most = options if draw.high is None else min(draw.high, options)
        least = min(draw.low, most)
        return least + int(self._random.random() * (most - least + 1))

    def _option(self, draw: Draw, left: list[Option]) -> Option:
        """One of the options, which is then left no more."""
        total = sum(option.weight for option in left)
        if not total:
            raise UnreadError(draw.start, "all that could be drawn has the weight 0")
        drawn = self._random.random() * total
        for number, option in enumerate(left):
            drawn -= option.weight
            if drawn < 0:
                return left.pop(number)
        return left.pop()


def _check_length(characters: int) -> None:
    if characters > MAX_PROMPT_CHARACTERS:
        most = f"{MAX_PROMPT_CHARACTERS:,} characters"
        raise UnreadError(None, f"with all that is drawn it is longer than {most}")


def _is_list(option: Option) -> bool:
    """Whether the option is a single wildcard."""
    named = [item for item in option.items if not isinstance(item, str) or item.strip()]
    return len(named) == 1 and isinstance(named[0], Wildcard)


def _small(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
