"""What holds a job down, which of it counts, and the sentence that says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast, get_args

from webui.levels import LEVELS, Level, lowest
from webui.standing import CeilingKind

KINDS = cast(tuple[CeilingKind, ...], get_args(CeilingKind))


@dataclass(frozen=True)
class Ceiling:
    """A bound for a job's level.

    Attributes:
        level: One that is no level counts as strict.
    """

    kind: CeilingKind
    level: Level


_NOTICES: Mapping[CeilingKind, str] = MappingProxyType(
    {
        "asked": "This ran at the level that was asked for.",
        "operator": "The settings of this installation hold this at a stricter level.",
        "share": "Visitors from elsewhere are held at a stricter level.",
        "grant": "The level that was asked for needs a grant, which this session does not hold:"
        " this ran at a stricter one.",
        "guards": "A part of the safety check that the level needs is not at work: this ran at a"
        " stricter one.",
        "taint": "Pictures you bring in are always handled at the strict level, and so are models"
        " that the operator has not allowed.",
        "prompt": "This prompt is always handled at the strict level.",
    }
)


def effective(ceilings: Sequence[Ceiling]) -> tuple[Level, CeilingKind | None]:
    """The level that all ceilings together allow, and which kind brought it down.

    Of several that are equally low, the first of `CeilingKind` is told; none is when the level
    is the one that was asked for. Without any ceiling the level is strict.
    """
    level = lowest(*(ceiling.level for ceiling in ceilings))
    asked = lowest(LEVELS[-1], *(each.level for each in ceilings if each.kind == "asked"))
    kinds = {each.kind for each in ceilings if lowest(each.level) == level}
    if level == asked or not ceilings:
        return level, None
    return level, next(kind for kind in KINDS if kind in kinds)


def notice(kind: CeilingKind) -> str:
    """The sentence for the user about a ceiling that counted; names no rule, score or word."""
    return _NOTICES[kind]
