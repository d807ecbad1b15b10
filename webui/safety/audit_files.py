"""The audit log's files: sealed lines, a head that says where they end, and the lock on both."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from webui.errors import StorageError
from webui.library.files import PRIVATE, write_atomically
from webui.library.sealed import as_text, sealed, unsealed

LINE, _HEAD = "audit line", "audit head"
"""Kinds of what is sealed."""

_LONGEST_LINE = 64 * 1024
"""More bytes than a line can have."""

_PATIENCE = 5.0
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0)


@dataclass(frozen=True)
class Head:
    """Where the log ends.

    Attributes:
        count: Lines ever written.
        seal: Of the last of them.
        days: Number of the first line of each day that is kept.
    """

    count: int
    seal: str
    days: Mapping[str, int]


def append(folder: Path, day: str, line: Mapping[str, Any], key: bytes, head: Head) -> None:
    """Writes a line and the head that goes with it, both or neither.

    Raises:
        StorageError: The head cannot be written.
        OSError: The line cannot be written.
    """
    path = path_of(folder, day)
    file = os.open(path, os.O_RDWR | os.O_CREAT | _NO_LINKS, PRIVATE)
    try:
        os.chmod(path, PRIVATE)
        end = _whole_length(path)
        try:
            os.ftruncate(file, end)
            os.lseek(file, end, os.SEEK_SET)
            text = as_text(line) + b"\n"
            if os.write(file, text) != len(text):
                raise OSError(None, "it was written in part only")
            os.fsync(file)
            write_head(folder, key, head)
        except BaseException:
            with suppress(OSError):
                os.ftruncate(file, end)
            raise
    finally:
        os.close(file)


def lines_of(folder: Path, day: str, key: bytes) -> Iterator[dict[str, Any] | None]:
    """A day's lines, `None` for those whose seal is broken; an unfinished last one is none."""
    *lines, _ = path_of(folder, day).read_bytes().split(b"\n")
    for text in lines:
        yield unsealed(key, LINE, text)


def last_line(folder: Path, day: str, key: bytes) -> dict[str, Any] | None:
    """The last of a day's lines; `None` where there is none, or its seal is broken."""
    *_, text = (b"", *_tail(path_of(folder, day)).rpartition(b"\n")[0].split(b"\n"))
    return unsealed(key, LINE, text)


def read_head(folder: Path, key: bytes) -> Head | None:
    """The head; `None` where there is none, or its seal is broken."""
    try:
        found = unsealed(key, _HEAD, head_path(folder).read_bytes())
    except FileNotFoundError:
        return None
    return None if found is None else Head(found["count"], found["last"], found["days"])


def write_head(folder: Path, key: bytes, head: Head) -> None:
    """Replaces the head.

    Raises:
        StorageError: It cannot be written.
    """
    body = {"count": head.count, "last": head.seal, "days": dict(head.days)}
    write_atomically(head_path(folder), as_text(sealed(key, _HEAD, body)), mode=PRIVATE)


def _whole_length(path: Path) -> int:
    """Bytes of the whole lines in a file: what a killed process began to write is left out."""
    tail = _tail(path)
    return path.stat().st_size - len(tail) + tail.rfind(b"\n") + 1


def _tail(path: Path) -> bytes:
    """The end of a file, with its last line whole."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LONGEST_LINE))
        return file.read()


def days_in(folder: Path) -> list[str]:
    """The days of which there is a file, in order."""
    return sorted(path.stem for path in folder.glob("????-??-??.jsonl"))


def path_of(folder: Path, day: str) -> Path:
    """The file of a day."""
    return folder / f"{day}.jsonl"


def head_path(folder: Path) -> Path:
    """The file that says where the log ends."""
    return folder / "head.json"


def key_path(folder: Path) -> Path:
    """The key that seals lines and head."""
    return folder.with_name("audit.key")


@contextmanager
def alone_in(folder: Path) -> Generator[None]:
    """Keeps other threads and processes out of the log.

    Raises:
        StorageError: It cannot be had, or an `OSError` came of what was done in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(folder / "lock", timeout=_PATIENCE, mode=PRIVATE):
            yield
    except Timeout:
        raise StorageError("The audit log is held by another process: end that one.") from None
    except OSError as error:
        raise StorageError(
            f"The audit log in {folder} cannot be written or read: {error.strerror}."
        ) from None
