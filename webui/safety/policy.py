"""What each level allows: one table for pictures, one for prompts, and the level's ceilings.

Monotone by construction and by test: a higher score, one more cue or a stricter level never
allows more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, cast, get_args

from webui.levels import LEVELS, STRICT, Level, as_level, lowest

Cue = Literal["sexual", "nudity", "swimwear", "undress", "clothing", "youth", "person", "fuzzy"]
"""What a word list is about. "undress" is the wish to take clothing off somebody; "clothing"
is found only where a prompt steers away from it; "person" is somebody's name. "fuzzy" has no list:
it is a word that is one slip away from a term of the others."""

CUES = cast(tuple[Cue, ...], get_args(Cue))

GuardName = Literal["detector", "words", "nsfw", "face age", "explicit", "text"]

GUARDS = cast(tuple[GuardName, ...], get_args(GuardName))

Threshold = Literal[
    "genitalia",
    "anus",
    "bust_or_buttocks",
    "explicit",
    "suggestive",
    "nudity",
    "genitalia_share",
    "genitalia_explicit",
]
"""The numbers of the table, each of which an operator may lower."""

THRESHOLDS = cast(tuple[Threshold, ...], get_args(Threshold))

Tightened = Mapping[tuple[Level, Threshold], float]
"""Thresholds in place of the table's. One counts for its level and for every stricter one."""

AS_SHIPPED: Tightened = MappingProxyType({})


@dataclass(frozen=True)
class Scores:
    """What the guards saw in a picture: the worst over all its views, each 0..1.

    Attributes:
        genitalia: Exposed, the higher of the two labels.
        anus: Exposed.
        bust_or_buttocks: Exposed, the higher of the two labels.
        genitalia_share: Share of the picture's area that the box covers; 1 when not measured.
        explicit: The explicit classifier's score, `None` when none is loaded.
        suggestive: The suggestive classifier's score, `None` when none is loaded.
        nudity: The score of a classifier that does not tell nudity from sexual acts, `None` when
            none is loaded.
        young: Somebody looks under 25, `None` when no estimator of age is loaded.
    """

    genitalia: float
    anus: float
    bust_or_buttocks: float
    genitalia_share: float = 1.0
    explicit: float | None = None
    suggestive: float | None = None
    nudity: float | None = None
    young: float | None = None


@dataclass(frozen=True)
class _Rules:
    """One column of the table. A score at a threshold is over it; `None` allows all."""

    blocks: frozenset[Cue]
    needs: frozenset[GuardName]
    genitalia: float
    anus: float
    bust_or_buttocks: float | None
    explicit: float
    suggestive: float | None
    nudity: float | None
    genitalia_share: float = 0.0
    genitalia_explicit: float = 0.0


_RULES: tuple[_Rules, _Rules, _Rules] = (
    _Rules(
        blocks=frozenset({"sexual", "nudity", "undress", "swimwear"}),
        needs=frozenset({"detector", "words"}),
        genitalia=0.15,
        anus=0.15,
        bust_or_buttocks=0.20,
        explicit=0.15,
        suggestive=0.45,
        nudity=0.15,
    ),
    _Rules(
        blocks=frozenset({"sexual", "nudity", "undress"}),
        needs=frozenset({"detector", "words", "nsfw", "face age"}),
        genitalia=0.25,
        anus=0.25,
        bust_or_buttocks=0.35,
        explicit=0.20,
        suggestive=None,
        nudity=0.20,
    ),
    _Rules(
        blocks=frozenset({"sexual"}),
        needs=frozenset({"detector", "words", "nsfw", "face age", "explicit", "text"}),
        genitalia=0.35,
        anus=0.25,
        bust_or_buttocks=None,
        explicit=0.30,
        suggestive=None,
        nudity=None,
        genitalia_share=0.02,
        genitalia_explicit=0.20,
    ),
)

