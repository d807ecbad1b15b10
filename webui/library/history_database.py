"""An SQLite file that may be lost at any time, since it can be made anew from other files.

A damaged one is set aside and begun anew, and where none can be written it is kept in memory.

Threads: one connection, every use of it under one lock, which is held for milliseconds.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from webui.errors import StorageError

T = TypeVar("T")

INDEX = ".history.sqlite3"
DAMAGED = ".history.damaged.sqlite3"


@dataclass(frozen=True)
class Schema:
    """What the file should hold.

    Attributes:
        version: Kept as SQLite's `user_version`.
        script: Makes the tables anew, whatever was there, and sets the version.
        table: A table whose `columns` tell whether they are as they should be.
    """

    version: int
    script: str
    table: str
    columns: frozenset[str]


class Database:
    """`<folder>/.history.sqlite3` or, where that fails, a database in memory."""

    def __init__(self, folder: Path, schema: Schema) -> None:
        self._schema = schema
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

    def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
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
                connection = _connect(str(self._path), self._schema)
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
        return _connect(":memory:", self._schema)

    def _fall_back(self, error: sqlite3.OperationalError) -> None:
        """Carries on in memory with all that is known."""
        memory = _connect(":memory:", self._schema)
        try:
            self._connection.backup(memory)
        except sqlite3.Error:
            memory.close()
            memory = _connect(":memory:", self._schema)
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


def _connect(path: str, schema: Schema) -> sqlite3.Connection:
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
        if connection.execute("PRAGMA user_version").fetchone() != (schema.version,):
            connection.executescript(schema.script)
        rows = connection.execute(f"PRAGMA table_info({schema.table})")
        columns = frozenset(str(row[1]) for row in rows)
        check = connection.execute("PRAGMA quick_check(1)").fetchone()
        if columns != schema.columns or check != ("ok",):
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
