"""The password for visitors: who was let in, and how often others may try."""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from threading import Lock

FEWEST_LETTERS = 8
"""Of a password that somebody chooses."""

TRIES_PER_SESSION = 5
TRIES_OVERALL = 50
"""Wrong passwords within `WINDOW_SECONDS`, over all sessions: a new session is had for nothing."""

WINDOW_SECONDS = 15 * 60.0
CLOSED_SECONDS = 15 * 60.0
"""How long nobody else is let in after too many of them, the right password or not."""

MOST_LET_IN = 10_000
"""Sessions remembered; the one let in first goes first."""

_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
"""None that look alike."""

_GROUPS, _GROUP = 3, 5


def make_password() -> str:
    """A password that can be read out, of 74 bits."""
    letters = [secrets.choice(_LETTERS) for _ in range(_GROUPS * _GROUP)]
    return "-".join("".join(letters[at : at + _GROUP]) for at in range(0, len(letters), _GROUP))


def password_bits() -> float:
    """How much an attacker has to guess of `make_password`."""
    return _GROUPS * _GROUP * math.log2(len(_LETTERS))


class Door:
    """Sessions that gave the password. Safe to use from several threads.

    Args:
        password: Kept as a keyed hash alone.
        clock: Seconds that never go back.
    """

    def __init__(self, password: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._key = secrets.token_bytes(32)
        self._hash = self._hashed(password)
        self._clock = clock
        self._lock = Lock()
        self._let_in: OrderedDict[str, None] = OrderedDict()
        self._failures: deque[tuple[float, str]] = deque()
        self._closed_until = -math.inf

    def is_open_to(self, session: str) -> bool:
        """Whether the session was let in."""
        with self._lock:
            return session in self._let_in

    def try_password(self, session: str, password: str, new_session: str) -> bool:
        """Lets `new_session` in if the password is right and there were not too many wrong ones.

        The session that asked is not let in itself: somebody else may have given it its name.
        """
        right = hmac.compare_digest(self._hashed(password), self._hash)
        now = self._clock()
        with self._lock:
            while self._failures and self._failures[0][0] <= now - WINDOW_SECONDS:
                self._failures.popleft()
            of_session = sum(1 for _, failed in self._failures if failed == session)
            if now < self._closed_until or of_session >= TRIES_PER_SESSION:
                return False
            if not right:
                self._failures.append((now, session))
                if len(self._failures) >= TRIES_OVERALL:
                    self._failures.clear()
                    self._closed_until = now + CLOSED_SECONDS
                return False
            self._let_in[new_session] = None
            while len(self._let_in) > MOST_LET_IN:
                self._let_in.popitem(last=False)
            return True

    def forget(self) -> None:
        """Everybody is out again."""
        with self._lock:
            self._let_in.clear()

    def _hashed(self, password: str) -> bytes:
        written = password.strip().encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, written, hashlib.sha256)
