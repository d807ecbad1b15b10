"""The index of saved pictures: one SQLite table beside them, made from the files.

Nothing is in it that the files do not say, so it may be lost at any time: a damaged one is set
aside and begun anew, and where none can be written it is kept in memory.

Threads: one connection, every use of it under one lock; reading takes milliseconds, and files are
read outside of it.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from webui.errors import BadRequestError, StorageError
from webui.library.history_query import HistoryQuery, conditions, folded
from webui.library.picture_files import Stamp

T = TypeVar("T")

INDEX = ".history.sqlite3"
DAMAGED = ".history.damaged.sqlite3"

SCHEMA = 1
"""Kept as SQLite's `user_version`; an index of another one is made anew."""

_ID = re.compile("[0-9a-f]{24}")
_IDS_AT_ONCE = 500
"""Values bound in one statement; SQLite's own bound was 999 for long."""


@dataclass(frozen=True)
class Picture:
    """One saved picture: the columns of its row.

    Attributes:
        id: See `webui.library.picture_files.picture_id`.
        folder: Relative to the pictures' folder, with "/" between the parts.
        size: Of the file, in bytes.
        made: Local time, ISO 8601 with microseconds, so that text sorts as time does.
        trashed: When it was thrown away, in the same form; None when it was not.
        width, height: In pixels; 0 when the file cannot be read.
        prompt, negative_prompt, model, seed: From the recipe; None where it does not say.
        settings: The rest of the recipe's request as JSON; None when the file has no recipe.
        broken: Why the file cannot be read, one sentence; None when it can.
    """

    id: str
    folder: str
    name: str
    mtime_ns: int
    size: int
    made: str
    trashed: str | None
    width: int
    height: int
    prompt: str | None
    negative_prompt: str | None
    model: str | None
    seed: int | None
    settings: str | None
    broken: str | None


@dataclass(frozen=True)
class Page:
    """Some of the pictures that were looked for, the newest first.

    Attributes:
        cursor: Asks for the next page; None when there is none.
        total: How many pictures there are over all pages.
    """

    pictures: tuple[Picture, ...]
    cursor: str | None
    total: int


_COLUMNS = tuple(field.name for field in fields(Picture))
_TABLE = f"""
BEGIN IMMEDIATE;
DROP TABLE IF EXISTS pictures;
CREATE TABLE pictures (
    id TEXT PRIMARY KEY, folder BLOB NOT NULL, name BLOB NOT NULL, mtime_ns INTEGER NOT NULL,
    size INTEGER NOT NULL, made TEXT NOT NULL, trashed TEXT, width INTEGER NOT NULL,
    height INTEGER NOT NULL, prompt TEXT, negative_prompt TEXT, model TEXT, seed INTEGER,
    settings TEXT, broken TEXT, searched TEXT NOT NULL, UNIQUE (folder, name)
);
CREATE INDEX shown ON pictures (made DESC, id DESC) WHERE trashed IS NULL;
CREATE INDEX thrown ON pictures (made DESC, id DESC) WHERE trashed IS NOT NULL;
CREATE INDEX by_model ON pictures (model) WHERE trashed IS NULL;
PRAGMA user_version = {SCHEMA};
COMMIT;
"""
_PUT = (
    f"INSERT INTO pictures ({', '.join(_COLUMNS)}, searched)"
    f" VALUES ({', '.join('?' * (len(_COLUMNS) + 1))})"
    # The same picture twice: a copy of one in the trash. The one outside is shown.
    " ON CONFLICT (id) DO UPDATE SET folder = excluded.folder, name = excluded.name,"
    " trashed = NULL WHERE excluded.trashed IS NULL"
)
_PAGE = """
WITH found (place, made, id) AS MATERIALIZED (SELECT rowid, made, id FROM pictures WHERE {where})
SELECT total, {columns}
FROM (SELECT count(*) AS total FROM found)
LEFT JOIN (SELECT place FROM found {after} ORDER BY made DESC, id DESC LIMIT ?) ON true
LEFT JOIN pictures AS picture ON picture.rowid = place
ORDER BY picture.made DESC, picture.id DESC
"""


