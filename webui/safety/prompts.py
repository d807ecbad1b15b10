"""Which cues a prompt holds, found by word lists in every reading of its text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, groupby, pairwise, product
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from webui.errors import BadRequestError, GuardError
from webui.request import MAX_PROMPT_CHARACTERS
from webui.safety.matching import BARRIER, Matcher, Term, Word, as_letters
from webui.safety.normaliser import (
    Normaliser,
    by_sound,
    in_own_script,
    is_uncased,
    is_unspaced,
)
from webui.safety.persons import Persons
from webui.safety.policy import CUES, Cue, trusted
from webui.safety.slips import Slips

TextJudge = Callable[[str], float | None]
"""How surely a text asks for what the lists are about, 0..1; `None` from a judge who is not there:
`webui.safety.classifiers.Classifiers.read`."""

LISTED: tuple[Cue, ...] = tuple(cue for cue in CUES if cue != "fuzzy")
"""The cues that have a list."""

SUSPECT = 0.5
"""From this score of a judge on, a slip is taken for the term it is near to."""

FOLDER = Path(__file__).parent
"""Holds `words/<cue>.txt`, `words/benign.txt`, `words/common.txt` and `lookalikes.txt`."""

MAX_CHARACTERS = 2 * MAX_PROMPT_CHARACTERS
"""Longest text that is read. Text decoded from tokens has a space after each of them."""

MAX_LETTERS = 2 * MAX_CHARACTERS
"""Longest text in Latin letters, of which a single sign of another script may take many."""

_NUMBERS = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen"
    "|sixteen|seventeen"
)
_AGE = re.compile(
    rf"(?<![a-z0-9])(?:0?[1-9]|1[0-7]|{_NUMBERS})[\W_]*(?:years?|yrs?|y)[\W_]*(?:olds?|o)(?![a-z])"
    rf"|\bage[ds]?\W+(?:of\W+)?(?:0?[1-9]|1[0-7]|{_NUMBERS})(?![a-z0-9])"
)
_PIECES = (1, 2)
"""Letters that the pieces of a spelled-out word have at most."""

_NEGATIVE_WEIGHT = re.compile(r":\s*-")
_TOKEN = re.compile(r"[a-z0-9]+")
_SPACE = re.compile(r"\s")
_GAP = " ... "
_UP_TO_THREE_WORDS = r"(?: \w+){0,3} "
_LONE_ONE = re.compile(r"(?<![\d.])1(?![\d.])")
_REPEATED = re.compile(r"(.)\1+")
_STRETCHED = re.compile(r"(.)\1{2,}")
_ARTICLE = "(?:\u0627\u0644|\u05d4)?"
"""The Arabic and the Hebrew one, which are written together with the word."""

_EDGE_DIGITS = re.compile(r"(?<![a-z0-9])\d+|\d+(?![a-z0-9])")


def _nobody(_: str) -> None:
    """The judge who is not there."""


class _Phrase(NamedTuple):
    """A line with a gap, to be searched for in words with one space between.

    Attributes:
        openings: What it may begin with, without repeats: where none of them is, it is not.
    """

    cue: Cue
    openings: frozenset[str]
    pattern: re.Pattern[str]

    @staticmethod
    def of(cue: Cue, line: str) -> _Phrase:
        parts = [" ".join(map(_choice, part.split(" "))) for part in line.split(_GAP)]
        pattern = re.compile(r"\b" + _UP_TO_THREE_WORDS.join(parts) + r"\b")
        return _Phrase(cue, frozenset(map(_single, line.split(" ")[0].split("|"))), pattern)


class Lexicon:
    """Word lists, each of one cue, made ready for matching. Immutable.

    A line of a list is one term: words of letters. `a|b c|d` stands for every combination;
    `a ... b` allows up to three words between; `=word` counts only as a whole word. Cyrillic
    and Greek are read by sound; other scripts as they are, at the beginning of a word.
    """

    def __init__(
        self,
        terms: Mapping[Cue, Iterable[str]],
        benign: Iterable[str],
        normaliser: Normaliser,
        *,
        common: Iterable[str] = (),
    ) -> None:
        """The list for "person" holds given names, one a line: `=name` for an ordinary word too.

        Args:
            terms: The list of each cue.
            benign: Words and phrases in which a term is no cue.
            normaliser: Reads what is disguised.
            common: Ordinary words: neither somebody's name nor a slip of the finger.
        """
        given: list[tuple[Cue, str]] = [
            (cue, line) for cue, lines in terms.items() if cue != "person" for line in lines
        ]
        self._native: tuple[tuple[Cue, re.Pattern[str]], ...] = tuple(
            (cue, _native(line)) for cue, line in given if is_uncased(line)
        )
        found: list[tuple[Cue, str]] = [
            (cue, _read_aloud(line)) for cue, line in given if not is_uncased(line)
        ]
        self._matcher = Matcher(term for cue, line in found for term in _terms(cue, line))
        self._phrases = tuple(_Phrase.of(cue, line) for cue, line in found if _GAP in line)
        self._benign = frozenset(benign)
        self._normaliser = normaliser
        plain: list[tuple[Cue, str]] = [
            (cue, line.lstrip("=")) for cue, line in found if line.lstrip("=").isalpha()
        ]
        # Clothing is a cue only with a picture, and with a picture every job is strict.
        self._slips = Slips((cue, term) for cue, term in plain if cue != "clothing")
        names = tuple(terms.get("person", ()))
        self._persons = Persons.of(names, frozenset(common) | self._benign)
        self._known = self._persons.ordinary.union(
            (name.lstrip("=") for name in names), (term for _, term in plain)
        )
        examples = dict(plain) | self._examples(plain, self._persons.given)
        self.examples: Mapping[Cue, str] = MappingProxyType(examples)
        """A plain example of each cue without white space, for the self-test."""

    @staticmethod
    def load(folder: Path = FOLDER) -> Lexicon:
        """Reads the shipped lists.

        Raises:
            GuardError: A list is missing or empty.
        """
        words = folder / "words"
        lists: dict[Cue, tuple[str, ...]] = {
            cue: read_terms(words / f"{cue}.txt") for cue in LISTED
        }
        return Lexicon(
            lists,
            read_terms(words / "benign.txt"),
            Normaliser.load(folder / "lookalikes.txt"),
            common=read_terms(words / "common.txt"),
        )

    def cues(self, text: str, judge: TextJudge = _nobody) -> frozenset[Cue]:
        """The cues in a fully expanded prompt, however it is spelled.

        A word that is one slip away from a term is "fuzzy" unless a judge decides on it: it is then
        the term, or nothing. Time grows with the length of the text alone.

        Args:
            text: The prompt.
            judge: Decides on slips; asked only where there is one.

        Raises:
            BadRequestError: The text is longer than `MAX_CHARACTERS`, or in Latin letters longer
                than `MAX_LETTERS`.
        """
        _check_length(len(text), MAX_CHARACTERS)
        readings = self._normaliser.readings(text)
        _check_length(max(map(len, readings)), MAX_LETTERS)
        cues = set[Cue](chain.from_iterable(map(self._read, readings)))
        for own in self._normaliser.native_readings(text):
            cues.update(cue for cue, term in self._native if term.search(own))
        if any(map(self._persons.are_named, self._normaliser.cased_readings(text))):
            cues.add("person")
        for one in readings:
            if slipped := set(self._slipped(one)) - cues:
                cues |= _decided(slipped, judge(one))
        return frozenset(cues)

    def _examples(self, plain: Sequence[tuple[Cue, str]], given: frozenset[str]) -> dict[Cue, str]:
        """Examples of the cues that are not simply terms."""
        examples: dict[Cue, str] = {}
        if given:
            examples["person"] = "_".join(sorted(given)[:1] * 2)
        for _, term in plain:
            slip = term[0] + term[2] + term[1] + term[3:]
            if any(self._slips.cues(slip)) and slip not in self._known:
                examples["fuzzy"] = slip
        return examples

    def _slipped(self, reading: str) -> Iterator[Cue]:
        """The cues of terms that a word is one slip away from."""
        for word in set(_wholes(reading, self._known)) - self._known:
            for spelled in {word, _STRETCHED.sub(r"\1", word), word.removesuffix("s")}:
                if spelled not in self._known:
                    yield from self._slips.cues(spelled)

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
        said = _single(spaced).split(" ")
        for phrase in self._phrases:
            if not phrase.openings.isdisjoint(said) and phrase.pattern.search(spaced):
                yield phrase.cue
        yield from self._matcher.cues(words)


def _check_length(length: int, most: int) -> None:
    if length > most:
        raise BadRequestError(
            f"The prompt is {length:,} characters long once expanded: at most {most:,} fit.",
            field="prompt",
        )


def _decided(slipped: set[Cue], score: float | None) -> set[Cue]:
    """What slips come to by a judge's score. Of youth no judge knows anything."""
    if score is None:
        return {"fuzzy"}
    decided: set[Cue] = {"fuzzy"} if "youth" in slipped else set()
    if trusted(score) >= SUSPECT:
        decided |= slipped - {"youth"}
    return decided


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


