"""Ways to write a word so that a filter misses it and a reader does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from urllib.parse import quote

from webui.safety.prompts import FOLDER

Disguise = Callable[[str], str]

_LEET = str.maketrans("aeiostbgz", "431057892")
_SYMBOLS = str.maketrans("ais", "@!$")
_CYRILLIC = str.maketrans("aceopxyikmhtb", "асеорхуікмнтв")
_GREEK = str.maketrans("aeiknopuvxy", "αεικηορυνχγ")


def _spread(separator: str) -> Disguise:
    return lambda word: separator.join(word)


def _shifted(first: int) -> Disguise:
    return lambda word: "".join(chr(first + ord(c) - ord("a")) for c in word)


def _middle(word: str) -> tuple[str, str]:
    half = len(word) // 2
    return word[:half], word[half:]


def _split(separator: str) -> Disguise:
    return lambda word: separator.join(_middle(word))


def _around(before: str, after: str) -> Disguise:
    return lambda word: before + word + after


def _inside(before: str, after: str) -> Disguise:
    """The second half of the word in between."""
    return lambda word: _middle(word)[0] + before + _middle(word)[1] + after


def _with_marks(mark: str) -> Disguise:
    return lambda word: "".join(letter + mark for letter in word)


def _look_alike(word: str) -> str:
    lines = (FOLDER / "lookalikes.txt").read_text(encoding="utf-8").splitlines()
    table = dict(line.split(" ") for line in lines if not line.startswith("#"))
    return "".join(table.get(letter, letter)[-1] for letter in word)


def _one_letter_stretched(word: str) -> str:
    return word[:2] + word[2] * 4 + word[3:]


DISGUISES: Mapping[str, Disguise] = MappingProxyType(
    {
        "plain": str,
        "upper case": str.upper,
        "mixed case": str.swapcase,
        "leetspeak": lambda word: word.translate(_LEET),
        "one digit": lambda word: word.replace("i", "1", 1).replace("a", "4", 1),
        "symbols": lambda word: word.translate(_SYMBOLS),
        "leet l": lambda word: word.replace("l", "1"),
        "Cyrillic letters": lambda word: word.translate(_CYRILLIC),
        "Greek letters": lambda word: word.translate(_GREEK),
        "rare look-alikes": _look_alike,
        "full width": _shifted(0xFF41),
        "circled": _shifted(0x24D0),
        "bold script": _shifted(0x1D4EA),
        "monospace": _shifted(0x1D68A),
        "negative squared": _shifted(0x1F170),
        "regional": _shifted(0x1F1E6),
        "parenthesised": _shifted(0x249C),
        "zero width": _spread("\u200b"),
        "soft hyphens": _spread("\u00ad"),
        "word joiners": _spread("\u2060"),
        "fillers": _spread("\u3164"),
        "control characters": _spread("\x08"),
        "spaces": _spread(" "),
        "wide spaces": _spread("\u2003"),
        "dots": _spread("."),
        "dashes": _spread("-"),
        "underscores": _spread("_"),
        "stars": _spread("*"),
        "commas": _spread(", "),
        "lines": _spread("\n"),
        "mixed separators": lambda word: ".-_/".join(word),
        "split by a space": _split(" "),
        "split by a dash": _split("-"),
        "split by a dot": _split("."),
        "split by a line": _split("\n"),
        "split by BREAK": _split(" BREAK "),
        "apostrophe": _split("'"),
        "two letters each": lambda word: " ".join(word[i : i + 2] for i in range(0, len(word), 2)),
        "reversed": lambda word: word[::-1],
        "reversed and spaced": lambda word: " ".join(word[::-1]),
        "right to left": lambda word: "\u202e" + word[::-1],
        "one letter stretched": _one_letter_stretched,
        "every letter doubled": lambda word: "".join(c * 2 for c in word),
        "every letter tripled": lambda word: "".join(c * 3 for c in word),
        "last letter stretched": lambda word: word + word[-1] * 5,
        "URL quoted": lambda word: "".join(f"%{ord(c):02x}" for c in word),
        "URL quoted twice": lambda word: quote("".join(f"%{ord(c):02x}" for c in word)),
        "HTML entities": lambda word: "".join(f"&#{ord(c)};" for c in word),
        "acute accents": _with_marks("\u0301"),
        "struck through": _with_marks("\u0336"),
        "piled marks": _with_marks("\u0301\u0316\u0334\u20dd"),
        "weighted": _around("(", ":1.3)"),
        "weighted inside": _inside("(", ":1.2)"),
        "brackets inside": _inside("[", "]"),
        "escapes inside": _inside("\\(", "\\)"),
        "tag inside": _inside("<lora:x:0.5>", ""),
        "inside a word": _around("xx", "xx"),
        "digits after": _around("", "2024"),
        "digits before": _around("1", ""),
        "in a file name": _around("/home/", ".png"),
        "hash tag": _around("#", ""),
        "exclaimed": _around("", "!!!"),
        "leet and spaces": lambda word: " ".join(word.translate(_LEET)),
        "full width and zero width": lambda word: "\u200d".join(_shifted(0xFF41)(word)),
        "Cyrillic and dots": lambda word: ".".join(word.translate(_CYRILLIC)),
    }
)
