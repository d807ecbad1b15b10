"""One file, fetched to its end: taken up where it was left, named only when it is whole.

huggingface_hub's downloader is not used: it takes up a file without asking whether it is still the
same (no If-Range), compares sizes and no checksums, follows redirects to wherever they lead, looks
into no file, and large files of the hub it leaves to a second library with connections of its own.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from webui.errors import BrokenFileError, StorageError
from webui.library.far_ends import host_of
from webui.library.fetch_errors import CutError, FetchError
from webui.library.findings import RemoteFile
from webui.library.headers import is_safetensors, read_header
from webui.library.outward import Answer, Outward, check_status
from webui.library.probing import range_of, refuse_pickle

RESERVE_BYTES = 512 * 1024**2
"""What is left free on the disk: systems without any room misbehave."""

MOST_TRIES = 6
"""How often in a row nothing may come before it is given up."""

_LONGEST_WAIT = 60.0
_CHECKED_AT_ONCE = 8 * 1024**2


class HaltedError(Exception):
    """Somebody asked for a pause; what has come so far stays."""


class _ChangedError(Exception):
    """The file is another one than the one whose begin is here."""


@dataclass(frozen=True)
class Surroundings:
    """What a transfer needs from outside.

    Attributes:
        report: Told the bytes that are here, whenever some have come.
        halted: Whether to stop.
        wait: Waits that many seconds for better times, told why; ends early when halted.
        free: Free bytes on the disk of a folder.
    """

    outward: Outward
    report: Callable[[int], None]
    halted: Callable[[], bool]
    wait: Callable[[float, str], None]
    free: Callable[[Path], int]


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk of a folder, which need not be there yet."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    return shutil.disk_usage(there).free


def check_space(folder: Path, needed: int, free: Callable[[Path], int]) -> None:
    """Refuses what does not fit.

    Args:
        needed: In bytes.

    Raises:
        StorageError: There is not so much room.
    """
    room = free(folder) - RESERVE_BYTES
    if needed > room:
        raise StorageError(
            f"{needed / 1e9:.1f} GB are to come, and {max(room, 0) / 1e9:.1f} GB can be used on"
            f" the disk of {folder}: free some space."
        )


class Transfer:
    """Brings one file to `part`, whole and looked at.

    Args:
        part: Where it grows; what is there already is its begin.
        tag: What the server called the version that the begin is of; empty when it is not known.
        keep_tag: Told of a new one before anything of that version is kept.
    """

    def __init__(
        self,
        file: RemoteFile,
        part: Path,
        tag: str,
        keep_tag: Callable[[str], None],
        around: Surroundings,
    ) -> None:
        self._file = file
        self._part = part
        self._tag = tag
        self._keep_tag = keep_tag
        self._around = around

    def run(self) -> None:
        """Fetches what is missing, then looks at the whole.

        Raises:
            HaltedError: It was to stop; what is there stays.
            FetchError: The server does not give it, or it is not what was said; what cannot be
                part of it is removed.
            StorageError: The disk is full or cannot be written; what is there stays.
        """
        try:
            self._fetch()
            self._look_over()
        except OSError as error:
            raise StorageError(_sentence(self._part, error)) from None

    def _fetch(self) -> None:
        tries = 0
        while self._size() != self._file.size:
            before = self._size()
            try:
                self._go_on()
            except _ChangedError:
                self._begin_anew("")
                tries += 1
                if tries >= MOST_TRIES:
                    raise FetchError("The server sends parts that do not fit together.") from None
            except CutError as error:
                tries = 1 if self._size() > before else tries + 1
                if tries >= MOST_TRIES:
                    raise
                self._around.wait(min(error.wait or 2.0**tries, _LONGEST_WAIT), error.message)
            self._check_halt()

    def _go_on(self) -> None:
        """Asks for what is missing, once."""
        have = self._size()
        if have > self._file.size or (have and not self._tag and not self._file.sha256):
            self._begin_anew("")
            have = 0
        asked: dict[str, str] = {}
        if have:
            asked["range"] = f"bytes={have}-"
            if self._tag:
                asked["if-range"] = self._tag
        check_space(self._part.parent, self._file.size - have, self._around.free)
        with self._around.outward.get(self._file.address, asked) as answer:
            if have and answer.status == 416:
                raise _ChangedError
            token = self._around.outward.has_token(host_of(self._file.address))
            check_status(answer, has_token=token)
            self._take(answer, have)

    def _take(self, answer: Answer, have: int) -> None:
        tag = _tag_of(answer)
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise FetchError("The server sends the file packed, which was not asked for.")
        if answer.status == 206:
            begin, whole = range_of(answer.headers) or (-1, None)
            if begin != have or whole not in (None, self._file.size):
                raise _ChangedError
            if self._tag and tag and tag != self._tag:
                raise _ChangedError
        else:
            length = answer.headers.get("content-length", "")
            if length.isdecimal() and int(length) != self._file.size:
                raise FetchError(
                    "The file has changed on the server, or it lies about its size: look at it"
                    " again."
                )
            self._begin_anew(tag)
            have = 0
        with self._part.open("ab") as file:
            for piece in answer.pieces():
                if have + len(piece) > self._file.size:
                    self._begin_anew("")
                    raise FetchError("The server sends more than the file is long: it was stopped.")
                if not have:
                    self._refuse_at_once(piece)
                file.write(piece)
                have += len(piece)
                self._around.report(have)
                self._check_halt()
        if have < self._file.size:
            raise CutError("The server broke the connection off.")

    def _refuse_at_once(self, begin: bytes) -> None:
        if self._is_weights() and len(begin) >= 8:
            refuse_pickle(self._file.path, begin[:8])

    def _look_over(self) -> None:
        """Compares the checksum, and looks into the file; what fails is removed."""
        try:
            self._compare()
            if self._is_weights() and read_header(self._part).data_end != self._file.size:
                raise FetchError(f"{self._file.path} is not what its header says: it was removed.")
            if self._file.path.endswith(".json"):
                json.loads(self._part.read_bytes())
        except (FetchError, BrokenFileError):
            self._part.unlink(missing_ok=True)
            raise
        except (ValueError, RecursionError):
            self._part.unlink(missing_ok=True)
            raise FetchError(f"{self._file.path} is damaged on the server.") from None

    def _compare(self) -> None:
        if self._file.sha256 is None:
            return
        digest = hashlib.sha256()
        with self._part.open("rb") as file:
            while piece := file.read(_CHECKED_AT_ONCE):
                digest.update(piece)
                self._check_halt()
        if digest.hexdigest() != self._file.sha256:
            raise FetchError(
                f"{self._file.path} does not have the checksum that its publisher tells: it was"
                " removed."
            )

    def _is_weights(self) -> bool:
        return is_safetensors(self._file.path)

    def _begin_anew(self, tag: str) -> None:
        self._part.unlink(missing_ok=True)
        self._tag = tag
        self._keep_tag(tag)
        self._part.parent.mkdir(parents=True, exist_ok=True)
        self._around.report(0)

    def _check_halt(self) -> None:
        if self._around.halted():
            raise HaltedError

    def _size(self) -> int:
        try:
            return self._part.stat().st_size
        except FileNotFoundError:
            return 0


def put_in_place(part: Path, final: Path) -> None:
    """Gives what is whole its name, which nothing else has.

    Raises:
        StorageError: Something has the name, or it cannot be given.
    """
    try:
        if final.exists():
            raise StorageError(f"There is already a {final.name} in {final.parent}: rename it.")
        if part.is_file():
            with part.open("rb") as file:
                os.fsync(file.fileno())
        os.rename(part, final)
    except OSError as error:
        raise StorageError(_sentence(final, error)) from None


def _tag_of(answer: Answer) -> str:
    """What names this version of the file for If-Range: a strong ETag, else a date."""
    tag = answer.headers.get("etag", "")
    if tag and not tag.startswith("W/"):
        return tag
    return answer.headers.get("last-modified", "")


def _sentence(path: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk of {path.parent} is full: free some space, then let it go on."
    return f"{path.name} cannot be written in {path.parent}: {error.strerror}."
