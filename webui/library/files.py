"""Writing a file whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from webui.errors import StorageError

PREFIX = ".writing-"


PRIVATE = 0o600
"""Rights of files that are for their owner alone."""


def write_atomically(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Writes `data` to a temporary file beside `path`, then renames it into place.

    An error leaves neither a half-written file nor a temporary one, and an older file at
    `path` stays as it was.

    Args:
        mode: The file's rights.

    Raises:
        StorageError: Disk full, folder read-only or missing permission.
    """
    try:
        with _written_beside(path, data, mode) as temporary:
            os.replace(temporary, path)
    except OSError as error:
        raise StorageError(_sentence(path, error)) from None


def write_first(path: Path, data: bytes, *, mode: int) -> None:
    """Writes a file whole where there is none; one that another process put there stays.

    Raises:
        OSError: It cannot be written; nothing is left behind.
    """
    with _written_beside(path, data, mode) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
        except OSError:
            # Not every file system has links.
            os.replace(temporary, path)


@contextmanager
def _written_beside(path: Path, data: bytes, mode: int) -> Generator[str, None, None]:
    """A temporary file with the data, to be put in place; it is gone afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=PREFIX)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        yield temporary
    finally:
        with suppress(OSError):
            os.unlink(temporary)


def remove_leftovers(folder: Path) -> None:
    """Removes what a killed process was still writing, in `folder` and one level below it."""
    for pattern in (f"{PREFIX}*", f"*/{PREFIX}*"):
        for leftover in folder.glob(pattern):
            leftover.unlink(missing_ok=True)


def _sentence(path: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk is full: {path.name} was not saved. Free some space in {path.parent}."
    return f"{path.name} could not be saved in {path.parent}: {error.strerror}."
