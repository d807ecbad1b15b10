"""Finds terms in a line of words, however they are stretched, split or spelled out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from types import MappingProxyType
from typing import NamedTuple

from webui.safety.policy import Cue

SHORT = 4
"""Terms of at most this many letters count only as whole words, and not backwards."""

BARRIER = "\0"
"""A word that no term reaches across."""

_LEET = str.maketrans("0123456789", "oizeasgtbg")
_RUN = re.compile(r"(.)\1*")
_KEY_SIZES = (2, 3)


def as_letters(word: str) -> str:
    """A word with its digits as the letters they look like."""
    return word.translate(_LEET)


class Word(NamedTuple):
    """A word of lower-case letters and digits, and whether white space is before it."""

    text: str
    loose: bool


@dataclass(frozen=True)
class Term:
    """A term as runs of equal letters, so that stretched spellings are the same term.

    Attributes:
        letters: One letter a run.
        counts: How many letters each run has at least.
        short: Whether it is too short to be looked for inside a word, or backwards.
        whole: Whether it counts only where it fills whole words.
    """

    cue: Cue
    letters: str
    counts: tuple[int, ...]
    short: bool
    whole: bool

    @staticmethod
    def of(cue: Cue, text: str, *, whole: bool) -> Term:
        """The term spelled `text`, which is lower-case letters and digits without spaces."""
        runs = [match.group() for match in _RUN.finditer(text.translate(_LEET))]
        letters = "".join(run[0] for run in runs)
        return Term(cue, letters, tuple(map(len, runs)), len(text) <= SHORT, whole)


class Matcher:
    """Many terms, made ready to be found in time that grows with the text alone. Immutable."""

    def __init__(self, terms: Iterable[Term]) -> None:
        """Every term has at least two different letters."""
        index: dict[str, tuple[Term, ...]] = {}
        for term in terms:
            key = term.letters[: _KEY_SIZES[-1]]
            index[key] = (*index.get(key, ()), term)
        self._index: Mapping[str, tuple[Term, ...]] = MappingProxyType(index)
        self._openings = frozenset(key[: _KEY_SIZES[0]] for key in index)

    def cues(self, words: Sequence[Word], *, backwards: bool = False) -> Iterator[Cue]:
        """The cues of all terms found; `backwards` says that the words are turned round."""
        line = _line(words)
        runs = [match.span() for match in _RUN.finditer(line.joined)]
        letters = "".join([line.joined[start] for start, _ in runs])
        known: set[Cue] = set()
        for i, term in self._candidates(letters):
            if term.cue not in known and not (backwards and term.short):
                found = runs[i : i + len(term.letters)]
                if _fits(term, found, line, fills_only=backwards or term.whole):
                    known.add(term.cue)
                    yield term.cue

    def _candidates(self, letters: str) -> Iterator[tuple[int, Term]]:
        """Where the letters of a term begin, repeats aside."""
        for i, opening in enumerate(map(str.__add__, letters, letters[1:])):
            if opening in self._openings:
                for size in _KEY_SIZES:
                    for term in self._index.get(letters[i : i + size], ()):
                        if letters.startswith(term.letters, i):
                            yield i, term


@dataclass(frozen=True)
class _Line:
    """Words, joined, and where each began and ended.

    Attributes:
        joined: All words without what was between them, digits read as letters.
        written: The same before digits were read as letters.
        starts: Index of each word's first character in `joined`, and the end of the last.
        word_of: Index of the word each character of `joined` belongs to.
        loose: For each word, whether white space is before it.
    """

    joined: str
    written: str
    starts: tuple[int, ...]
    word_of: tuple[int, ...]
    loose: tuple[bool, ...]

    def is_letter(self, word: int) -> bool:
        """Whether this word exists and is a single character."""
        return 0 <= word < len(self.loose) and self.starts[word + 1] - self.starts[word] == 1


def _line(words: Sequence[Word]) -> _Line:
    written = "".join([word.text for word in words])
    sizes = [len(word.text) for word in words]
    return _Line(
        joined=written.translate(_LEET),
        written=written,
        starts=(0, *accumulate(sizes)),
        word_of=tuple(chain.from_iterable([n] * size for n, size in enumerate(sizes))),
        loose=tuple([word.loose for word in words]),
    )


def _fits(term: Term, runs: Sequence[tuple[int, int]], line: _Line, *, fills_only: bool) -> bool:
    """Whether the runs of the text from here on are this term, at a place where it counts."""
    if any(end - start < n for (start, end), n in zip(runs, term.counts, strict=True)):
        return False
    begin, end = runs[0][1] - term.counts[0], runs[-1][0] + term.counts[-1]
    first, last = line.word_of[begin], line.word_of[end - 1]
    low = max(runs[0][0], line.starts[first])
    high = min(runs[-1][1], line.starts[last + 1])
    fills = low == line.starts[first] and high == line.starts[last + 1]
    if not fills and (fills_only or term.short or first != last):
        return False
    lengths = (
        runs[0][1] - low if low == line.starts[first] else term.counts[0],
        *(stop - start for start, stop in runs[1:-1]),
        high - runs[-1][0] if high == line.starts[last + 1] else term.counts[-1],
    )
    return (
        not line.written[begin:end].isdigit()
        and (_is_stretched(lengths, term.counts) or (fills and not term.short))
        and (first == last or not term.short or _is_spelled_out(first, last, line))
    )


def _is_stretched(lengths: tuple[int, ...], counts: tuple[int, ...]) -> bool:
    """Whether letters repeat as in the term, or as only a stretched spelling has them."""
    pairs = tuple(zip(lengths, counts, strict=True))
    return all(n == m or n > 2 for n, m in pairs) or all(n >= 2 * m for n, m in pairs)


def _is_spelled_out(first: int, last: int, line: _Line) -> bool:
    """Whether the words `first` to `last` are all the pieces of one short word."""
    if not any(line.loose[first + 1 : last + 1]):
        return True
    article = line.written[max(line.starts[first] - 1, 0)] in "ai"
    begins = article or not line.is_letter(first - 1)
    return last - first >= 2 and begins and not line.is_letter(last + 1)
