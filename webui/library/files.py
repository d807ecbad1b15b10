"""Writing a file whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from webui.errors import StorageError

PREFIX = ".writing-"


def write_atomically(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Writes `data` to a temporary file beside `path`, then renames it into place.

    An error leaves neither a half-written file nor a temporary one, and an older file at
    `path` stays as it was.

    Args:
        mode: The file's rights.

    Raises:
        StorageError: Disk full, folder read-only or missing permission.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=PREFIX)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise StorageError(_sentence(path, error)) from None
    except BaseException:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise


def remove_leftovers(folder: Path) -> None:
    """Removes what a killed process was still writing, in `folder` and one level below it."""
    for pattern in (f"{PREFIX}*", f"*/{PREFIX}*"):
        for leftover in folder.glob(pattern):
            leftover.unlink(missing_ok=True)


def _sentence(path: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk is full: {path.name} was not saved. Free some space in {path.parent}."
    return f"{path.name} could not be saved in {path.parent}: {error.strerror}."
