"""Secret keys of this installation: made at the first use, kept where only its owner may read."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from webui.errors import StorageError

BYTES = 32

_MODE = 0o600


def kept_key(path: Path) -> bytes:
    """The key in a file, `BYTES` long; a new one where there is no such file.

    Safe to use from several processes: all of them get the same key.

    Raises:
        StorageError: The file is damaged, cannot be read, or a new one cannot be written.
    """
    try:
        return _read(path)
    except FileNotFoundError:
        pass
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(os.open(temporary, flags, _MODE), "wb") as file:
            file.write(secrets.token_bytes(BYTES))
            file.flush()
            os.fsync(file.fileno())
        _put_in_place(temporary, path)
        return _read(path)
    except OSError as error:
        raise StorageError(f"The key {path} cannot be written: {error.strerror}.") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _read(path: Path) -> bytes:
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageError(f"The key {path} cannot be read: {error.strerror}.") from None
    if len(key) != BYTES:
        raise StorageError(f"The key {path} is damaged: restore it, or move it away for a new one.")
    return key


def _put_in_place(temporary: Path, path: Path) -> None:
    """A key that another process has put there in the meantime stays."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return
    except OSError:
        # Not every file system has links.
        os.replace(temporary, path)
