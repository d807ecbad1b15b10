"""All saved pictures: found by what is known of them, shown small, thrown away and taken back."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from webui.errors import BadRequestError, BrokenFileError, NotFoundError, WebuiError
from webui.library.history_index import HistoryIndex, Page, Picture, Use, UsedAs
from webui.library.history_query import HistoryQuery
from webui.library.history_sync import HistorySync, Read, whole_request
from webui.library.picture_files import Stamp, locate, picture_id, shown
from webui.library.thumbnails import Thumbnails
from webui.library.trash import Trash

PATIENCE_SECONDS = 0.15
"""How long a search waits for files that have just appeared, before it answers without them."""


@dataclass(frozen=True)
class Outcome:
    """What became of a selection.

    Attributes:
        done: Ids of the pictures for which it was done.
        problems: A sentence for each of the others.
    """

    done: tuple[str, ...]
    problems: tuple[str, ...]


class History:
    """The pictures under a folder, by an index beside them that is made from the files.

    Pictures are named by ids alone: no path comes from a caller, but for `add`. Everything may be
    called from any thread.

    Args:
        folder: The pictures' folder; it need not be there, or writable.
        read: Reads a file's size and recipe (`webui.library.history_sync.Read`).
    """

    def __init__(self, folder: Path, read: Read) -> None:
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
        self._root = folder.resolve()
        self._index = HistoryIndex(self._root)
        self._thumbnails = Thumbnails(self._root / ".thumbnails")
        self._trash = Trash(self._root)
        self._moving = threading.Lock()
        self._sync = HistorySync(self._root, self._index, read, self._tidy)

    @property
    def folder(self) -> Path:
        """The pictures' folder, absolute."""
        return self._root

    @property
    def progress(self) -> tuple[int, int] | None:
        """Files read and files to read while the index is being made; None when it is done."""
        return self._sync.progress

    @property
    def notice(self) -> str | None:
        """One sentence when the folder is not there or the index cannot be kept."""
        return self._index.notice

    def start(self) -> None:
        """Brings the index up to date in the background."""
        self._sync.start()

    def wait(self, seconds: float) -> bool:
        """Waits at most that long until the background work is done; whether it is."""
        return self._sync.wait(seconds)

    def refresh(self) -> None:
        """Picks up what others have added or removed, if anything; waits a moment for it."""
        self._sync.refresh(PATIENCE_SECONDS)

    def close(self) -> None:
        """Ends the background work; nothing else may be called after that."""
        self._sync.close()
        self._index.close()

    def add(self, path: Path) -> str | None:
        """Indexes one freshly saved picture and makes its thumbnail; gives its id.

        None when the file is gone already. A damaged file is indexed as such.

        Raises:
            BadRequestError: It is not in the pictures' folder.
        """
        picture = self._sync.add(*self._place(path))
        if picture is None:
            return None
        with contextlib.suppress(BrokenFileError, NotFoundError):
            self.thumbnail(picture.id)
        return picture.id

    def search(self, query: HistoryQuery, *, cursor: str | None = None, limit: int = 100) -> Page:
        """One page of the pictures that the query describes, the newest first.

        Args:
            cursor: `Page.cursor` of the page before; None for the first.
            limit: Most pictures on the page.

        Raises:
            BadRequestError: The cursor is not known, or the search has too many words.
        """
        return self._index.search(query, cursor=cursor, limit=limit)

    def models(self) -> list[tuple[str, int]]:
        """Models and how many pictures each has made, the busiest first."""
        return self._index.models()

    def uses(self, used_as: UsedAs) -> dict[str, Use]:
        """How often each name is used by the pictures outside of the trash."""
        return self._index.uses(used_as)

    def months(self) -> list[tuple[str, int]]:
        """Months ("2026-05") and how many pictures each has, the newest first."""
        return self._index.months()

    def file(self, id: str) -> Path:
        """The picture's file; it is there, and no link.

        Raises:
            NotFoundError: There is no such picture (any more).
        """
        picture = self._find(id)
        return self._locate(picture.folder, picture.name)

    def request(self, id: str) -> dict[str, Any] | None:
        """The recipe's request, only the fields that the file names; None without a recipe.

        Raises:
            NotFoundError: There is no such picture.
        """
        return whole_request(self._find(id))

    def thumbnail(self, id: str) -> bytes:
        """The picture at most 320 pixels wide and high, a WebP file.

        Raises:
            NotFoundError: There is no such picture (any more).
            BrokenFileError: It cannot be decoded, or is too large to be.
        """
        return self._thumbnails.get(id, self.file(id))

    def thumbnail_of(self, path: Path) -> bytes:
        """The same for a file of the folder, whether or not it is in the index yet.

        Raises:
            BadRequestError: It is not in the pictures' folder.
            NotFoundError: It is not there any more.
            BrokenFileError: It cannot be decoded, or is too large to be.
        """
        folder, name = self._place(path)
        found = self._locate(folder, name)
        stat = found.stat()
        id = picture_id(folder, name, Stamp(stat.st_mtime_ns, stat.st_size))
        return self._thumbnails.get(id, found)

    def trash(self, ids: Sequence[str]) -> Outcome:
        """Moves pictures to the trash."""
        now = datetime.now().isoformat(timespec="microseconds")
        return self._move(ids, self._trash.put, now)

    def restore(self, ids: Sequence[str]) -> Outcome:
        """Moves pictures from the trash to where they were."""
        return self._move(ids, self._trash.take_back, None)

    def empty_trash(self) -> Outcome:
        """Deletes the pictures in the trash for good, with their thumbnails."""
        if not self._index.is_there():
            return Outcome((), self._missing())
        with self._moving:
            done: list[Picture] = []
            problems: list[str] = []
            for picture in self._index.trashed():
                try:
                    self._trash.delete(picture.folder, picture.name)
                except NotFoundError:
                    pass
                except WebuiError as error:
                    problems.append(error.message)
                    continue
                self._thumbnails.remove(picture.id)
                done.append(picture)
            self._index.remove([(picture.folder, picture.name) for picture in done])
            self._trash.remove_empty_folders()
        return Outcome(tuple(picture.id for picture in done), tuple(problems))

    def _move(
        self,
        ids: Sequence[str],
        move: Callable[[str, str], tuple[str, str]],
        trashed: str | None,
    ) -> Outcome:
        if not self._index.is_there():
            return Outcome((), self._missing())
        with self._moving:
            known = self._index.find(ids)
            done: list[str] = []
            problems: list[str] = []
            moved: list[tuple[str, str, str]] = []
            gone: list[tuple[str, str]] = []
            for id in dict.fromkeys(ids):
                picture = known.get(id)
                if picture is None:
                    problems.append("A picture of the selection is not known any more.")
                    continue
                try:
                    if (picture.trashed is None) != (trashed is None):
                        moved.append((id, *move(picture.folder, picture.name)))
                    done.append(id)
                except WebuiError as error:
                    problems.append(error.message)
                    if isinstance(error, NotFoundError):
                        gone.append((picture.folder, picture.name))
            self._index.move(moved, trashed)
            self._index.remove(gone)
        return Outcome(tuple(done), tuple(problems))

    def _missing(self) -> tuple[str, ...]:
        return (f"The folder {self._root} is not there: nothing was changed.",)

    def _find(self, id: str) -> Picture:
        picture = self._index.find([id]).get(id)
        if picture is None:
            raise NotFoundError("This picture is not in the history any more.")
        return picture

    def _place(self, path: Path) -> tuple[str, str]:
        """A path as the index has it: relative folder and name."""
        parent = path.parent.resolve()
        if not parent.is_relative_to(self._root):
            raise BadRequestError(f"{shown(path.name)} is not in {self._root}.")
        folder = parent.relative_to(self._root).as_posix()
        return "" if folder == "." else folder, path.name

    def _locate(self, folder: str, name: str) -> Path:
        try:
            return locate(self._root, folder, name)
        except OSError as error:
            raise NotFoundError(f"{shown(name)} cannot be read: {error.strerror}.") from None

    def _tidy(self) -> None:
        self._thumbnails.tidy(self._index.ids)
