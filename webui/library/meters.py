"""How fast something comes."""

from __future__ import annotations

import time
from collections import deque

RATE_SECONDS = 5.0
"""Over how long the speed is taken."""

_NOTE_SECONDS = 0.25


class Meter:
    """How fast bytes come, over the last seconds."""

    def __init__(self) -> None:
        self._noted: deque[tuple[float, int]] = deque()

    def note(self, received: int) -> None:
        """Told of the bytes that are here in all."""
        now = time.monotonic()
        if not self._noted or now - self._noted[-1][0] >= _NOTE_SECONDS:
            self._noted.append((now, received))
        while now - self._noted[0][0] > RATE_SECONDS:
            self._noted.popleft()

    def rate(self) -> float:
        """Bytes a second just now; 0 when nothing comes."""
        noted = tuple(self._noted)
        if len(noted) < 2 or time.monotonic() - noted[-1][0] > RATE_SECONDS:
            return 0.0
        (begin, before), (end, after) = noted[0], noted[-1]
        return max(0.0, (after - before) / (end - begin))
