"""Secrets that are traded once for a grant: an invitation's code, the owner's link."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Literal

from webui.errors import StorageError, WebuiError
from webui.levels import Level, as_level
from webui.library.files import PRIVATE
from webui.library.keys import kept_key
from webui.safety.grants import JITTER, Epoch, hash_of
from webui.safety.private import UntrustedFileError, is_open_to_others

KEY_FILE = "invitations.key"
DATABASE_FILE = "invitations.db"
"""Both within the state folder."""

WINDOW = 15 * 60.0
"""Seconds within which failures are counted."""

CLOSED_FOR = 30 * 60.0
"""Seconds for which redemption is closed after too many of them."""

MAX_FAILURES_PER_SESSION = 5
MAX_FAILURES = 20

LINK_LIFETIME = 10 * 60.0
"""Seconds for which the owner's link can be used."""

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: nothing in it is taken for something else when read aloud."""

_SYMBOLS = 16
_READ_AS = str.maketrans("OIL", "011", "- \t")
_EVERYBODY = ""
_PATIENCE = 10.0
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS invitations"
    " (mac TEXT PRIMARY KEY, level INTEGER, issued REAL, expires REAL, epoch TEXT)",
    "CREATE TABLE IF NOT EXISTS failures (session TEXT, at REAL)",
    "CREATE TABLE IF NOT EXISTS closures (session TEXT, until REAL)",
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Redemption:
    """What came of a code.

    Attributes:
        level: What the invitation is for; `None` when the code is not redeemed, for any reason.
        outcome: "locked out" is the failure by which redemption closes.
    """

    level: Level | None
    outcome: Literal["redeemed", "refused", "locked out", "closed"] = "refused"


class Invitations:
    """Open invitations and failed codes, in one file that several processes may share.

    A code is only ever kept as its HMAC, a session as its hash.
    """

    def __init__(
        self, folder: Path, epoch: Epoch, *, clock: Callable[[], float] = time.time
    ) -> None:
        """`folder` is the state folder; `clock` gives seconds that other processes share."""
        self._folder = folder
        self._epoch = epoch
        self._clock = clock

    def invite(self, level: Level, seconds: float) -> str:
        """A new code of 80 bits that can be redeemed once, for as many seconds.

        Raises:
            StorageError: It cannot be kept.
        """
        epoch = self._epoch.begin()
        number = secrets.randbits(5 * _SYMBOLS)
        symbols = "".join(_ALPHABET[number >> (5 * n) & 31] for n in range(_SYMBOLS))
        now = self._clock()
        row = (self._mac(symbols), level, now, now + seconds, epoch)
        try:
            with self._writing() as database:
                database.execute("INSERT INTO invitations VALUES (?, ?, ?, ?, ?)", row)
        except (sqlite3.Error, OSError, UntrustedFileError) as error:
            raise StorageError(f"The invitation cannot be kept: {error}") from None
        return "-".join(symbols[n : n + 4] for n in range(0, _SYMBOLS, 4))

    def redeem(self, code: str, session_id: str) -> Redemption:
        """Trades a code for the level it was given for. All failures look and take the same."""
        session = hash_of(session_id)
        try:
            mac, epoch, now = self._mac(_read_aloud(code)), self._epoch.read(), self._clock()
            with self._writing() as database:
                closed = _is_closed(database, session, now)
                level = _take(database, mac, None if closed else epoch, now)
                if level is not None:
                    return Redemption(level, "redeemed")
                if closed:
                    return Redemption(None, "closed")
                over = _count_failure(database, session, now)
                return Redemption(None, "locked out" if over else "refused")
        except (sqlite3.Error, OSError, WebuiError) as error:
            _log.warning("No code can be redeemed: %s", error)
            return Redemption(None)

    def end_all(self) -> None:
        """Ends all open invitations and opens redemption again.

        Raises:
            StorageError: It cannot be written.
        """
        try:
            with self._writing() as database:
                for table in ("invitations", "failures", "closures"):
                    database.execute(f"DELETE FROM {table}")
        except (sqlite3.Error, OSError, UntrustedFileError) as error:
            raise StorageError(f"The invitations cannot be ended: {error}") from None

    def _mac(self, symbols: str) -> str:
        key = kept_key(self._folder / KEY_FILE)
        return hmac.digest(key, symbols.encode("utf-8", "surrogatepass"), "sha256").hex()

    @contextmanager
    def _writing(self) -> Generator[sqlite3.Connection, None, None]:
        """The database with nobody else in it; what is done in it is kept whole or not at all."""
        path = self._folder / DATABASE_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        made = os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE)
        try:
            if is_open_to_others(os.fstat(made)):
                raise UntrustedFileError(f"{path} could have been written by others; remove it.")
        finally:
            os.close(made)
        opened = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)
        with closing(opened) as database:
            database.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA:
                database.execute(statement)
            yield database
            database.execute("COMMIT")


class OwnerLinks:
    """One-time tokens of 128 bits for whoever sees the console; only the last one counts.

    Safe to use from several threads.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds and never goes back."""
        self._clock = clock
        self._open: tuple[bytes, float] | None = None
        self._lock = Lock()

    def make(self) -> str:
        """A new token, in letters that a URL can hold."""
        token = secrets.token_urlsafe(16)
        with self._lock:
            self._open = _digest(token), self._clock() + LINK_LIFETIME
        return token

    def spend(self, token: str) -> bool:
        """Whether it is the open one, which it is no more afterwards."""
        given = _digest(token)
        with self._lock:
            digest, until = self._open or (bytes(len(given)), 0.0)
            same = hmac.compare_digest(given, digest)
            if same:
                self._open = None
            return same and self._clock() < until


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _read_aloud(code: str) -> str:
    """The code as it was made, whatever was taken for what."""
    return code.upper().translate(_READ_AS)


def _is_closed(database: sqlite3.Connection, session: str, now: float) -> bool:
    database.execute("DELETE FROM closures WHERE until <= ?", (now,))
    found = database.execute(
        "SELECT count(*) FROM closures WHERE session IN (?, ?)", (session, _EVERYBODY)
    )
    return found.fetchone()[0] > 0


def _take(database: sqlite3.Connection, mac: str, epoch: str | None, now: float) -> Level | None:
    """The level of a valid invitation, which is gone by that."""
    valid = "mac = ? AND epoch = ? AND issued <= ? AND expires > ?"
    asked = (mac, epoch, now + JITTER, now)
    found = database.execute(f"SELECT level FROM invitations WHERE {valid}", asked).fetchone()
    database.execute(f"DELETE FROM invitations WHERE {valid}", asked)
    database.execute("DELETE FROM invitations WHERE expires <= ?", (now,))
    return None if found is None else as_level(found[0])


def _count_failure(database: sqlite3.Connection, session: str, now: float) -> bool:
    """Whether it was one too many."""
    database.execute("DELETE FROM failures WHERE at <= ?", (now - WINDOW,))
    database.execute("INSERT INTO failures VALUES (?, ?)", (session, now))
    own, of_all = database.execute(
        "SELECT sum(session = ?), count(*) FROM failures", (session,)
    ).fetchone()
    bounds = ((session, own, MAX_FAILURES_PER_SESSION), (_EVERYBODY, of_all, MAX_FAILURES))
    over = [who for who, count, most in bounds if count >= most]
    until = now + CLOSED_FOR
    database.executemany("INSERT INTO closures VALUES (?, ?)", [(who, until) for who in over])
    return bool(over)
