"""Where things lie until they are whole."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

PART = ".part"
"""Ending of what is not whole yet."""


def file_part(final: Path) -> Path:
    """Where a file grows."""
    return Path(f"{final}{PART}")


def folder_part(final: Path) -> Path:
    """Where a folder grows: hidden, so that nobody takes it for a model."""
    return final.with_name(f".{final.name}{PART}")


def delete_parts(final: Path) -> None:
    """Removes what has come of a file or folder that is to be at a path."""
    shutil.rmtree(folder_part(final), ignore_errors=True)
    with suppress(OSError):
        file_part(final).unlink(missing_ok=True)


def is_whole(path: Path, size: int) -> bool:
    """Whether a file of a folder that grows is there, `size` in bytes."""
    # A file gets its name in there only after it has been looked over.
    return path.is_file() and path.stat().st_size == size
