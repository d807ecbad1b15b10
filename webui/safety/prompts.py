"""Which cues a prompt holds, found by word lists in every reading of its text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from types import MappingProxyType

from webui.errors import BadRequestError, GuardError
from webui.request import MAX_PROMPT_CHARACTERS
from webui.safety.matching import BARRIER, Matcher, Term, Word
from webui.safety.normaliser import Normaliser
from webui.safety.policy import CUES, Cue

FOLDER = Path(__file__).parent
"""Holds `words/<cue>.txt`, `words/benign.txt` and `lookalikes.txt`."""

MAX_CHARACTERS = 2 * MAX_PROMPT_CHARACTERS
"""Longest text that is read. Text decoded from tokens has a space after each of them."""

_NUMBERS = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen"
    "|sixteen|seventeen"
)
_AGE = re.compile(
    rf"(?<![a-z0-9])(?:0?[1-9]|1[0-7]|{_NUMBERS})[\W_]*(?:years?|yrs?|y)[\W_]*(?:olds?|o)(?![a-z])"
    rf"|\bage[ds]?\W+(?:of\W+)?(?:0?[1-9]|1[0-7]|{_NUMBERS})(?![a-z0-9])"
)
_NEGATIVE_WEIGHT = re.compile(r":\s*-")
_TOKEN = re.compile(r"[a-z0-9]+")
_SPACE = re.compile(r"\s")
_GAP = " ... "
_UP_TO_THREE_WORDS = r"(?: \w+){0,3} "
_LONE_ONE = re.compile(r"(?<![\d.])1(?![\d.])")
_EDGE_DIGITS = re.compile(r"(?<![a-z0-9])\d+|\d+(?![a-z0-9])")


class Lexicon:
    """Word lists, each of one cue, made ready for matching. Immutable.

    A line of a list is one term: words of letters. `a|b c|d` stands for every combination;
    `a ... b` allows up to three words between; `=word` counts only as a whole word.
    """

    def __init__(
        self, terms: Mapping[Cue, Iterable[str]], benign: Iterable[str], normaliser: Normaliser
    ) -> None:
        """`benign` holds words and phrases in which a term is no cue."""
        found: list[tuple[Cue, str]] = [(c, line) for c, lines in terms.items() for line in lines]
        self._matcher = Matcher(term for cue, line in found for term in _terms(cue, line))
        self._phrases: tuple[tuple[Cue, re.Pattern[str]], ...] = tuple(
            (cue, _phrase(line)) for cue, line in found if _GAP in line
        )
        self._benign = frozenset(benign)
        self._normaliser = normaliser
        self.examples: Mapping[Cue, str] = MappingProxyType(
            {cue: line.lstrip("=") for cue, line in found if line.lstrip("=").isalpha()}
        )
        """One plain term of each cue, for the self-test."""

    @staticmethod
    def load(folder: Path = FOLDER) -> Lexicon:
        """Reads the shipped lists.

        Raises:
            GuardError: A list is missing or empty.
        """
        lists: dict[Cue, tuple[str, ...]] = {
            cue: read_terms(folder / "words" / f"{cue}.txt") for cue in CUES
        }
        benign = read_terms(folder / "words" / "benign.txt")
        return Lexicon(lists, benign, Normaliser.load(folder / "lookalikes.txt"))

    def cues(self, text: str) -> frozenset[Cue]:
        """The cues in a fully expanded prompt, however it is spelled.

        Time grows with the length of the text alone.

        Raises:
            BadRequestError: The text is longer than `MAX_CHARACTERS`.
        """
        if len(text) > MAX_CHARACTERS:
            raise BadRequestError(
                f"The prompt is {len(text):,} characters long once expanded: at most"
                f" {MAX_CHARACTERS:,} fit.",
                field="prompt",
            )
        return frozenset(cue for one in self._normaliser.readings(text) for cue in self._read(one))

    def _read(self, reading: str) -> Iterator[Cue]:
        if _AGE.search(reading):
            yield "youth"
        forwards = {reading, _EDGE_DIGITS.sub("", reading), _LONE_ONE.sub("l", reading)}
        for one in forwards:
            yield from self._match(_words(one, self._benign))
        turned = _words(reading[::-1], self._benign)
        yield from self._matcher.cues(turned, backwards=True)

    def _match(self, words: Sequence[Word]) -> Iterator[Cue]:
        spaced = " ".join([word.text for word in words])
        for cue, phrase in self._phrases:
            if phrase.search(spaced):
                yield cue
        yield from self._matcher.cues(words)


def has_negative_weight(prompt: str) -> bool:
    """Whether something in the prompt is weighted below zero, as in `(word:-1)`."""
    return _NEGATIVE_WEIGHT.search(prompt) is not None


def read_terms(file: Path) -> tuple[str, ...]:
    """The terms of a list, without its comments.

    Raises:
        GuardError: The list is missing or empty.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        lines = []
    terms = tuple(line for line in lines if line and not line.startswith("#"))
    if not terms:
        raise GuardError(
            f"The word filter's list {file.name} is missing or empty; run"
            " `python launch.py setup` again."
        )
    return terms


def _terms(cue: Cue, line: str) -> Iterator[Term]:
    """Every combination of a line's alternatives, without its spaces."""
    if _GAP not in line:
        words = [word.split("|") for word in line.removeprefix("=").split(" ")]
        for combination in product(*words):
            yield Term.of(cue, "".join(combination), whole=line.startswith("="))


def _phrase(line: str) -> re.Pattern[str]:
    """A line with a gap as a pattern for words with one space between."""
    parts = [" ".join(map(_choice, part.split(" "))) for part in line.split(_GAP)]
    return re.compile(r"\b" + _UP_TO_THREE_WORDS.join(parts) + r"\b")


def _choice(word: str) -> str:
    return "(?:" + "|".join(map(_stretchable, word.split("|"))) + ")"


def _stretchable(word: str) -> str:
    return "".join(f"{letter}+" for letter in word)


def _words(reading: str, benign: frozenset[str]) -> list[Word]:
    """The words of a reading; benign ones become barriers that no term reaches across."""
    words: list[Word] = []
    end = 0
    for match in _TOKEN.finditer(reading):
        start, text = match.start(), match.group()
        loose = _SPACE.search(reading, end, start) is not None
        end = match.end()
        if text in benign:
            text = BARRIER
        elif loose and words and f"{words[-1].text} {text}" in benign:
            words[-1] = Word(BARRIER, words[-1].loose)
            text = BARRIER
        words.append(Word(text, loose))
    return words
