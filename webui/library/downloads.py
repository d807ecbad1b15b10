"""Downloads: one after the other, each to be paused, gone on with and given up; kept on disk."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from webui.errors import BadRequestError, NotFoundError, StorageError, WebuiError
from webui.library.files import PRIVATE, write_atomically
from webui.library.kinds import Places
from webui.library.offers import Found, RemoteFile
from webui.library.outward import Outward
from webui.library.transfers import (
    PART,
    HaltedError,
    Surroundings,
    Transfer,
    check_space,
    free_bytes,
    put_in_place,
)

FILE = "downloads.json"

MOST_DOWNLOADS = 50
"""In the list at the same time, those that are done included."""

RATE_SECONDS = 5.0
"""Over how long the speed is taken."""

_NOTE_SECONDS = 0.25

State = Literal["queued", "running", "checking", "paused", "failed", "done"]


@dataclass(frozen=True)
class Download:
    """Something that is being fetched, or was.

    Attributes:
        found: What it is.
        state: "failed" and "paused" go on when they are told to.
        said: Why it failed, or what it is waiting for; one sentence.
        received: Bytes that are here.
        rate: Bytes a second just now; 0 when nothing comes.
        tags: What servers call the versions of files that are here in part, by path.
    """

    id: str
    found: Found
    state: State = "queued"
    said: str | None = None
    received: int = 0
    rate: float = field(default=0.0, compare=False)
    tags: tuple[tuple[str, str], ...] = ()

    @property
    def host(self) -> str:
        """Where it comes from; the rest of the address may hold a secret."""
        return urlsplit(self.found.files[0].address).hostname or ""


_KEPT = TypeAdapter(tuple[Download, ...])


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
        self._file = state / FILE
        self._lock_file = FileLock(state / f"{FILE}.lock")
        self._finished = finished
        self._free = free
        self._changed = threading.Condition()
        self._halt = threading.Event()
        self._closed = False
        self._worker: threading.Thread | None = None
        self._running: str | None = None
        self._list = {one.id: one for one in self._read()}
        self._meter = _Meter()

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
                self._delete_parts(download)
            self._keep()

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
                self._meter = _Meter()
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
                self._delete_parts(download)
            elif outcome is None:
                self._put(replace(known, state="done", said=None, received=known.found.size))
            elif outcome:
                self._put(replace(known, state="failed", said=outcome))
            elif known.state == "running":
                self._put(replace(known, state="paused"))
            self._changed.notify_all()

    def _run(self, download: Download) -> None:
        found = download.found
        final = self.place_of(found)
        tags = dict(download.tags)
        before = 0
        for file in found.files:
            whole = _folder_part(final) / file.path if found.is_folder else None
            if whole is not None and _is_whole(whole, file):
                before += file.size
                continue
            part = Path(f"{whole or final}{PART}")
            self._transfer(download.id, file, part, tags, before)
            if whole is not None:
                put_in_place(part, whole)
            before += file.size
        put_in_place(_folder_part(final) if found.is_folder else Path(f"{final}{PART}"), final)
        self._finished(found, final)

    def _transfer(
        self, id: str, file: RemoteFile, part: Path, tags: dict[str, str], before: int
    ) -> None:
        def keep_tag(tag: str) -> None:
            tags[file.path] = tag
            self._change(id, tags=tuple(sorted(tags.items())), keep=True)

        def report(received: int) -> None:
            self._meter.note(before + received)
            if received == file.size:
                self._change(id, received=before + received, state="checking")
            else:
                self._change(id, received=before + received, state="running", said=None)

        def wait(seconds: float, why: str) -> None:
            self._change(id, said=why)
            self._halt.wait(seconds)

        around = Surroundings(self._outward, report, self._halt.is_set, wait, self._free)
        self._change(id, received=before, state="running")
        Transfer(file, part, tags.get(file.path, ""), keep_tag, around).run()

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
                self._keep()

    def _put(self, download: Download) -> Download:
        self._list[download.id] = download
        self._keep()
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

    def _delete_parts(self, download: Download) -> None:
        final = self.place_of(download.found)
        shutil.rmtree(_folder_part(final), ignore_errors=True)
        with suppress(OSError):
            Path(f"{final}{PART}").unlink(missing_ok=True)

    def _keep(self) -> None:
        # Without the list nothing is lost but the begins of files, which are fetched again.
        with suppress(StorageError):
            open_ones = tuple(one for one in self._list.values() if one.state != "done")
            write_atomically(self._file, _KEPT.dump_json(open_ones), mode=PRIVATE)

    def _read(self) -> tuple[Download, ...]:
        try:
            kept = _KEPT.validate_json(self._file.read_bytes())
        except (OSError, ValidationError):
            return ()
        return tuple(
            replace(one, state="failed" if one.state == "failed" else "paused", rate=0.0)
            for one in kept
        )


class _Meter:
    """How fast bytes come, over the last seconds."""

    def __init__(self) -> None:
        self._noted: deque[tuple[float, int]] = deque()

    def note(self, received: int) -> None:
        now = time.monotonic()
        if not self._noted or now - self._noted[-1][0] >= _NOTE_SECONDS:
            self._noted.append((now, received))
        while now - self._noted[0][0] > RATE_SECONDS:
            self._noted.popleft()

    def rate(self) -> float:
        noted = tuple(self._noted)
        if len(noted) < 2 or time.monotonic() - noted[-1][0] > RATE_SECONDS:
            return 0.0
        (begin, before), (end, after) = noted[0], noted[-1]
        return max(0.0, (after - before) / (end - begin))


def _folder_part(final: Path) -> Path:
    """Where a folder grows: hidden, so that nobody takes it for a model."""
    return final.with_name(f".{final.name}{PART}")


def _is_whole(path: Path, file: RemoteFile) -> bool:
    # A file gets its name in there only after it has been looked over.
    return path.is_file() and path.stat().st_size == file.size
