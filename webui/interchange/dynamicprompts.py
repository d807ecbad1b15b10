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
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from webui.errors import BadRequestError
from webui.interchange.sparse import shortened
from webui.request import MAX_PROMPT_CHARACTERS

MAX_DEPTH = 20
"""How deep drawing may nest, lists in lists included."""

MAX_DRAWS = 1_000
"""How often one prompt may draw."""

_TOKEN = re.compile(
    r"(?P<escaped>\\.|<(?:lora|lyco|hypernet):[^<>{}]+>)"
    r"|(?P<variable>\$\{)"
    r"|(?P<open>\{)(?P<picks>\s*~?\s*(?P<low>[0-9]{0,3})(?P<to>-?)(?P<high>[0-9]{0,3})\$\$"
    r"(?:(?P<separator>[^${}\\]*)\$\$)?)?"
    r"|(?P<bar>\|)"
    r"|(?P<close>\})"
    r"|(?P<square>[\[\]])"
    r"|__~?(?P<wildcard>(?:[^\W_]|[-./*?]|_(?!_))+)__",
    re.DOTALL,
)
_WAY = re.compile(r"\s*([~!@])")
_WEIGHT = re.compile(r"\s*([0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})::")
_ESCAPED = re.compile(r"\\([{}|_$])")
_LONE_BACKSLASH = re.compile(r"(?<!\\)((?:\\\\)*)\\\Z")


class Lists(Protocol):
    """Where lists are taken from: `webui.library.wildcards.Wildcards`."""

    def lines(self, pattern: str) -> tuple[str, ...]:
        """The lines of the lists that are so called, at least one.

        Raises:
            BadRequestError: There are none.
        """
        ...


def is_dynamic(text: str) -> bool:
    """Whether something in the text is drawn, or looks so and is refused."""
    return any(mark.draws for mark in _marks(text))


def inert(text: str) -> str:
    """The text with a backslash before all that would draw."""
    escaped = list(text)
    for mark in _marks(text):
        for at in mark.characters if mark.draws else ():
            escaped[at] = "\\" + text[at]
    return "".join(escaped)


def without_escapes(text: str) -> str:
    """An expanded prompt without the backslashes that kept something in it from being drawn.

    For a model that reads no brackets, where nothing else takes them out.
    """
    return "".join(text[at] for at in unescaped(text))


def unescaped(text: str) -> list[int]:
    """Where the characters of `without_escapes` stand in the text."""
    dropped = {escape.start() for escape in _ESCAPED.finditer(text)}
    return [at for at in range(len(text)) if at not in dropped]


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
            drawn = inert(_Drawing(self._lists, Random(f"{seed}/{field}")).drawn(_read(text), 0))
            _check_length(len(drawn))
            return drawn
        except _UnreadError as error:
            raise BadRequestError(error.sentence(field), field=field) from None

    def _lines(self, name: str, start: int) -> tuple[str, ...]:
        try:
            return self._lists.lines(name)
        except BadRequestError as error:
            reason = f"{_small(error.message)} To write it as text, put a backslash before it"
            raise _UnreadError(start, reason) from None

    def _check_all(self, text: str) -> None:
        """Passes a text all of whose lists are there, those that it may not come to as well."""
        for mark in _marks(text):
            if (name := mark.match["wildcard"]) is not None:
                self._check(name, (), mark.match.start())

    def _check(self, name: str, above: tuple[str, ...], start: int) -> None:
        """Passes a list from which no way leads back to it."""
        if name in self._sound:
            return
        way = (*above, name)
        if name in above:
            raise _UnreadError(start, f"wildcards go round in a circle: {_way(way)}")
        if len(way) > MAX_DEPTH:
            raise _UnreadError(start, f"wildcards nest more than {MAX_DEPTH} deep")
        named = {
            mark.match["wildcard"]
            for line in self._lines(name, start)
            if "__" in line
            for mark in _marks(line)
        }
        for inner in sorted(named - {None}):
            self._check(inner, way, start)
        self._sound.add(name)


