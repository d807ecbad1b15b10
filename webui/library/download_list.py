"""What is being fetched or was, and the file in which that is kept."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError

from webui.errors import StorageError
from webui.library.files import PRIVATE, write_atomically
from webui.library.findings import Found

FILE = "downloads.json"

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


class KeptList:
    """The list on disk; what is done is not kept."""

    def __init__(self, state: Path) -> None:
        """`state` is the folder it lies in."""
        self._file = state / FILE

    def keep(self, downloads: Iterable[Download]) -> None:
        """Writes the list."""
        # Without the list nothing is lost but the begins of files, which are fetched again.
        with suppress(StorageError):
            open_ones = tuple(one for one in downloads if one.state != "done")
            write_atomically(self._file, _KEPT.dump_json(open_ones), mode=PRIVATE)

    def read(self) -> tuple[Download, ...]:
        """The list as another run left it: what was under way is paused."""
        try:
            kept = _KEPT.validate_json(self._file.read_bytes())
        except (OSError, ValidationError):
            return ()
        return tuple(
            replace(one, state="failed" if one.state == "failed" else "paused", rate=0.0)
            for one in kept
        )
