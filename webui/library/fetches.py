"""A download from its first file to its last, put in its place when all of it is there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from webui.library.download_list import Download, State
from webui.library.findings import RemoteFile
from webui.library.meters import Meter
from webui.library.outward import Outward
from webui.library.transfers import Surroundings, Transfer, put_in_place
from webui.library.unfinished import file_part, folder_part, is_whole


class Note(Protocol):
    """Is told how a download is doing."""

    def __call__(
        self,
        *,
        received: int | None = None,
        state: State | None = None,
        said: str | None = "",
        tags: tuple[tuple[str, str], ...] | None = None,
        keep: bool = False,
    ) -> None:
        """What is given has changed; with `keep` the next run of Easel is to know it as well."""
        ...


@dataclass(frozen=True)
class Fetch:
    """Fetches a download.

    Attributes:
        final: The path it will have.
        halt: Set when it is to stop.
        free: Free bytes on the disk of a folder.
    """

    download: Download
    final: Path
    outward: Outward
    halt: threading.Event
    note: Note
    meter: Meter
    free: Callable[[Path], int]

    def run(self) -> None:
        """Fetches what is missing of each file, then gives the whole its name.

        Raises:
            HaltedError: It was to stop; what is there stays.
            FetchError: A server does not give a file, or it is not what was said.
            StorageError: The disk is full or cannot be written; what is there stays.
        """
        found, final = self.download.found, self.final
        tags = dict(self.download.tags)
        before = 0
        for file in found.files:
            whole = folder_part(final) / file.path if found.is_folder else None
            if whole is None or not is_whole(whole, file.size):
                part = file_part(whole or final)
                self._transfer(file, part, tags, before)
                if whole is not None:
                    put_in_place(part, whole)
            before += file.size
        put_in_place(folder_part(final) if found.is_folder else file_part(final), final)

    def _transfer(self, file: RemoteFile, part: Path, tags: dict[str, str], before: int) -> None:
        """Fetches one file; `before` are the bytes of those before it."""

        def keep_tag(tag: str) -> None:
            tags[file.path] = tag
            self.note(tags=tuple(sorted(tags.items())), keep=True)

        def report(received: int) -> None:
            self.meter.note(before + received)
            if received == file.size:
                self.note(received=before + received, state="checking")
            else:
                self.note(received=before + received, state="running", said=None)

        def wait(seconds: float, why: str) -> None:
            self.note(said=why)
            self.halt.wait(seconds)

        around = Surroundings(self.outward, report, self.halt.is_set, wait, self.free)
        self.note(received=before, state="running")
        Transfer(file, part, tags.get(file.path, ""), keep_tag, around).run()