def _way(names: Sequence[str]) -> str:
    """Names in the order in which they lead to each other, in one line."""
    return " > ".join(shortened(name) for name in names)


class _UnreadError(Exception):
    """What is wrong, and where in the text (from 0): at a list, where it is in a line of that.

    Without a place it is about the prompt as a whole.
    """

    def __init__(self, start: int | None, reason: str, line: str | None = None) -> None:
        super().__init__(reason)
        self.start = start
        self.reason = reason
        self.line = line

    def sentence(self, field: str) -> str:
        label = "Prompt" if field == "prompt" else "Negative prompt"
        inside = "" if self.line is None else f" in the line {shortened(self.line)!r}"
        return f"{label}, character {(self.start or 0) + 1}{inside}: {self.reason}."


@dataclass(frozen=True)
class Wildcard:
    """A place where a line of a list stands."""

    name: str
    start: int


@dataclass
class _Option:
    weight: float = 1.0
    items: list[str | Wildcard | _Draw] = field(default_factory=list["str | Wildcard | _Draw"])


@dataclass
class _Draw:
    """A group in braces.

    Attributes:
        low, high: How many of the options are taken; None: as many as there are.
        separator: What stands between them; None where one is taken as it stands.
    """

    start: int
    low: int
    high: int | None
    separator: str | None
    options: list[_Option] = field(default_factory=list[_Option])


@dataclass
class _Mark:
    """Something in the text that may have a meaning.

    Attributes:
        characters: Those that have to be escaped for it to have none.
        draws: Whether it has; braces do where there is a bar or a number to take between them.
    """

    match: re.Match[str]
    characters: tuple[int, ...]
    draws: bool = False


@dataclass
class _Open:
    """A bracket that is not closed yet, with the bars in it that are no inner one's."""

    mark: _Mark
    bars: list[_Mark] = field(default_factory=list[_Mark])


def _marks(text: str) -> list[_Mark]:
    marks: list[_Mark] = []
    opened: list[_Open] = []
    for match in _TOKEN.finditer(text):
        start, end = match.span()
        mark = _Mark(match, (start,))
        match match.lastgroup:
            case "escaped":
                continue
            case "variable":
                mark.characters, mark.draws = (start, start + 1), True
            case "wildcard":
                # All four, since each may be one of another name's.
                mark.characters, mark.draws = (start, start + 1, end - 2, end - 1), True
            case "bar" if opened:
                opened[-1].bars.append(mark)
            case "square" if match.group() == "]":
                if opened and opened[-1].mark.match.lastgroup == "square":
                    opened.pop()
            case "close":
                _close(mark, opened)
            case "bar":
                pass
            case _:
                opened.append(_Open(mark))
        marks.append(mark)
    return marks


def _close(mark: _Mark, opened: list[_Open]) -> None:
    """Takes the brace that is closed off the open ones, with what is open in it."""
    bars: list[_Mark] = []
    while opened and opened[-1].mark.match.lastgroup == "square":
        bars += opened.pop().bars
    if opened:
        brace = opened.pop()
        bars += brace.bars
        if bars or brace.mark.match["picks"] is not None:
            for one in (mark, brace.mark, *bars):
                one.draws = True


Items = list[str | Wildcard | _Draw]


def _read(text: str) -> Items:
    """The text with what is drawn in it.

    Raises:
        _UnreadError: Something is written in a way that is not read.
    """
    root: Items = []
    items, position = root, 0
    # Each open brace with the items it stands in; without a group where it is text.
    opened: list[tuple[_Draw | None, Items]] = []
    depth = 0
    for mark in _marks(text):
        match = mark.match
        start, end = match.span()
        group = opened[-1][0] if opened else None
        match match.lastgroup:
            case "variable":
                raise _UnreadError(start, "variables ${...} are not read; write \\${ for the text")
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
                    raise _UnreadError(start, f"braces nest more than {MAX_DEPTH} deep")
                items.append(text[position:start])
                draw = _opened(match)
                items.append(draw)
                opened.append((draw, items))
                items, position = _next_option(draw, text, end)
            case _:
                opened.append((None, items))
    items.append(text[position:])
    return root