class HistoryIndex:
    """Rows of `Picture`, in `<folder>/.history.sqlite3` or, where that fails, in memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / INDEX
        self._lock = threading.RLock()
        self._missing = False
        self._identity: tuple[int, int] | None = None
        self._notice: str | None = None
        self._generation = 0
        self._connection = self._open()

    @property
    def generation(self) -> int:
        """Another number whenever rows may have been lost and the files must be gone through."""
        return self._generation

    @property
    def notice(self) -> str | None:
        """One sentence about what keeps the index from being kept; None when all is well."""
        if self._missing:
            return f"The folder {self._folder} is not there: its pictures come back when it does."
        return self._notice

    def is_there(self) -> bool:
        """Whether the folder is; finds out first whether the file is still the one it was."""
        with self._lock:
            if not os.path.isdir(self._folder):
                self._missing = True
                return False
            was_missing, self._missing = self._missing, False
            in_memory = self._identity is None
            if was_missing if in_memory else _identity(self._path) != self._identity:
                self._close()
                self._connection = self._open()
            return True

    def close(self) -> None:
        """Ends the use of the file; nothing else may be called after that."""
        with self._lock:
            self._close()

    def put(self, pictures: Sequence[Picture]) -> None:
        """Adds pictures; one at the same path is replaced."""

        def work(connection: sqlite3.Connection) -> None:
            places = [_place(picture.folder, picture.name) for picture in pictures]
            connection.executemany("DELETE FROM pictures WHERE folder = ? AND name = ?", places)
            connection.executemany(_PUT, [_values(picture) for picture in pictures])

        self._run(work)

    def remove(self, places: Iterable[tuple[str, str]]) -> None:
        """Forgets the pictures at these (folder, name)."""
        encoded = [_place(*place) for place in places]
        self._run(
            lambda connection: connection.executemany(
                "DELETE FROM pictures WHERE folder = ? AND name = ?", encoded
            )
        )

    def move(self, moved: Iterable[tuple[str, str, str]], trashed: str | None) -> None:
        """Takes note that pictures (id, new folder, new name) now lie elsewhere."""
        values = [(*_place(folder, name), trashed, id) for id, folder, name in moved]
        self._run(
            lambda connection: connection.executemany(
                "UPDATE OR REPLACE pictures SET folder = ?, name = ?, trashed = ? WHERE id = ?",
                values,
            )
        )

    def folders(self) -> set[str]:
        """Every folder that holds a picture."""
        rows = self._rows("SELECT DISTINCT folder FROM pictures")
        return {os.fsdecode(folder) for (folder,) in rows}

    def stamps(self, folder: str) -> dict[str, Stamp]:
        """The pictures of a folder by name, as they were when they were read."""
        rows = self._rows(
            "SELECT name, mtime_ns, size FROM pictures WHERE folder = ?", (os.fsencode(folder),)
        )
        return {os.fsdecode(name): Stamp(mtime, size) for name, mtime, size in rows}

    def ids(self) -> set[str]:
        """The ids of all pictures."""
        return {id for (id,) in self._rows("SELECT id FROM pictures")}

    def find(self, ids: Sequence[str]) -> dict[str, Picture]:
        """Those of the pictures that are known, by id."""
        # A client's text may hold what SQLite cannot even be asked for.
        ids = [id for id in ids if _ID.fullmatch(id)]
        found: dict[str, Picture] = {}
        for start in range(0, len(ids), _IDS_AT_ONCE):
            some = tuple(ids[start : start + _IDS_AT_ONCE])
            rows = self._rows(
                f"SELECT {', '.join(_COLUMNS)} FROM pictures"
                f" WHERE id IN ({', '.join('?' * len(some))})",
                some,
            )
            found |= {picture.id: picture for picture in map(_picture, rows)}
        return found

    def trashed(self) -> list[Picture]:
        """All pictures in the trash."""
        rows = self._rows(f"SELECT {', '.join(_COLUMNS)} FROM pictures WHERE trashed IS NOT NULL")
        return [_picture(row) for row in rows]

    def search(self, query: HistoryQuery, *, cursor: str | None, limit: int) -> Page:
        """One page of what is looked for; costs the same however far down it is.

        Raises:
            BadRequestError: The cursor is none of ours, or there are too many words.
        """
        where, values = conditions(query)
        after = "" if cursor is None else "WHERE (made, id) < (?, ?)"
        position = () if cursor is None else _position(cursor)
        columns = ", ".join(f"picture.{column}" for column in _COLUMNS)
        rows = self._rows(
            _PAGE.format(where=where, columns=columns, after=after),
            (*values, *position, limit + 1),
        )
        pictures = tuple(_picture(row[1:]) for row in rows[:limit] if row[1] is not None)
        more = len(rows) > limit
        last = f"{pictures[-1].made}_{pictures[-1].id}" if more else None
        return Page(pictures, last, rows[0][0])

    def models(self) -> list[tuple[str, int]]:
        """Models and how many pictures each has made, the busiest first."""
        return self._rows(
            "SELECT model, count(*) FROM pictures WHERE trashed IS NULL AND model IS NOT NULL"
            " GROUP BY model ORDER BY count(*) DESC, model"
        )

    def months(self) -> list[tuple[str, int]]:
        """Months ("2026-05") and how many pictures each has, the newest first."""
        return self._rows(
            "SELECT substr(made, 1, 7) AS month, count(*) FROM pictures WHERE trashed IS NULL"
            " GROUP BY month ORDER BY month DESC"
        )

    def _rows(self, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
        return self._run(lambda connection: connection.execute(sql, values).fetchall())

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Does the work in a transaction; where the file fails, once more without it."""
        with self._lock:
            try:
                with self._connection:
                    return work(self._connection)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode == sqlite3.SQLITE_ERROR:
                    raise
                if self._identity is None:
                    raise StorageError(f"The history cannot be searched: {error}.") from None
                self._fall_back(error)
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise
                self._close()
                self._set_aside()
                self._connection = self._open()
            with self._connection:
                return work(self._connection)

    def _open(self) -> sqlite3.Connection:
        """The file, begun anew if it is damaged, or else a database in memory."""
        self._generation += 1
        self._notice = None
        reason: sqlite3.DatabaseError | None = None
        for _ in range(2):
            try:
                connection = _connect(str(self._path))
            except sqlite3.DatabaseError as error:
                reason = error
                if not _is_damage(error):
                    break
                self._set_aside()
            else:
                self._identity = _identity(self._path)
                return connection
        self._identity = None
        self._notice = self._sentence(reason)
        return _connect(":memory:")

    def _fall_back(self, error: sqlite3.OperationalError) -> None:
        """Carries on in memory with all that is known."""
        memory = _connect(":memory:")
        try:
            self._connection.backup(memory)
        except sqlite3.Error:
            memory.close()
            memory = _connect(":memory:")
            self._generation += 1
        self._close()
        self._connection = memory
        self._identity = None
        self._notice = self._sentence(error)

    def _set_aside(self) -> None:
        with contextlib.suppress(OSError):
            os.replace(self._path, self._folder / DAMAGED)
        for ending in ("-wal", "-shm"):
            with contextlib.suppress(OSError):
                os.unlink(f"{self._path}{ending}")

    def _close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    def _sentence(self, error: sqlite3.DatabaseError | None) -> str:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
            return (
                f"The disk is full: free some space in {self._folder}, until then the history is"
                " read from the pictures at every start."
            )
        return (
            f"The history cannot be kept in {self._folder} ({error}): it is read from the pictures"
            " at every start."
        )


