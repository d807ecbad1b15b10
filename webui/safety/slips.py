"""Finds words that are one slip of the finger away from a term."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from webui.safety.policy import Cue

SHORTEST = 6
"""Letters that a term has at least: shorter ones are one slip away from too much."""


class Slips:
    """Terms, made ready to be found with one letter missing, added, changed or swapped. Immutable.

    Time is that of a few look-ups a letter, however many terms there are: two words that are one
    slip apart agree once a letter is taken out of one or both (SymSpell, Garbe 2012).
    """

    def __init__(self, terms: Iterable[tuple[Cue, str]]) -> None:
        """Terms shorter than `SHORTEST` are left out."""
        index: dict[str, tuple[tuple[Cue, str], ...]] = {}
        longest = 0
        for cue, term in terms:
            if len(term) >= SHORTEST:
                longest = max(longest, len(term))
                for key in {term, *_shortened(term)}:
                    index[key] = (*index.get(key, ()), (cue, term))
        self._index: Mapping[str, tuple[tuple[Cue, str], ...]] = MappingProxyType(index)
        self._longest = longest + 1

    def cues(self, word: str) -> Iterator[Cue]:
        """The cues of the terms that are one slip away; a term itself is none."""
        if SHORTEST - 1 <= len(word) <= self._longest:
            for key in {word, *_shortened(word)}:
                for cue, term in self._index.get(key, ()):
                    if _one_slip_apart(word, term):
                        yield cue


def _shortened(word: str) -> Iterator[str]:
    return (word[:i] + word[i + 1 :] for i in range(len(word)))


def _one_slip_apart(one: str, other: str) -> bool:
    """Whether two words differ by one letter, or by two neighbours that changed places."""
    if len(one) != len(other):
        longer, shorter = (one, other) if len(one) > len(other) else (other, one)
        return len(longer) == len(shorter) + 1 and shorter in _shortened(longer)
    places = [i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]
    if len(places) == 2:
        i, j = places
        return j == i + 1 and one[i] == other[j] and one[j] == other[i]
    return len(places) == 1
