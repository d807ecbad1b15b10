"""How strict the filter is: three levels, and no "off"."""

from __future__ import annotations

from typing import Literal, cast, get_args

Level = Literal[0, 1, 2]
"""0 strict (everyone), 1 mild, 2 art (both behind an adult grant)."""

LEVELS = cast(tuple[Level, ...], get_args(Level))
STRICT: Level = 0

NEVER_TAKEN = "It names a filter level, which is never taken from outside: that was left out."
"""Said of a preset, a link, or a picture's recipe with a level in it."""


def as_level(value: object) -> Level:
    """The level a value names. `True`, `"2"`, `2.0`, 3 and all else that is none are strict."""
    for level in LEVELS:
        if type(value) is int and value == level:
            return level
    return STRICT


def lowest(*ceilings: object) -> Level:
    """The lowest of all ceilings; strict when there are none, or one is no level."""
    return as_level(min(map(as_level, ceilings), default=STRICT))
