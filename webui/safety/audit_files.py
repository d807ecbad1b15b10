"""The audit log's files: sealed lines, a head that says where they end, and the lock on both."""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from filelock import FileLock, Timeout

from webui.errors import StorageError
from webui.library.files import write_atomically

Kind = Literal["line", "head"]

MODE = 0o600

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
    file = os.open(path, os.O_RDWR | os.O_CREAT | _NO_LINKS, MODE)
    try:
        os.chmod(path, MODE)
        end = _whole_length(path)
        try:
            os.ftruncate(file, end)
            os.lseek(file, end, os.SEEK_SET)
            text = _text(line) + b"\n"
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
        yield _opened(key, "line", text)


def last_line(folder: Path, day: str, key: bytes) -> dict[str, Any] | None:
    """The last of a day's lines; `None` where there is none, or its seal is broken."""
    *_, text = (b"", *path_of(folder, day).read_bytes().rpartition(b"\n")[0].split(b"\n"))
    return _opened(key, "line", text)


def sealed(key: bytes, kind: Kind, body: Mapping[str, Any]) -> dict[str, Any]:
    """The body with its seal."""
    return {**body, "seal": _seal(key, kind, body)}


def read_head(folder: Path, key: bytes) -> Head | None:
    """The head; `None` where there is none, or its seal is broken."""
    try:
        found = _opened(key, "head", head_path(folder).read_bytes())
    except FileNotFoundError:
        return None
    return None if found is None else Head(found["count"], found["last"], found["days"])


def write_head(folder: Path, key: bytes, head: Head) -> None:
    """Replaces the head.

    Raises:
        StorageError: It cannot be written.
    """
    body = {"count": head.count, "last": head.seal, "days": dict(head.days)}
    write_atomically(head_path(folder), _text(sealed(key, "head", body)), mode=MODE)


def _opened(key: bytes, kind: Kind, text: bytes) -> dict[str, Any] | None:
    """What was sealed; `None` for bytes that were not, in exactly this form."""
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    given = cast(dict[str, Any], found)
    body = {name: value for name, value in given.items() if name != "seal"}
    as_sealed = _text(sealed(key, kind, body))
    return given if hmac.compare_digest(as_sealed, text) else None


def _seal(key: bytes, kind: Kind, body: Mapping[str, Any]) -> str:
    return hmac.digest(key, kind.encode() + _text(body), "sha256").hex()


def _text(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, separators=(",", ":")).encode()


def _whole_length(path: Path) -> int:
    """Bytes of the whole lines in a file: what a killed process began to write is left out."""
    return path.read_bytes().rfind(b"\n") + 1


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
        with FileLock(folder / "lock", timeout=_PATIENCE, mode=MODE):
            yield
    except Timeout:
        raise StorageError("The audit log is held by another process: end that one.") from None
    except OSError as error:
        raise StorageError(
            f"The audit log in {folder} cannot be written or read: {error.strerror}."
        ) from None