def _native(term: str) -> re.Pattern[str]:
    """A term of a script without capitals, to be searched for in words of that script."""
    letters = in_own_script(term)
    if is_unspaced(term):
        return re.compile(" ?".join(letters))
    return re.compile(rf"(?<!\S){_ARTICLE}{letters}")


def _read_aloud(line: str) -> str:
    return line if line.isascii() else by_sound(line).replace("'", "").replace("`", "").lower()


def _terms(cue: Cue, line: str) -> Iterator[Term]:
    """Every combination of a line's alternatives, without its spaces."""
    if _GAP not in line:
        words = [word.split("|") for word in line.removeprefix("=").split(" ")]
        for combination in product(*words):
            yield Term.of(cue, "".join(combination), whole=line.startswith("="))


def _single(words: str) -> str:
    """Words without repeated letters."""
    return _REPEATED.sub(r"\1", words)


def _choice(word: str) -> str:
    return "(?:" + "|".join(map(_stretchable, word.split("|"))) + ")"


def _stretchable(word: str) -> str:
    return "".join(f"{letter}+" for letter in word)


def _wholes(reading: str, known: frozenset[str]) -> Iterator[str]:
    """Every unknown word of a reading, also one that is in two pieces or spelled out."""
    words = [as_letters(word) for word in _TOKEN.findall(reading) if not word.isdigit()]
    yield from words
    for first, second in pairwise(words):
        if first not in known and second not in known:
            yield first + second
    for size in _PIECES:
        for short, pieces in groupby(words, partial(_is_short, size)):
            spelled = "".join(pieces)
            if short:
                # Without its first letter too: an article may stand before a spelled-out word.
                yield from (spelled, spelled[1:])


def _is_short(size: int, word: str) -> bool:
    return len(word) <= size


def _words(reading: str, benign: frozenset[str]) -> list[Word]:
    """The words of a reading; benign ones become barriers that no term reaches across."""
    words: list[Word] = []
    end = 0
    for match in _TOKEN.finditer(reading):
        text, gap = match.group(), reading[end : match.start()]
        loose = gap == " " or (gap != "" and _SPACE.search(gap) is not None)
        end = match.end()
        if text in benign:
            text = BARRIER
        elif loose and words and f"{words[-1].text} {text}" in benign:
            words[-1] = Word(BARRIER, words[-1].loose)
            text = BARRIER
        words.append(Word(text, loose))
    return words
