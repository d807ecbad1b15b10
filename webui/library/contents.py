"""Content hashes of models, computed beside their use: nothing waits for them but who needs one."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path

from webui.errors import BrokenFileError
from webui.library.background import be_modest
from webui.library.facts_cache import stamp_of
from webui.library.hashes import HashBook

_PATIENCE = 5.0
"""Seconds that who needs a hash waits for the reading in the background."""


class Content:
    """The content hash of a model's weights, read in the background from `begin` on.

    Safe to use from several threads.
    """

    def __init__(
        self,
        weights: Mapping[Path, str],
        folder: Path | None,
        hashes: HashBook,
        turn: threading.Lock,
    ) -> None:
        """
        Args:
            weights: The files, each with its stamp when the model was found.
            folder: What they lie in, if that is a folder in the diffusers layout.
            turn: Held while files are read, so that models are read one after the other.
        """
        self._weights = weights
        self._folder = folder
        self._hashes = hashes
        self._turn = turn
        self._lock = threading.Lock()
        self._reading: Future[str] | None = None

    @property
    def size(self) -> int:
        """Bytes of all the files."""
        return sum(int(stamp.partition(":")[0]) for stamp in self._weights.values())

    @property
    def known(self) -> str | None:
        """The hash as far as it is known without waiting."""
        try:
            digests = {file: self._hashes.known(file) for file in self._weights}
        except OSError:
            return None
        found = {file: digest for file, digest in digests.items() if digest is not None}
        return digest_of(found, self._folder) if len(found) == len(digests) else None

    @property
    def is_being_read(self) -> bool:
        """Whether somebody may be waiting for it."""
        return self._reading is not None and not self._reading.done()

    def begin(self) -> None:
        """Has it computed in the background, unless it is known."""
        self._begun()

    @property
    def sha256(self) -> str:
        """Hex digest of the single file, of a folder over the weight files' names and digests.

        Waits until it has been computed.

        Raises:
            BrokenFileError: A file cannot be read, or is no longer the one that was found.
        """
        reading = self._begun()
        try:
            return reading.result(_PATIENCE)
        except TimeoutError:
            # Other programs may keep the one in the background from the processor for long.
            return self._read()

    def _begun(self) -> Future[str]:
        with self._lock:
            if self._reading is None:
                self._reading = Future()
                known = self.known
                if known is not None:
                    self._reading.set_result(known)
                else:
                    # A daemon: whoever ends the process is not kept waiting by it.
                    threading.Thread(
                        target=self._run, args=(self._reading,), name="content", daemon=True
                    ).start()
            return self._reading

    def _run(self, reading: Future[str]) -> None:
        be_modest()
        try:
            with self._turn:
                reading.set_result(self._read())
        except Exception as error:  # noqa: BLE001 - it is raised where the hash is wanted
            reading.set_exception(error)

    def _read(self) -> str:
        digests: dict[Path, str] = {}
        for file, stamp in self._weights.items():
            try:
                digests[file] = self._hashes.sha256(file)
                is_same = stamp_of(file.stat()) == stamp
            except OSError as error:
                raise BrokenFileError(f"{file.name} cannot be read: {error.strerror}.") from None
            if not is_same:
                raise BrokenFileError(f"{file.name} was exchanged while it was in use: try again.")
        return digest_of(digests, self._folder)


class Contents:
    """Hands out the contents of models; one that is being read is read only once."""

    def __init__(self, hashes: HashBook) -> None:
        self._hashes = hashes
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._under_way: dict[str, Content] = {}

    def of(self, key: str, weights: Mapping[Path, str], folder: Path | None) -> Content:
        """The content of the model that `key` stands for, the rest as for `Content`."""
        with self._lock:
            kept = {k: content for k, content in self._under_way.items() if content.is_being_read}
            content = kept.get(key) or Content(weights, folder, self._hashes, self._turn)
            self._under_way = kept | {key: content}
            return content


def digest_of(weights: Mapping[Path, str], folder: Path | None) -> str:
    """The digest of the only file, or one over the names and digests of all files of a folder."""
    if folder is None:
        (digest,) = weights.values()
        return digest
    names = hashlib.sha256()
    for file, sha256 in weights.items():
        names.update(f"{file.relative_to(folder).as_posix()} {sha256}\n".encode())
    return names.hexdigest()
