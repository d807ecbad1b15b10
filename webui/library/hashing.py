"""Computes the hashes of a catalogue's files in the background, one file at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from webui.errors import StorageError
from webui.library.background import be_modest
from webui.library.catalogue import Card, Catalogue
from webui.library.facts_cache import stamp_of
from webui.library.hashes import HashBook
from webui.library.weight_files import weights_in

_LOOK_AGAIN_SECONDS = 0.5


@dataclass(frozen=True)
class _Task:
    path: Path
    starts: tuple[int, ...]
    size: int
    stamp: str


class _StoppedError(Exception):
    """The reading was told to end."""


class BackgroundHasher:
    """Fills the book of hashes, the smallest files first.

    A file that goes, changes or cannot be read while it is its turn is left out until it changes.
    """

    def __init__(
        self, catalogue: Catalogue, hashes: HashBook, *, busy: Callable[[], bool] = lambda: False
    ) -> None:
        """While `busy`, nothing is read, so that a picture does not wait for the disk."""
        self._catalogue = catalogue
        self._hashes = hashes
        self._busy = busy
        self._wanted = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._given_up: set[tuple[Path, str]] = set()
        self._left = 0

    @property
    def left(self) -> int:
        """Files still to be read, the one that is being read among them; 0 at rest."""
        return self._left

    def start(self) -> None:
        """Begins, or looks for new files when it has begun before."""
        # There may be some: how many is known after a look.
        self._left = self._left or 1
        self._wanted.set()
        if self._thread is None or not self._thread.is_alive():
            self._stopping.clear()
            self._thread = threading.Thread(target=self._run, name="hashes", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Ends soon, in the middle of a file too; returns when it has ended."""
        self._stopping.set()
        self._wanted.set()
        if self._thread is not None:
            self._thread.join()
        self._left = 0

    def _run(self) -> None:
        be_modest()
        while not self._stopping.is_set():
            self._wanted.wait()
            self._wanted.clear()
            while tasks := self._tasks():
                self._left = len(tasks)
                self._read(tasks[0])
            self._left = 0

    def _tasks(self) -> list[_Task]:
        """Files without a hash, the smallest first; none once it is told to end."""
        if self._stopping.is_set():
            return []
        tasks = [task for card in self._catalogue.cards() for task in self._tasks_of(card)]
        wanted = [task for task in tasks if (task.path, task.stamp) not in self._given_up]
        return sorted(wanted, key=lambda task: task.size)

    def _tasks_of(self, card: Card) -> list[_Task]:
        whole = card.data_start == 0 or card.auto_v3 is not None
        if card.sha256 is not None and whole:
            return []
        folder = weights_in(card.path) if card.path.is_dir() else None
        starts = (0, card.data_start) if card.data_start else (0,)
        tasks: list[_Task] = []
        for path in [card.path] if folder is None else folder:
            try:
                found = path.stat()
                if folder is None or self._hashes.known(path) is None:
                    tasks.append(_Task(path, starts, found.st_size, stamp_of(found)))
            except OSError:
                continue
        return tasks

    def _read(self, task: _Task) -> None:
        def step(_: int) -> None:
            while self._busy() and not self._stopping.is_set():
                self._stopping.wait(_LOOK_AGAIN_SECONDS)
            if self._stopping.is_set():
                raise _StoppedError

        try:
            step(0)
            self._hashes.digests(task.path, task.starts, step)
        except _StoppedError:
            return
        except (OSError, StorageError):
            self._given_up.add((task.path, task.stamp))
            return
        if self._hashes.known(task.path) is None:
            self._given_up.add((task.path, task.stamp))
