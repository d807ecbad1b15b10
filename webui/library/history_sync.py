"""Keeps the index of saved pictures as the files are, in the background."""

from __future__ import annotations

import itertools
import json
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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

_MAX_INTEGER = 2**63 - 1
"""SQLite's largest."""


@dataclass(frozen=True)
class Indexed:
    """What a picture's file says of itself.

    Attributes:
        width, height: In pixels.
        request: The recipe's request, only the fields that the file names; None without a recipe.
    """

    width: int
    height: int
    request: Mapping[str, Any] | None


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
        self._thread: threading.Thread | None = None
        self._again = False
        self._closed = threading.Event()

    @property
    def progress(self) -> tuple[int, int] | None:
        """Files read and files to read, (0, 0) while they are being looked for; None when idle."""
        return self._progress

    def start(self) -> threading.Thread:
        """Goes through the folder, once more if that is being done already."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="history", daemon=True)
                self._thread.start()
            else:
                self._again = True
            return self._thread

    def refresh(self, patience: float) -> None:
        """Starts only if a folder has changed, and waits at most `patience` seconds for the end."""
        if self._thread is not None or not self._index.is_there():
            return
        if self._generation != self._index.generation or is_stale(self._root, dict(self._known)):
            self.start().join(patience)

    def close(self) -> None:
        """Ends after the picture that is being read."""
        self._closed.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def entry(self, folder: str, name: str) -> Picture | None:
        """A file's row, freshly read; None when it is gone."""
        try:
            stat = locate(self._root, folder, name).stat()
        except (NotFoundError, OSError):
            return None
        return self._entry(_Found(folder, name, Stamp(stat.st_mtime_ns, stat.st_size)))

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
        if self._add(fresh) and self._index.generation == generation:
            self._known = folders
            self._generation = generation
            self._tidy()

    def _add(self, fresh: list[_Found]) -> bool:
        """Reads the files, the newest first; whether it came to the end of them."""
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
            self._index.put(rows)
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
            settings=settings,
            broken=broken,
        )


def whole_request(picture: Picture) -> dict[str, Any] | None:
    """The recipe's request as it was read, put together from the columns; None without one."""
    if picture.settings is None:
        return None
    prompts = {"prompt": picture.prompt, "negative_prompt": picture.negative_prompt}
    named = {key: text for key, text in prompts.items() if text is not None}
    return named | json.loads(picture.settings)


def _settings(request: Mapping[str, Any]) -> str | None:
    """The request without its prompts, which have columns, as JSON that SQLite can search."""
    rest = {k: v for k, v in request.items() if k not in ("prompt", "negative_prompt")}
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