_YOUNG = 0.20
_YOUNG_NUDITY = 0.10
"""Where somebody looks young, this much of any kind is too much."""


def highest_level(loaded: frozenset[GuardName]) -> Level:
    """The highest level whose guards, and those of every level below it, are all loaded."""
    reached = [level for level in LEVELS if guards_needed(level) <= loaded]
    return as_level(max(reached, default=STRICT))


def refuses(cues: frozenset[Cue], level: object, *, brings_picture: bool) -> bool:
    """Whether a request with these cues is refused.

    Args:
        cues: What was found in the prompt.
        level: Level the request would run at.
        brings_picture: Whether the request starts from, or is steered by, a picture brought in.
    """
    about_young = "youth" in cues and not cues.isdisjoint({"sexual", "nudity", "undress"})
    of_somebody = brings_picture and not cues.isdisjoint({"undress", "clothing"})
    rules = _RULES[lowest(level, prompt_ceiling(cues))]
    return about_young or of_somebody or not cues.isdisjoint(rules.blocks)


def prompt_ceiling(cues: frozenset[Cue]) -> Level:
    """The highest level a prompt with these cues may run at."""
    return LEVELS[-1] if cues.isdisjoint({"youth", "person", "fuzzy"}) else STRICT


def guards_needed(level: Level) -> frozenset[GuardName]:
    """The guards that must be loaded for a level: its own and those of every level below it."""
    return frozenset[GuardName]().union(*(_RULES[n].needs for n in LEVELS if n <= level))


def shipped_threshold(level: Level, name: Threshold) -> float | None:
    """The table's threshold, 0..1; `None` where the level allows all."""
    return cast(float | None, getattr(_RULES[level], name))


def withholds(scores: Scores, level: object, tightened: Tightened = AS_SHIPPED) -> bool:
    """Whether a picture with these scores may not be shown.

    Args:
        scores: What the guards saw.
        level: Level of the job; one that is none is strict.
        tightened: The operator's thresholds. One that is higher than the table's does nothing.
    """
    rules = _rules(as_level(level), tightened)
    explicit = None if scores.explicit is None else trusted(scores.explicit)
    large = trusted(scores.genitalia_share) >= rules.genitalia_share
    acts = explicit is None or explicit >= rules.genitalia_explicit
    return (
        (_over(scores.genitalia, rules.genitalia) and (large or acts))
        or _over(scores.anus, rules.anus)
        or _over(scores.bust_or_buttocks, rules.bust_or_buttocks)
        or _over(scores.explicit, rules.explicit)
        or _over(scores.suggestive, rules.suggestive)
        or _over(scores.nudity, rules.nudity)
        or _shows_young(scores)
    )


def _shows_young(scores: Scores) -> bool:
    """Whether somebody who looks young is shown with any nudity, or as is never shown at strict:
    the same at every level."""
    bare = (scores.genitalia, scores.anus, scores.bust_or_buttocks, scores.explicit, scores.nudity)
    return _over(scores.young, _YOUNG) and (
        any(_over(score, _YOUNG_NUDITY) for score in bare)
        or _over(scores.suggestive, _RULES[STRICT].suggestive)
    )


def trusted(score: float) -> float:
    """The score itself, or 1 for one that no working guard gives (NaN, below 0, above 1)."""
    return score if 0.0 <= score <= 1.0 else 1.0


def _rules(level: Level, tightened: Tightened) -> _Rules:
    """The table's column with the operator's thresholds where they are lower."""
    lowered: dict[str, float] = {}
    for (until, name), value in tightened.items():
        bound = lowered.get(name, shipped_threshold(level, name))
        # Asked this way round, NaN lowers nothing.
        if until >= level and (bound is None or value < bound):
            lowered[name] = value
    return replace(_RULES[level], **lowered)


def _over(score: float | None, threshold: float | None) -> bool:
    return score is not None and threshold is not None and trusted(score) >= threshold