def _connect(path: str) -> sqlite3.Connection:
    """A connection to an index that is whole and as this version has it.

    Raises:
        sqlite3.OperationalError: It cannot be opened or written.
        sqlite3.DatabaseError: It is damaged.
    """
    connection = sqlite3.connect(path, timeout=10, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # With WAL a power cut can only lose the last rows, which are read from the files again.
        connection.execute("PRAGMA synchronous = NORMAL")
        if connection.execute("PRAGMA user_version").fetchone() != (SCHEMA,):
            connection.executescript(_TABLE)
        columns = {row[1] for row in connection.execute("PRAGMA table_info(pictures)")}
        check = connection.execute("PRAGMA quick_check(1)").fetchone()
        if columns != {*_COLUMNS, "searched"} or check != ("ok",):
            raise sqlite3.DatabaseError("damaged")
    except BaseException:
        connection.close()
        raise
    return connection


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether the file is no database or a damaged one: that class itself, no subclass."""
    return type(error) is sqlite3.DatabaseError


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from another one at the same path; None when there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _place(folder: str, name: str) -> tuple[bytes, bytes]:
    """As bytes, since a file's name need not be text."""
    return os.fsencode(folder), os.fsencode(name)


def _values(picture: Picture) -> tuple[Any, ...]:
    id, _, _, *rest = astuple(picture)
    folder, name = _place(picture.folder, picture.name)
    text = picture.prompt or name.decode("utf-8", errors="replace")
    return (id, folder, name, *rest, folded(text))


def _picture(row: Sequence[Any]) -> Picture:
    id, folder, name, *rest = row
    return Picture(id, os.fsdecode(folder), os.fsdecode(name), *rest)


def _position(cursor: str) -> tuple[str, str]:
    made, found, id = cursor.partition("_")
    if not found or not cursor.isascii():
        raise BadRequestError("This place in the history is not known: open it anew.")
    return made, id
