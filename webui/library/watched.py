"""What was read from files, kept until one of them changes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

FileState = tuple[Path, int, int]
"""A file's path, time of change (ns) and size (bytes); both 0 where it is missing."""


class Watched(Generic[T]):
    """Values by the files they were read from; of more than `most` the least used go first.

    Safe to use from several threads; two that need the same value at once may both read it.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[tuple[FileState, ...], T] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, files: tuple[Path, ...], read: Callable[[], T]) -> T:
        """What `read` gives, called only when it is not known yet for the files as they are.

        Raises:
            Exception: Whatever `read` raises; it is asked again the next time.
        """
        key = tuple(_state(file) for file in files)
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = read()
        with self._lock:
            self._values[key] = value
            while len(self._values) > self._most:
                self._values.popitem(last=False)
        return value


def _state(file: Path) -> FileState:
    try:
        found = file.stat()
    except OSError:
        return file, 0, 0
    return file, found.st_mtime_ns, found.st_size
