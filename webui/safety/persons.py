"""Whether a prompt names a person: by given names, by capitals, and by what leads up to a name.

Nobody's full name is kept. What is taken for a name lowers a job's level and refuses nothing, so
the rules take too much for one rather than too little.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from webui.safety.matching import as_letters

_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z0-9])")
"""A word, where a capital inside begins a new one."""

_HYPHENS = "-_'."

_ALL_CAPITALISED = 0.6
"""From this share of capitalised words on, a capital says nothing."""

_SHORTEST = 3


def _words(line: str) -> frozenset[str]:
    return frozenset(line.split())


_LIGHT = _words(
    "a about above after again against all alone along among an and are around as at away back be"
    " before behind below beneath beside between beyond but by can close down during each facing"
    " for from front full had has have he her here his in inside into is it its like made near"
    " next not of off on one onto or out outside over reads she sits so some stands such than that"
    " the their them then there they this through to together too towards two under until up upon"
    " very walks was wears were when where which while who whose with within without you your"
    " alt old young portrait photo picture style"
)
"""Words that a given name stands beside without being the first half of a name."""

_ENDINGS = ("ing", "ed", "s")
_LEADS = _words(
    "actor actress as by celebrity chancellor doctor dr emperor empress famous footballer king lady"
    " like lord madam minister mister miss model mr mrs ms named played politician pope president"
    " prime prince princess professor queen rapper saint senator singer sir star starring"
)
_LIKENESSES = _words(
    "body drawing face image likeness lookalike painting photo photograph picture portrait selfie"
    " sketch version"
)


class _Token(NamedTuple):
    """A word in lower case, digits read as letters, and how it hangs on the one before.

    Attributes:
        spelled: Whether it is all letters.
        joined: Nothing but space or a hyphen is between; initials may have their full stop.
        paused: A comma is between.
    """

    text: str
    capital: bool
    spelled: bool
    joined: bool
    paused: bool


@dataclass(frozen=True)
class Persons:
    """What is known of names.

    Attributes:
        given: Given names.
        doubtful: Given names that are ordinary words or places too.
        ordinary: Words that are no names.
    """

    given: frozenset[str]
    doubtful: frozenset[str]
    ordinary: frozenset[str]

    @staticmethod
    def of(names: Iterable[str], ordinary: frozenset[str]) -> Persons:
        """Of a list in which `=` marks the doubtful names."""
        listed = frozenset(names)
        doubtful = frozenset(name[1:] for name in listed if name.startswith("="))
        return Persons(listed - {f"={name}" for name in doubtful}, doubtful, ordinary)

    def are_named(self, text: str) -> bool:
        """Whether a text of ASCII letters, its capitals kept, names somebody."""
        tokens = _tokens(text)
        capitals = sum(token.capital for token in tokens)
        telling = capitals < _ALL_CAPITALISED * len(tokens)
        return any(self._are_a_name(*two, telling=telling) for two in pairwise(tokens)) or any(
            self._is_led_to(tokens, i) for i in range(1, len(tokens))
        )

    def _are_a_name(self, first: _Token, second: _Token, *, telling: bool) -> bool:
        """Whether two words are given name and surname, in this order or the other."""
        strange = self._is_strange(second)
        if second.paused:
            return first.text in self.given and strange
        if not second.joined:
            return False
        could_follow = strange or (second.capital and telling and second.text not in _LIGHT)
        if first.text in self.given:
            return could_follow or not _is_light(second.text)
        if first.text in self.doubtful:
            return strange or (first.capital and could_follow)
        if not self._is_strange(first):
            initials = first.capital and len(first.text) < _SHORTEST
            return initials and second.capital and strange and first.text not in self.ordinary
        return second.text in self.given or (
            first.capital and second.capital and (strange or second.text in self.doubtful)
        )

    def _is_led_to(self, tokens: Sequence[_Token], i: int) -> bool:
        """Whether what stands before word `i` says that it is a name."""
        name, before = tokens[i], tokens[i - 1]
        if not name.joined or not (name.text in self.given or self._is_strange(name)):
            return False
        of_whom = before.text == "of" and i > 1 and tokens[i - 2].text in _LIKENESSES
        return of_whom or before.text in _LEADS

    def _is_strange(self, token: _Token) -> bool:
        """Whether a word is neither an ordinary one nor known as a name."""
        word = token.text
        known = word in self.ordinary or word in self.given or word in self.doubtful
        return token.spelled and len(word) >= _SHORTEST and not known


def _is_light(word: str) -> bool:
    return len(word) < _SHORTEST or word in _LIGHT or word.endswith(_ENDINGS)


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    end = 0
    before = ""
    for match in _WORD.finditer(text):
        gap, word = text[end : match.start()], match.group()
        mark = gap.strip()
        # A full stop stands between a name and what is short for something, as in "J. K." and "Dr."
        short = mark == "." and (len(before) == 1 or before in _LEADS)
        joined = not mark or short or (gap in _HYPHENS)
        capital = word[0].isupper() and (len(word) < _SHORTEST or not word.isupper())
        before = as_letters(word.lower()) if not word.isalpha() else word.lower()
        tokens.append(_Token(before, capital, word.isalpha(), joined, mark == ","))
        end = match.end()
    return tokens
