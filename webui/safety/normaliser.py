"""Reads a disguised text the way a person does: as plain lower-case ASCII.

The order matters. Look-alike letters are mapped before compatibility forms are resolved,
because resolving first would turn some of them into other letters; invisible characters go
before apostrophes and digits are judged by their neighbours.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from anyascii import anyascii
from ftfy import fix_text

from webui.errors import GuardError

_FILLERS = "\u034f\u115f\u1160\u2800\u3164\uffa0"
"""Characters that Unicode calls letters or symbols and that print nothing."""

_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_TAG = re.compile(r"<[^<>]*>")
_BLOCK_WORD = re.compile(r"\b(?:BREAK|AND)\b")
_WEIGHT = re.compile(r":\s*[-+]?[\d.]+\s*(?=[)\]])")
_BRACKET = re.compile(r"[()\[\]{}\\]")
_QUOTE = re.compile(r"[%&]")
_UNCASED = re.compile(r"[\u0590-\u109f\u1100-\u11ff\u3040-\u318f\u3400-\u9fff\uac00-\ud7af]")
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
"""Letters of Chinese and Japanese."""

_PICTOGRAM = re.compile(r"[\u2600-\u27bf\U0001f300-\U0001faff]+")
_TAGS = re.compile(r"[\U000e0020-\U000e007e]")
"""Characters that are not shown, each of which stands for an ASCII one."""

_NO_LETTERS = re.compile(r"[\s\d_!-/:-@\[-`{-~\u2000-\u206f\u3000-\u303f]+")

_LETTERS = re.compile(r"[^\x00-\x7f]+")
_APOSTROPHE = re.compile(r"(?<=[a-z0-9])['`](?=[a-z0-9])")
_SYMBOL_LETTERS = (
    (re.compile(r"@(?=[a-z0-9])|(?<=[a-z0-9])@"), "a"),
    (re.compile(r"\$(?=[a-z0-9$])|(?<=[a-z0-9$])\$"), "s"),
    (re.compile(r"(?<=[a-z0-9])[!|](?=[a-z0-9!|])"), "i"),
)


def without_syntax(text: str) -> str:
    """The words of a prompt without weights, brackets, escapes, tags, BREAK and AND.

    What the syntax held apart is joined, as the tokenizer will see it: "a(b:1.2)c" is "abc".
    """
    text = _BLOCK_WORD.sub(" ", _TAG.sub("", text))
    return _BRACKET.sub("", _WEIGHT.sub("", text))


@dataclass(frozen=True)
class Normaliser:
    """Folds any text to lower-case ASCII.

    Attributes:
        lookalikes: Code point of a letter -> the Latin letter it looks like.
    """

    lookalikes: Mapping[int, str]

    @staticmethod
    def load(file: Path) -> Normaliser:
        """Reads a table with one Latin letter and all that look like it on each line.

        Raises:
            GuardError: The file is missing or no such table.
        """
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
            rows = [line.split(" ") for line in lines if line and not line.startswith("#")]
            table = {ord(like): letter for letter, likes in rows for like in likes}
        except (OSError, ValueError) as error:
            raise GuardError(
                f"The word filter's table {file.name} cannot be read; run"
                " `python launch.py setup` again."
            ) from error
        return Normaliser(table)

    def readings(self, text: str) -> frozenset[str]:
        """Every way the text can be read: with and without prompt syntax, unquoted, folded."""
        latin = (one for written in _written(text) for one in self._latin(written))
        return frozenset(folded for one in latin for folded in _folded(one))

    def cased_readings(self, text: str) -> frozenset[str]:
        """The same with its capitals kept, and with symbols and digits as they are."""
        return frozenset(one for written in _written(text) for one in self._latin(written))

    def native_readings(self, text: str) -> frozenset[str]:
        """The words of a text, unquoted, in scripts without capitals; none where it has none."""
        if text.isascii() and not _QUOTE.search(text):
            return frozenset()
        return frozenset(in_own_script(one) for one in _written(text) if is_uncased(one))

    def _latin(self, text: str) -> tuple[str, ...]:
        """The text in Latin letters: by sound, where a pictogram is its name, and by looks."""
        if text.isascii():
            return (text,)
        return by_sound(text), by_sound(_PICTOGRAM.sub(" ", text.translate(self.lookalikes)))


def is_uncased(text: str) -> bool:
    """Whether there are letters of a script that has no capitals, such as Arabic or Chinese."""
    return _UNCASED.search(text) is not None


def is_unspaced(text: str) -> bool:
    """Whether there are letters of a script that puts no space between words."""
    return _UNSPACED.search(text) is not None


def in_own_script(text: str) -> str:
    """The words of a text without their marks, one space between them."""
    decomposed = unicodedata.normalize("NFKD", text).casefold()
    return _NO_LETTERS.sub(" ", "".join(filter(_is_shown, decomposed))).strip()


def by_sound(text: str) -> str:
    """A text in Latin letters, without marks and what is not shown, with capitals kept."""
    decomposed = unicodedata.normalize("NFKD", text)
    shown = "".join(filter(_is_shown, decomposed))
    return _LETTERS.sub(_spelled, shown)


def _written(text: str) -> set[str]:
    mended = _mend(text)
    written = {mended}
    compatible = mended if mended.isascii() else unicodedata.normalize("NFKC", mended)
    if "%" in compatible:
        written.add(_mend(unquote(unquote(compatible))))
    if _TAGS.search(mended):
        written.add(_TAGS.sub(lambda tag: chr(ord(tag.group()) & 0x7F), mended))
    return written | {without_syntax(one) for one in written}


def _mend(text: str) -> str:
    """Undoes mojibake and HTML entities; compatibility forms are left for later."""
    if text.isascii() and "&" not in text:
        return text
    return fix_text(text, unescape_html=True, normalization=None)


def _spelled(word: re.Match[str]) -> str:
    """A run of letters in Latin ones, with capitals where it has some: many scripts have none."""
    latin = anyascii(word.group()).lower()
    if word.group().isupper():
        return latin.upper()
    return latin.capitalize() if word.group()[0].isupper() else latin


def _folded(text: str) -> Iterator[str]:
    """The text in lower case, with symbols as the letters they look like, and as symbols."""
    text = _APOSTROPHE.sub("", _CONTROL.sub("", text.lower()))
    yield text
    lettered = text
    for pattern, letter in _SYMBOL_LETTERS:
        lettered = pattern.sub(letter, lettered)
    yield lettered


def _is_shown(character: str) -> bool:
    return character.isascii() or (
        character not in _FILLERS and unicodedata.category(character) not in ("Mn", "Me", "Cf")
    )
