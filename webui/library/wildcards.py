"""Lists of texts that a prompt draws from as `__name__`: text files, a line each.

A list's name is its path below the folder, without `.txt` and with `/` between folders. Empty lines
and those that begin with `#` do not count.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType

from webui.errors import BadRequestError, NotFoundError
from webui.library.watched import Watched
from webui.request import nearest

MAX_FILES = 10_000
MAX_BYTES = 4 * 1024**2
MAX_CHARACTERS = 2_000
"""Longest line."""

_KEPT = 256


class WildcardShelf:
    """The lists of several folders; of two with one name the earlier folder's counts."""

    def __init__(self, folders: tuple[Path, ...]) -> None:
        self._folders = folders
        self._read = Watched[tuple[str, ...]](_KEPT)

    def now(self) -> Wildcards:
        """The lists there are now. What is in them is read when it is asked for."""
        found: dict[str, Path] = {}
        for folder in self._folders:
            for path in _files(folder):
                name = path.relative_to(folder).with_suffix("").as_posix()
                found.setdefault(name, path)
        return Wildcards(MappingProxyType(dict(sorted(found.items()))), self._read)


class Wildcards:
    """Lists by name, each of which stays what it was when it was first read."""

    def __init__(self, files: Mapping[str, Path], read: Watched[tuple[str, ...]]) -> None:
        self._files = files
        self._read = read
        self._known: dict[str, tuple[str, ...]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        return tuple(self._files)

    def lines(self, pattern: str) -> tuple[str, ...]:
        """The texts of all lists whose names fit, each once, in the order of names and lines.

        `*` and `?` stand for other characters, `*` for `/` too. What fits no name is
        looked for in all subfolders.

        Raises:
            NotFoundError: There is no such list.
            BadRequestError: There is nothing in it, or a file cannot be used.
        """
        if pattern not in self._known:
            self._known[pattern] = self._fitting(pattern)
        return self._known[pattern]

    def _fitting(self, pattern: str) -> tuple[str, ...]:
        if pattern in self._files:
            names = [pattern]
        else:
            names = [name for name in self._files if fnmatchcase(name, pattern)]
            names = names or [name for name in self._files if fnmatchcase(name, f"*/{pattern}")]
        if not names:
            raise NotFoundError(_nothing(pattern, self.names))
        lines = (line for name in names for line in self._list(self._files[name]))
        distinct = tuple(dict.fromkeys(lines))
        if not distinct:
            raise BadRequestError(f"The wildcard {pattern[:60]!r} is an empty list.")
        return distinct

    def _list(self, path: Path) -> tuple[str, ...]:
        return self._read.get((path,), lambda: _lines(path))


def _nothing(pattern: str, names: tuple[str, ...]) -> str:
    known = (
        nearest(pattern[:60], names)
        if names
        else "there are no lists yet, put text files into the folder of wildcards."
    )
    return f"There is no wildcard {pattern[:60]!r}: {known}"


def _files(folder: Path) -> Iterator[Path]:
    """Text files below a folder, hidden ones left out."""
    left = MAX_FILES
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.lower().endswith(".txt") and not name.startswith("."):
                left -= 1
                if left < 0:
                    return
                yield Path(where, name)


def _lines(path: Path) -> tuple[str, ...]:
    try:
        # Opening a pipe would wait for a writer.
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadRequestError(f"The wildcards in {path.name} are not in a file.")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        reason = f"The wildcards in {path.name} cannot be read: {error.strerror}."
        raise BadRequestError(reason) from None
    if len(data) > MAX_BYTES:
        raise BadRequestError(
            f"The wildcards in {path.name} are more than {MAX_BYTES // 1024**2} MiB."
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadRequestError(f"The wildcards in {path.name} are not in UTF-8.") from None
    lines = [line.strip() for line in text.splitlines()]
    kept = tuple(line for line in lines if line and not line.startswith("#"))
    for line in kept:
        if len(line) > MAX_CHARACTERS:
            raise BadRequestError(
                f"A line in {path.name} is longer than {MAX_CHARACTERS:,} characters."
            )
    return kept
