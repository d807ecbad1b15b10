"""What can be fetched from a place, before any of it is."""

from __future__ import annotations

from dataclasses import dataclass

from webui.library.civitai import Term
from webui.library.kinds import Kind


@dataclass(frozen=True)
class RemoteFile:
    """A file to be fetched.

    Attributes:
        path: Where it goes, below the folder; of a single file its name.
        size: In bytes.
        sha256: Hex digest, where the server tells one.
    """

    address: str
    path: str
    size: int
    sha256: str | None = None


@dataclass(frozen=True)
class Found:
    """One thing that can be fetched.

    Attributes:
        name: Of the file, or of the folder, that it becomes.
        is_folder: Whether `files` make a folder together.
        family: As in `webui.library.lora_facts.LoraFamily`.
        licence: In the words of who published it; `None` when they do not say.
        terms: What its maker allows or asks for, where that is told apart from a licence's name.
        page: Where people read about it.
        words: Words it was trained to answer to.
        base: What it was made for or from, in its maker's words.
    """

    title: str
    name: str
    kind: Kind
    files: tuple[RemoteFile, ...]
    is_folder: bool = False
    family: str = "unknown"
    licence: str | None = None
    page: str | None = None
    words: tuple[str, ...] = ()
    base: str | None = None
    terms: tuple[Term, ...] = ()

    @property
    def size(self) -> int:
        """Of all files together, in bytes."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True)
class Choice:
    """One of several things that lie at the same place; `source` is what leads to it alone."""

    source: str
    name: str
    size: int


@dataclass(frozen=True)
class Choices:
    """A place with more than one thing to fetch."""

    title: str
    licence: str | None
    page: str
    rows: tuple[Choice, ...]
