"""What in a prompt may draw lots, and where, before it is read; see `dynamicprompts`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

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
_ESCAPED = re.compile(r"\\([{}|_$])")


def is_dynamic(text: str) -> bool:
    """Whether something in the text is drawn, or looks so and is refused."""
    return any(mark.draws for mark in marks_in(text))


def inert(text: str) -> str:
    """The text with a backslash before all that would draw."""
    escaped = list(text)
    for mark in marks_in(text):
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


@dataclass
class Mark:
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

    mark: Mark
    bars: list[Mark] = field(default_factory=list[Mark])


def marks_in(text: str) -> list[Mark]:
    """All marks of a text, in order."""
    marks: list[Mark] = []
    opened: list[_Open] = []
    for match in _TOKEN.finditer(text):
        start, end = match.span()
        mark = Mark(match, (start,))
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


def _close(mark: Mark, opened: list[_Open]) -> None:
    """Takes the brace that is closed off the open ones, with what is open in it."""
    bars: list[Mark] = []
    while opened and opened[-1].mark.match.lastgroup == "square":
        bars += opened.pop().bars
    if opened:
        brace = opened.pop()
        bars += brace.bars
        if bars or brace.mark.match["picks"] is not None:
            for one in (mark, brace.mark, *bars):
                one.draws = True
