"""Reading files that nobody but their owner may have written."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from webui.errors import WebuiError

_MOST_BYTES = 1024**2
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class UntrustedFileError(WebuiError):
    """A file that decides about levels cannot be relied on."""

    status = 503


def read_private(path: Path) -> bytes | None:
    """The bytes of a file that only its owner, this user or root, can write; `None` without it.

    Raises:
        UntrustedFileError: Others may write it, it is another user's, no file, too large, or
            cannot be read.
    """
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise UntrustedFileError(f"{path} is not a file.")
            if is_open_to_others(found):
                raise UntrustedFileError(
                    f"{path} could have been written by others: look through it, make it yours"
                    " and take their rights away (chmod 600)."
                )
            data = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UntrustedFileError(f"{path} cannot be read: {error.strerror}.") from None
    if len(data) > _MOST_BYTES:
        raise UntrustedFileError(f"{path} is larger than 1 MiB.")
    return data


def is_open_to_others(found: os.stat_result) -> bool:
    """Whether others than this user and root can write it; where there are no users, nobody."""
    return os.name == "posix" and (
        bool(found.st_mode & _OTHERS_WRITE) or found.st_uid not in (0, os.geteuid())
    )


def _without_waiting(path: str, flags: int) -> int:
    """Opens a pipe too, instead of waiting for its writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
