"""Secret keys of this installation: made at the first use, kept where only its owner may read."""

from __future__ import annotations

import secrets
from pathlib import Path

from webui.errors import StorageError
from webui.library.files import PRIVATE, write_first

BYTES = 32


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
    try:
        write_first(path, secrets.token_bytes(BYTES), mode=PRIVATE)
        return _read(path)
    except OSError as error:
        raise StorageError(f"The key {path} cannot be written: {error.strerror}.") from None


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
