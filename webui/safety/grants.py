"""What a session was granted: kept in memory, found by who asks, void at the least doubt."""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from types import MappingProxyType

from webui.levels import Level
from webui.library.files import PRIVATE, write_atomically
from webui.safety.private import UntrustedFileError, read_private
from webui.standing import Method

EPOCH_FILE = "epoch"
"""Within the state folder."""

_HOUR = 3600.0
LIFETIME: Mapping[Method, float] = MappingProxyType(
    {"owner": 12 * _HOUR, "invite": 4 * _HOUR, "issuer": 8 * _HOUR}
)
"""Seconds that a grant holds."""

IDLE_LIMIT: Mapping[Method, float | None] = MappingProxyType(
    {"owner": None, "invite": 0.5 * _HOUR, "issuer": None}
)
"""Seconds without a job after which it ends; `None`: it does not."""

JITTER = 1.0
"""Seconds that a clock may be put back to keep it right."""

_EPOCH = re.compile(rb"[0-9a-f]{32}")


@dataclass(frozen=True)
class Grant:
    """A session's grant. It names nobody.

    Attributes:
        gid: Its own opaque name.
        session: `hash_of` the session's id.
        issued: Seconds of the clock, as all times here.
        used: When a job of the session last asked for it.
        idle_limit: Seconds; `None`: it does not end by being idle.
        policy: Digest of the settings it was given under.
        epoch: In which it was given; a revocation begins another.
        boot: Of the process that gave it.
    """

    gid: str
    level: Level
    session: str
    method: Method
    issued: float
    expires: float
    used: float
    idle_limit: float | None
    policy: str
    epoch: str
    boot: str

    def holds(self, *, session: str, now: float, policy: str, epoch: str | None, boot: str) -> bool:
        """Whether it counts for a session at a time under what is the case then."""
        return (
            self.session == session
            and self.policy == policy
            and self.epoch == epoch
            and self.boot == boot
            and self.used - JITTER <= now < self.expires
            and (self.idle_limit is None or now - self.used < self.idle_limit)
        )


class Epoch:
    """Which grants can be valid at all: a random word in a file, another after a revocation.

    Several processes may share the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> str | None:
        """The word; `None` voids everything: the file is missing, damaged or open to others."""
        try:
            data = read_private(self._path)
        except UntrustedFileError:
            return None
        return data.decode() if data is not None and _EPOCH.fullmatch(data) else None

    def begin(self) -> str:
        """The word, a new one where none can be read.

        Raises:
            StorageError: The file cannot be written.
        """
        return self.read() or self.end()

    def end(self) -> str:
        """Ends this one: all that was granted in it is void from now on, in every process.

        Returns:
            The next one.

        Raises:
            StorageError: The file cannot be written; nothing has ended.
        """
        word = secrets.token_hex(16)
        write_atomically(self._path, word.encode(), mode=PRIVATE)
        return word


class Grants:
    """The grants of one process; they end with it. Safe to use from several threads."""

    def __init__(self, epoch: Epoch, *, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives seconds and goes on while the machine sleeps."""
        self._epoch = epoch
        self._clock = clock
        self._boot = secrets.token_hex(16)
        self._by_session: dict[str, Grant] = {}
        self._latest = clock()
        self._lock = Lock()

    def issue(self, session_id: str, level: Level, method: Method, policy: str) -> Grant:
        """Grants a session a level in place of what it had.

        Args:
            session_id: As in `webui.generator.Session`.
            level: One that is none is strict wherever it is used.
            method: How the session came by it.
            policy: Digest of the settings that count.

        Raises:
            StorageError: There is no epoch to grant it in, and none can be begun.
        """
        epoch = self._epoch.begin()
        with self._lock:
            now = self._now()
            grant = Grant(
                gid=secrets.token_hex(16),
                level=level,
                session=hash_of(session_id),
                method=method,
                issued=now,
                expires=now + LIFETIME[method],
                used=now,
                idle_limit=IDLE_LIMIT[method],
                policy=policy,
                epoch=epoch,
                boot=self._boot,
            )
            self._by_session = {
                held.session: held
                for held in (*self._by_session.values(), grant)
                if held.expires > now
            }
            return grant

    def find(self, session_id: str, policy: str, *, use: bool = False) -> Grant | None:
        """The session's grant, if it holds; one that does not is gone for good.

        Args:
            session_id: As in `webui.generator.Session`.
            policy: Digest of the settings that count.
            use: Whether a job asks, which keeps the grant from ending by being idle.
        """
        session = hash_of(session_id)
        epoch = self._epoch.read()
        with self._lock:
            now = self._now()
            grant = self._by_session.pop(session, None)
            if grant is None or not grant.holds(
                session=session, now=now, policy=policy, epoch=epoch, boot=self._boot
            ):
                return None
            if use:
                grant = replace(grant, used=now)
            self._by_session[session] = grant
            return grant

    def end(self, session_id: str) -> bool:
        """Ends the session's grant; whether there was one."""
        with self._lock:
            return self._by_session.pop(hash_of(session_id), None) is not None

    def seconds_left(self, grant: Grant) -> float:
        """Until the grant expires."""
        return max(0.0, grant.expires - self._clock())

    def _now(self) -> float:
        """The time; a clock that was put back has voided all that was granted by it."""
        now = self._clock()
        if now < self._latest - JITTER:
            self._by_session.clear()
            self._latest = now
        self._latest = max(self._latest, now)
        return now


def hash_of(session_id: str) -> str:
    """What is kept of a session's id, which is a secret of the session's."""
    return hashlib.sha256(session_id.encode("utf-8", "surrogatepass")).hexdigest()
