"""Keeps the index of saved pictures as the files are, in the background."""

from __future__ import annotations

import itertools
import json
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from webui.errors import NotFoundError, WebuiError
from webui.library.history_index import HistoryIndex, Picture
from webui.library.history_query import storable
from webui.library.picture_files import (
    Folder,
    Stamp,
    changed_folders,
    is_stale,
    is_trashed,
    locate,
    made_at,
    picture_id,
    shown,
)

BATCH = 200
"""Pictures that are read before they are written together: some tenths of a second's work."""

MAX_SETTINGS_CHARACTERS = 256 * 1024
"""Longest recipe kept, as JSON; the longest valid request needs a quarter of it."""

_OWN_COLUMNS = ("prompt", "negative_prompt", "seed")
"""What of a request differs from picture to picture, and is kept apart from its settings."""

_MAX_INTEGER = 2**63 - 1
"""SQLite's largest."""


@dataclass(frozen=True)
class Indexed:
    """What a picture's file says of itself.

    Attributes:
        width, height: In pixels.
        request: The recipe's request, only the fields that the file names; None without a recipe.
        embeddings: Names of the embeddings in its prompts.
    """

    width: int
    height: int
    request: Mapping[str, Any] | None
    embeddings: tuple[str, ...] = ()


Read = Callable[[Path], Indexed]
"""Reads a file's header and texts, not its pixels; raises `WebuiError` or `OSError`."""


@dataclass(frozen=True)
class _Found:
    """A file that is not in the index as it is."""

    folder: str
    name: str
    stamp: Stamp
    made: datetime = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "made", made_at(self.folder, self.name, self.stamp))