def _opened(match: re.Match[str]) -> _Draw:
    if match["picks"] is None:
        return _Draw(match.start(), 1, 1, None)
    low, high, is_range = match["low"], match["high"], bool(match["to"])
    if not low and not high:
        reason = "how many to take is missing; write it like {2$$a|b|c}"
        raise _UnreadError(match.start(), reason)
    least = int(low or 1)
    most = (int(high) if high else None) if is_range else least
    if most is not None and most < least:
        raise _UnreadError(match.start(), f"{least} to {most} is no range")
    separator = match["separator"]
    return _Draw(match.start(), least, most, "," if separator is None else separator)


def _next_option(draw: _Draw, text: str, position: int) -> tuple[Items, int]:
    """The items of another option, and where its text begins."""
    if not draw.options and (way := _WAY.match(text, position)):
        if way[1] != "~":
            reason = f"'{way[1]}' asks for another way to draw, which is not read; remove it"
            raise _UnreadError(way.start(1), reason)
        position = way.end()
    option = _Option()
    draw.options.append(option)
    if weight := _WEIGHT.match(text, position):
        option.weight, position = float(weight[1]), weight.end()
    return option.items, position


class _Drawing:
    """One prompt's draws."""

    def __init__(self, lists: Lists, random: Random) -> None:
        self._lists = lists
        self._random = random
        self._draws = 0
        self._characters = 0

    def drawn(self, items: Items, depth: int) -> str:
        return "".join(self._text(item, depth) for item in items)

    def _text(self, item: str | Wildcard | _Draw, depth: int) -> str:
        if isinstance(item, str):
            self._characters += len(item)
            _check_length(self._characters)
            return item
        self._draws += 1
        if self._draws > MAX_DRAWS:
            raise _UnreadError(None, f"more than {MAX_DRAWS:,} draws would be made")
        if depth >= MAX_DEPTH:
            raise _UnreadError(None, f"what is drawn nests more than {MAX_DEPTH} deep")
        if isinstance(item, Wildcard):
            lines = self._lists.lines(item.name)
            return self._line(lines[int(self._random.random() * len(lines))], item, depth)
        return self._picked(item, depth)

    def _line(self, line: str, wildcard: Wildcard, depth: int) -> str:
        try:
            # A backslash at the end would take the meaning from what follows in the prompt.
            return self.drawn(_read(_LONE_BACKSLASH.sub(r"\1", line)), depth + 1)
        except _UnreadError as error:
            if error.start is None:
                raise
            raise _UnreadError(wildcard.start, error.reason, error.line or line) from None

    def _picked(self, draw: _Draw, depth: int) -> str:
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

    def _number(self, draw: _Draw, options: int) -> int:
        most = options if draw.high is None else min(draw.high, options)
        least = min(draw.low, most)
        return least + int(self._random.random() * (most - least + 1))

    def _option(self, draw: _Draw, left: list[_Option]) -> _Option:
        """One of the options, which is then left no more."""
        total = sum(option.weight for option in left)
        if not total:
            raise _UnreadError(draw.start, "all that could be drawn has the weight 0")
        drawn = self._random.random() * total
        for number, option in enumerate(left):
            drawn -= option.weight
            if drawn < 0:
                return left.pop(number)
        return left.pop()


def _check_length(characters: int) -> None:
    if characters > MAX_PROMPT_CHARACTERS:
        most = f"{MAX_PROMPT_CHARACTERS:,} characters"
        raise _UnreadError(None, f"with all that is drawn it is longer than {most}")


def _is_list(option: _Option) -> bool:
    """Whether the option is a single wildcard."""
    named = [item for item in option.items if not isinstance(item, str) or item.strip()]
    return len(named) == 1 and isinstance(named[0], Wildcard)


def _small(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
