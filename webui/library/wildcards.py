"""Lists of texts that a prompt draws from as `__name__`: text files, a line each.

A list's name is its path below the folder, without `.txt` and with `/` between folders. Empty lines
and those that begin with `#` do not count, nor do those that are too long. What is not UTF-8 is
Windows-1252, as many published lists are.
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
"""Longest line that counts."""

_LIST = ".txt"
_COLLECTIONS = (".yaml", ".yml", ".json")
"""Files in which other tools keep many lists."""

_MOST_NAMED = 3

_KEPT = 256


class WildcardShelf:
    """The lists of several folders; of two with one name the earlier folder's counts."""

    def __init__(self, folders: tuple[Path, ...]) -> None:
        self._folders = folders
        self._read = Watched[tuple[str, ...]](_KEPT)

    def now(self) -> Wildcards:
        """The lists there are now. What is in them is read when it is asked for."""
        found: dict[str, Path] = {}
        unread: list[str] = []
        for folder in self._folders:
            for path in _files(folder):
                below = path.relative_to(folder)
                if path.suffix.lower() == _LIST:
                    found.setdefault(below.with_suffix("").as_posix(), path)
                else:
                    unread.append(below.as_posix())
        files = MappingProxyType(dict(sorted(found.items())))
        return Wildcards(files, self._read, tuple(unread))


class Wildcards:
    """Lists by name, each of which stays what it was when it was first read."""

    def __init__(
        self,
        files: Mapping[str, Path],
        read: Watched[tuple[str, ...]],
        unread: tuple[str, ...] = (),
    ) -> None:
        """`unread` are the names of files beside them in which lists may be that are not read."""
        self._files = files
        self._read = read
        self._unread = unread
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
            raise NotFoundError(_nothing(pattern, self.names, self._unread))
        lines = (line for name in names for line in self._list(self._files[name]))
        distinct = tuple(dict.fromkeys(lines))
        if not distinct:
            raise BadRequestError(
                f"The wildcard {pattern[:60]!r} is an empty list: it has no line of at most"
                f" {MAX_CHARACTERS:,} characters."
            )
        return distinct

    def _list(self, path: Path) -> tuple[str, ...]:
        return self._read.get((path,), lambda: _lines(path))


def _nothing(pattern: str, names: tuple[str, ...], unread: tuple[str, ...]) -> str:
    known = (
        nearest(pattern[:60], names)
        if names
        else "there are no lists yet, put text files into the folder of wildcards."
    )
    return f"There is no wildcard {pattern[:60]!r}{_not_read(unread)}: {known}"


def _not_read(unread: tuple[str, ...]) -> str:
    if not unread:
        return ""
    more = f" and {len(unread) - _MOST_NAMED} more" if len(unread) > _MOST_NAMED else ""
    named = ", ".join(unread[:_MOST_NAMED])
    return f" in a text file of its own (not read: {named}{more})"


def _files(folder: Path) -> Iterator[Path]:
    """Text files and collections below a folder, hidden ones left out."""
    left = MAX_FILES
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.lower().endswith((_LIST, *_COLLECTIONS)) and not name.startswith("."):
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
    lines = (line.strip() for line in _decoded(data, path.name).splitlines())
    return tuple(
        line for line in lines if 0 < len(line) <= MAX_CHARACTERS and not line.startswith("#")
    )


def _decoded(data: bytes, file: str) -> str:
    if b"\0" in data:
        raise BadRequestError(f"The wildcards in {file} are not text in UTF-8: save them as such.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")