class HistorySync:
    """Goes through the folder whenever told to, in one thread that ends when it is done.

    Args:
        root: The pictures' folder, resolved.
        read: See `Read`; called outside of all locks.
        tidy: Called when all files have been gone through.
    """

    def __init__(
        self, root: Path, index: HistoryIndex, read: Read, tidy: Callable[[], None]
    ) -> None:
        self._root = root
        self._index = index
        self._read = read
        self._tidy = tidy
        self._known: dict[str, Folder] = {}
        self._generation = 0
        self._progress: tuple[int, int] | None = None
        self._lock = threading.Lock()
        self._putting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._again = False
        self._closed = threading.Event()

    @property
    def progress(self) -> tuple[int, int] | None:
        """Files read and files to read, (0, 0) while they are being looked for; None when idle."""
        is_at_work = self._thread is not None
        return self._progress or ((0, 0) if is_at_work else None)

    def start(self) -> None:
        """Goes through the folder, once more if that is being done already."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="history", daemon=True)
                self._thread.start()
            else:
                self._again = True

    def refresh(self, patience: float) -> None:
        """Starts only if a folder has changed, and waits at most `patience` seconds for the end."""
        if self._thread is not None or not self._index.is_there():
            return
        if self._generation != self._index.generation or is_stale(self._root, dict(self._known)):
            self.start()
            self.wait(patience)

    def wait(self, patience: float | None = None) -> bool:
        """Waits at most that many seconds for the thread's end; whether it has come."""
        with self._lock:
            thread = self._thread
        if thread is None:
            return True
        thread.join(patience)
        return not thread.is_alive()

    def close(self) -> None:
        """Ends after the picture that is being read."""
        self._closed.set()
        self.wait()

    def add(self, folder: str, name: str) -> Picture | None:
        """Reads one file at once; gives its row, or None when it is gone."""
        stamp = self._stamp(folder, name)
        row = None if stamp is None else self._entry(_Found(folder, name, stamp))
        if row is not None:
            with self._putting:
                self._index.put([row])
        return row

    def _stamp(self, folder: str, name: str) -> Stamp | None:
        try:
            stat = locate(self._root, folder, name).stat()
        except (NotFoundError, OSError):
            return None
        return Stamp(stat.st_mtime_ns, stat.st_size)

    def _work(self) -> None:
        try:
            while not self._closed.is_set():
                self._go_through()
                self._progress = None
                with self._lock:
                    if not self._again:
                        self._thread = None
                        return
                    self._again = False
        finally:
            with self._lock:
                if self._thread is threading.current_thread():
                    self._thread = None

    def _go_through(self) -> None:
        if not self._index.is_there():
            return
        generation = self._index.generation
        if generation != self._generation:
            self._known = {}
            self._progress = (0, 0)
        folders: dict[str, Folder] = {}
        fresh: list[_Found] = []
        gone: list[tuple[str, str]] = []
        for folder, files in changed_folders(self._root, self._known):
            folders[folder.path] = folder
            if files is not None:
                before = self._index.stamps(folder.path)
                gone += [(folder.path, name) for name in before if name not in files]
                fresh += [
                    _Found(folder.path, name, stamp)
                    for name, stamp in files.items()
                    if before.get(name) != stamp
                ]
        for path in self._index.folders() - folders.keys():
            gone += [(path, name) for name in self._index.stamps(path)]
        # A folder that vanished meanwhile takes nothing along: its pictures may come back.
        if not self._index.is_there() or self._index.generation != generation:
            return
        self._index.remove([place for place in gone if self._is_gone(*place)])
        changing: set[str] = set()
        if self._add(fresh, changing) and self._index.generation == generation:
            unsure = {path: replace(folders[path], mtime_ns=-1) for path in changing}
            self._known = folders | unsure
            self._generation = generation
            self._tidy()

    def _add(self, fresh: list[_Found], changing: set[str]) -> bool:
        """Reads the files, the newest first; whether it came to the end of them.

        The folders of files that changed while they were read are put into `changing`.
        """
        fresh.sort(key=lambda found: found.made, reverse=True)
        done = 0
        remaining = iter(fresh)
        while batch := list(itertools.islice(remaining, BATCH)):
            rows: list[Picture] = []
            for found in batch:
                if self._closed.is_set():
                    return False
                self._progress = (done, len(fresh))
                row = self._entry(found)
                if row is not None:
                    rows.append(row)
                done += 1
            # What `add` has read since is newer, and so stays.
            with self._putting:
                now = {row.id: self._stamp(row.folder, row.name) for row in rows}
                still = [row for row in rows if now[row.id] == (row.mtime_ns, row.size)]
                self._index.put(still)
            kept = {row.id for row in still}
            changing |= {row.folder for row in rows if row.id not in kept}
        return True

    def _is_gone(self, folder: str, name: str) -> bool:
        try:
            locate(self._root, folder, name)
        except NotFoundError:
            return True
        except OSError:
            return False
        return False

    def _entry(self, found: _Found) -> Picture | None:
        path = self._root / found.folder / found.name
        broken: str | None = None
        indexed = Indexed(0, 0, None)
        try:
            indexed = self._read(path)
        except WebuiError as error:
            broken = storable(error.message)
        except FileNotFoundError:
            return None
        except OSError as error:
            broken = f"{shown(found.name)} cannot be read: {error.strerror}."
        except Exception as error:  # noqa: BLE001  (one strange file must not hide all others)
            broken = f"{shown(found.name)} cannot be read ({type(error).__name__})."
        request = dict(indexed.request or {})
        settings = None if indexed.request is None else _settings(request)
        if indexed.request is not None and settings is None:
            request = {}
            broken = f"The recipe in {shown(found.name)} is too long or damaged."
        return Picture(
            id=picture_id(found.folder, found.name, found.stamp),
            folder=found.folder,
            name=found.name,
            mtime_ns=found.stamp.mtime_ns,
            size=found.stamp.size,
            made=found.made.isoformat(timespec="microseconds"),
            trashed=_trashed_at(path) if is_trashed(found.folder) else None,
            width=indexed.width,
            height=indexed.height,
            prompt=_text(request.get("prompt")),
            negative_prompt=_text(request.get("negative_prompt")),
            model=_text(request.get("model")),
            seed=_integer(request.get("seed")),
            embeddings=storable(json.dumps(indexed.embeddings)) if indexed.embeddings else None,
            broken=broken,
            settings=settings,
        )


def whole_request(picture: Picture) -> dict[str, Any] | None:
    """The recipe's request as it was read, put together from the columns; None without one."""
    if picture.settings is None:
        return None
    columns = {name: getattr(picture, name) for name in _OWN_COLUMNS}
    named = {name: value for name, value in columns.items() if value is not None}
    return named | json.loads(picture.settings)


def _settings(request: Mapping[str, Any]) -> str | None:
    """What of a request many pictures share, as JSON that SQLite can look into."""
    columns = {"seed": _integer(request.get("seed"))}
    columns |= {name: _text(request.get(name)) for name in ("prompt", "negative_prompt")}
    rest = {name: value for name, value in request.items() if columns.get(name) is None}
    try:
        text = json.dumps(rest, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return None
    return storable(text) if len(text) <= MAX_SETTINGS_CHARACTERS else None


def _text(value: object) -> str | None:
    return storable(value) if isinstance(value, str) else None


def _integer(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if abs(value) <= _MAX_INTEGER else None


def _trashed_at(path: Path) -> str:
    """When a file was moved into the trash: moving changes the inode's time, not the file's."""
    try:
        moved = datetime.fromtimestamp(os.lstat(path).st_ctime)
    except OSError:
        moved = datetime.now()
    return moved.isoformat(timespec="microseconds")
