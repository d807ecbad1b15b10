"""CLIP's vocabulary, which all of its published text encoders share; single files bring none.

Read from the file that the package open_clip ships, none of whose code is run. How a vocabulary
is made of it: `simple_tokenizer.py` of openai/CLIP.
"""

from __future__ import annotations

import gzip
import importlib.util
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from webui.errors import BrokenFileError

START, END = "<|startoftext|>", "<|endoftext|>"
END_OF_WORD = "</w>"

TOKENS = 49408
"""Entries of the vocabulary: 256 bytes inside of words and at their ends, merges, start, end."""

_MERGES = TOKENS - 2 * 256 - 2
"""The file has more of them; CLIP was trained with the first ones."""

_PACKAGE, _FILE = "open_clip", "bpe_simple_vocab_16e6.txt.gz"


class ClipVocabulary(NamedTuple):
    """Tokens and their numbers, and which pairs are merged, the first ones first."""

    numbers: MappingProxyType[str, int]
    merges: tuple[tuple[str, str], ...]


@cache
def clip_vocabulary() -> ClipVocabulary:
    """The vocabulary: 49,408 tokens. Takes 0.1 s the first time.

    Raises:
        BrokenFileError: The package with it is missing or damaged.
    """
    try:
        lines = gzip.decompress(_file().read_bytes()).decode().split("\n")
    except (OSError, EOFError, ValueError):
        raise BrokenFileError(
            f"CLIP's vocabulary ({_PACKAGE}/{_FILE}) cannot be read: run `python launch.py setup`."
        ) from None
    # The first line names the format.
    pairs = [line.split() for line in lines[1 : _MERGES + 1]]
    merges = tuple((first, second) for first, second in pairs)
    letters = _letters()
    tokens = (
        *letters,
        *(letter + END_OF_WORD for letter in letters),
        *(first + second for first, second in merges),
        START,
        END,
    )
    numbers = {token: number for number, token in enumerate(tokens)}
    return ClipVocabulary(MappingProxyType(numbers), merges)


def _file() -> Path:
    # Importing the package would import torch; where it lies can be known without.
    spec = importlib.util.find_spec(_PACKAGE)
    folders = spec.submodule_search_locations if spec is not None else None
    if not folders:
        raise FileNotFoundError(_PACKAGE)
    return Path(folders[0]) / _FILE


def _letters() -> tuple[str, ...]:
    """A printable letter for each byte, those that are printable themselves first."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return (*map(chr, printable), *(chr(256 + at) for at in range(len(others))))
