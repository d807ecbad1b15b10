"""What was read from the headers of many files, kept on disk until a file changes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from webui.errors import StorageError
from webui.library.files import write_atomically

Facts = TypeVar("Facts")


class FactsCache(Generic[Facts]):
    """Facts by path; one JSON file that is begun anew when it is lost, damaged or of another shape.

    Safe to use from several threads; several processes may share the file.
    """

    def __init__(self, file: Path, kind: TypeAdapter[dict[str, tuple[str, Facts]]]) -> None:
        """`kind`: path to stamp and facts, which are a dataclass of plain values."""
        self._file = file
        self._kind = kind
        self._known: dict[str, tuple[str, Facts]] | None = None
        self._lock = threading.Lock()

    def of(self, files: Sequence[tuple[Path, str]], read: Callable[[Path], Facts]) -> list[Facts]:
        """The facts of each file, read where its stamp is another than the one kept.

        Args:
            files: Paths with stamps that change when what `read` gives may.
            read: Must not raise for what may be wrong with a file.
        """
        with self._lock:
            known = self._load() if self._known is None else self._known
            asked: dict[str, tuple[str, Facts]] = {}
            changed = False
            for path, stamp in files:
                kept = known.get(str(path))
                if kept is None or kept[0] != stamp:
                    kept, changed = (stamp, read(path)), True
                asked[str(path)] = kept
            if changed:
                # What others have asked for, here or elsewhere, stays as long as its file does.
                rest = {p: kept for p, kept in (self._load() | known).items() if p not in asked}
                known = {p: kept for p, kept in rest.items() if os.path.exists(p)} | asked
                self._save(known)
            self._known = known
        return [asked[str(path)][1] for path, _ in files]

    def _load(self) -> dict[str, tuple[str, Facts]]:
        try:
            return self._kind.validate_json(self._file.read_bytes())
        except (OSError, ValidationError):
            return {}

    def _save(self, known: dict[str, tuple[str, Facts]]) -> None:
        try:
            write_atomically(self._file, self._kind.dump_json(known))
        except StorageError:
            # Without it the headers are read once more by the next process, and nothing is lost.
            return


def stamp_of(found: os.stat_result) -> str:
    """What changes with a file's content."""
    # Anybody can set the time of modification, and nobody that of the last change.
    return f"{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}"
