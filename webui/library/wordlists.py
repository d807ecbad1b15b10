"""Lists of phrases that a prompt can be composed of, one text file each.

A line is a phrase; lines that begin with `#` are comments. The user's edits lie in a folder of
their own and stand for the whole list.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from webui.errors import BadRequestError, NotFoundError, StorageError
from webui.library.files import write_atomically
from webui.library.lines import is_plain_line
from webui.request import nearest

NAMES = ("subject", "setting", "light", "camera", "film", "style")
"""The lists, in the order in which their phrases make a prompt."""

MAX_BYTES = 64 * 1024
MAX_LINES = 500
MAX_CHARACTERS = 200


@dataclass(frozen=True)
class WordList:
    """One list.

    Attributes:
        own: Whether the user has edited it.
        broken: Why its file cannot be used, in one sentence; `phrases` are then the shipped ones.
    """

    name: str
    phrases: tuple[str, ...]
    own: bool
    broken: str | None = None


class WordLists:
    """The shipped lists, each replaced by the user's own where there is one."""

    def __init__(self, shipped: Path, own: Path) -> None:
        """`own` is made when the first list is saved."""
        self._shipped = shipped
        self._own = own

    def lists(self) -> tuple[WordList, ...]:
        """All lists as they are on disk now, in the order of `NAMES`."""
        return tuple(self._list(name) for name in NAMES)

    def store(self, name: str, phrases: Sequence[str]) -> WordList:
        """Replaces a list by the user's own; spaces around phrases and empty ones are dropped.

        Raises:
            NotFoundError: There is no such list.
            BadRequestError: There are too many phrases, or one cannot be written on a line.
            StorageError: Disk full or folder not writable; the list stays as it was.
        """
        path = self._own / _file(name)
        kept = tuple(phrase.strip() for phrase in phrases if phrase.strip())
        for phrase in kept:
            if phrase.startswith("#"):
                raise BadRequestError(f"A phrase cannot begin with '#': {phrase[:60]!r}.")
        _check(kept)
        data = "".join(f"{phrase}\n" for phrase in kept).encode()
        if len(data) > MAX_BYTES:
            raise BadRequestError(f"A list may have at most {MAX_BYTES // 1024} KiB.")
        write_atomically(path, data)
        return WordList(name, kept, own=True)

    def reset(self, name: str) -> WordList:
        """Takes the user's own list away and gives the shipped one.

        Raises:
            NotFoundError: There is no such list.
            StorageError: The file cannot be removed.
        """
        path = self._own / _file(name)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"{path.name} cannot be deleted: {error.strerror}.") from None
        return self._list(name)

    def _list(self, name: str) -> WordList:
        own, broken = self._own / _file(name), None
        try:
            if (phrases := _read(own)) is not None:
                return WordList(name, phrases, own=True)
        except BadRequestError as error:
            broken = error.message
        try:
            shipped = _read(self._shipped / own.name)
        except BadRequestError as error:
            return WordList(name, (), broken is not None, broken or error.message)
        missing = None if shipped is not None else f"{own.name} is missing: install Easel anew."
        return WordList(name, shipped or (), broken is not None, broken or missing)


def _file(name: str) -> str:
    if name not in NAMES:
        raise NotFoundError(f"Unknown word list {name[:60]!r}: {nearest(name[:60], NAMES)}")
    return f"{name}.txt"


def _read(path: Path) -> tuple[str, ...] | None:
    """The phrases in a file; `None` when there is none.

    Raises:
        BadRequestError: The file cannot be used.
    """
    try:
        # Opening a pipe would wait for a writer.
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadRequestError(f"{path.name} is not a file.")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadRequestError(f"{path.name} cannot be read: {error.strerror}.") from None
    if len(data) > MAX_BYTES:
        raise BadRequestError(f"{path.name} is larger than {MAX_BYTES // 1024} KiB.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadRequestError(f"{path.name} is not a text file in UTF-8.") from None
    lines = tuple(line.strip() for line in text.removesuffix("\n").split("\n"))
    _check(lines)
    return tuple(line for line in lines if line and not line.startswith("#"))


def _check(lines: Sequence[str]) -> None:
    if len(lines) > MAX_LINES:
        raise BadRequestError(f"A list may have at most {MAX_LINES} lines, not {len(lines):,}.")
    for number, line in enumerate(lines, start=1):
        if len(line) > MAX_CHARACTERS:
            raise BadRequestError(
                f"Line {number} is {len(line):,} characters long: at most {MAX_CHARACTERS} fit."
            )
        if not is_plain_line(line):
            raise BadRequestError(f"Line {number} is not a line of plain text.")
