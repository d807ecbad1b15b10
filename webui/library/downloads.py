"""Downloads: one after the other, each to be paused, gone on with and given up; kept on disk."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from webui.errors import BadRequestError, NotFoundError, WebuiError
from webui.library.download_list import FILE, Download, KeptList, State
from webui.library.fetches import Fetch
from webui.library.findings import Found
from webui.library.kinds import Places
from webui.library.meters import Meter
from webui.library.outward import Outward
from webui.library.transfers import HaltedError, check_space, free_bytes
from webui.library.unfinished import delete_parts

MOST_DOWNLOADS = 50
"""In the list at the same time, those that are done included."""


class Downloads:
    """The list of downloads and the thread that works it off.

    Everything may be called from any thread. What another run of Easel left unfinished is in the
    list as paused: nothing is asked of the network before somebody says so.

    Args:
        places: Folders by kind.
        state: Folder the list is kept in.
        finished: Told of everything that has got its name, and the path.
        free: Free bytes on the disk of a folder.
    """

    def __init__(
        self,
        outward: Outward,
        places: Places,
        state: Path,
        *,
        finished: Callable[[Found, Path], None] = lambda _found, _path: None,
        free: Callable[[Path], int] = free_bytes,
    ) -> None:
        self._outward = outward
        self._places = places
        self._kept = KeptList(state)
        self._lock_file = FileLock(state / f"{FILE}.lock")
        self._finished = finished
        self._free = free
        self._changed = threading.Condition()
        self._halt = threading.Event()
        self._closed = False
        self._worker: threading.Thread | None = None
        self._running: str | None = None
        self._list = {one.id: one for one in self._kept.read()}
        self._meter = Meter()

    def all(self) -> tuple[Download, ...]:
        """All downloads, in the order they were asked for."""
        with self._changed:
            rate = self._meter.rate()
            return tuple(
                replace(one, rate=rate) if one.id == self._running else one
                for one in self._list.values()
            )

    def place_of(self, found: Found) -> Path:
        """The path it will have."""
        return self._places.of(found.kind) / found.name

    def add(self, found: Found) -> Download:
        """Puts something at the end of the queue.

        Raises:
            BadRequestError: It is there already, or being fetched, or there are too many.
            StorageError: There is no room for it.
        """
        final = self.place_of(found)
        with self._changed:
            self._forget_done()
            if final.exists():
                raise BadRequestError(f"There is already a {found.name} in {final.parent}.")
            open_ones = [one for one in self._list.values() if one.state != "done"]
            if any(self.place_of(one.found) == final for one in open_ones):
                raise BadRequestError(f"{found.name} is in the list of downloads already.")
            if len(self._list) >= MOST_DOWNLOADS:
                raise BadRequestError("There are too many downloads: let some of them finish.")
            to_come = sum(one.found.size - one.received for one in open_ones)
            check_space(final.parent, found.size + to_come, self._free)
            download = Download(secrets.token_hex(8), found)
            self._put(download)
            self._start()
        return download

    def pause(self, id: str) -> Download:
        """Stops it for now; what has come stays.

        Raises:
            NotFoundError: There is no such download.
        """
        with self._changed:
            download = self._get(id)
            if download.state in ("queued", "running", "checking"):
                download = self._put(replace(download, state="paused", said=None))
                self._halt_if_running(id)
            return download

    def resume(self, id: str) -> Download:
        """Lets one go on that is paused or has failed.

        Raises:
            NotFoundError: There is no such download.
        """
        with self._changed:
            download = self._get(id)
            if download.state in ("paused", "failed"):
                download = self._put(replace(download, state="queued", said=None))
                self._start()
            return download

    def remove(self, id: str) -> None:
        """Gives one up: what has come of it is deleted. One that is done only leaves the list.

        Raises:
            NotFoundError: There is no such download.
        """
        with self._changed:
            download = self._get(id)
            del self._list[id]
            self._halt_if_running(id)
            # Its thread may still be writing; it removes the rest itself when it notices.
            if download.state != "done" and self._running != id:
                delete_parts(self.place_of(download.found))
            self._kept.keep(self._list.values())

    def close(self) -> None:
        """Ends the work; what is running goes on when Easel runs again and is told to."""
        with self._changed:
            self._closed = True
            self._halt.set()
            self._changed.notify_all()
            worker = self._worker
        if worker is not None:
            worker.join(timeout=2)

    def wait(self, seconds: float) -> bool:
        """Waits at most that long until nothing is queued or running; whether it is so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._is_busy(), seconds)

    def _is_busy(self) -> bool:
        states = {one.state for one in self._list.values()}
        return self._running is not None or bool(states & {"queued", "running", "checking"})

    def _start(self) -> None:
        if self._worker is None or not self._worker.is_alive():
            self._worker = threading.Thread(target=self._work, name="downloads", daemon=True)
            self._worker.start()
        self._changed.notify_all()

    def _work(self) -> None:
        """Takes one download after the other until there is none."""
        while True:
            with self._changed:
                queued = (one for one in self._list.values() if one.state == "queued")
                download = None if self._closed else next(queued, None)
                if download is None:
                    self._worker = None
                    self._changed.notify_all()
                    return
                self._running = download.id
                self._halt.clear()
                self._meter = Meter()
                self._put(replace(download, state="running"))
            try:
                outcome = self._run_alone(download)
            finally:
                with self._changed:
                    self._running = None
            self._settle(download.id, outcome, download)

    def _run_alone(self, download: Download) -> str | None:
        """Runs one while no other Easel does; gives what went wrong, "" for being halted."""
        try:
            with self._lock_file.acquire(blocking=False):
                self._run(download)
        except Timeout:
            return "Another Easel is downloading with the same settings: end it first."
        except HaltedError:
            return ""
        except WebuiError as error:
            return error.message
        except OSError as error:
            return f"It cannot be written: {error.strerror}."
        return None

    def _settle(self, id: str, outcome: str | None, download: Download) -> None:
        with self._changed:
            known = self._list.get(id)
            if known is None:
                delete_parts(self.place_of(download.found))
            elif outcome is None:
                self._put(replace(known, state="done", said=None, received=known.found.size))
            elif outcome:
                self._put(replace(known, state="failed", said=outcome))
            elif known.state == "running":
                self._put(replace(known, state="paused"))
            self._changed.notify_all()

    def _run(self, download: Download) -> None:
        final = self.place_of(download.found)
        note = partial(self._change, download.id)
        Fetch(download, final, self._outward, self._halt, note, self._meter, self._free).run()
        self._finished(download.found, final)

    def _change(
        self,
        id: str,
        *,
        received: int | None = None,
        state: State | None = None,
        said: str | None = "",
        tags: tuple[tuple[str, str], ...] | None = None,
        keep: bool = False,
    ) -> None:
        """Notes how the running one is doing; one that was paused or given up stays so."""
        with self._changed:
            known = self._list.get(id)
            if known is None:
                return
            running = known.state in ("running", "checking")
            self._list[id] = replace(
                known,
                received=known.received if received is None else received,
                state=state if state and running else known.state,
                said=known.said if said == "" else said,
                tags=known.tags if tags is None else tags,
            )
            if keep:
                self._kept.keep(self._list.values())

    def _put(self, download: Download) -> Download:
        self._list[download.id] = download
        self._kept.keep(self._list.values())
        return download

    def _get(self, id: str) -> Download:
        if id not in self._list:
            raise NotFoundError("This download is not in the list any more.")
        return self._list[id]

    def _halt_if_running(self, id: str) -> None:
        if self._running == id:
            self._halt.set()

    def _forget_done(self) -> None:
        if len(self._list) >= MOST_DOWNLOADS:
            self._list = {id: one for id, one in self._list.items() if one.state != "done"}
