"""Connections with a time limit: who sends or reads next to nothing does not keep one."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from webui.ui.bodies import MAX_HEAD_BYTES
from webui.ui.hosts import is_loopback

GRACE_SECONDS = 1
"""How long open connections may go on once the server is told to end."""

LOOK_SECONDS = 5.0
"""How often a connection is looked at; headers have to be there between one and two looks."""

LEAST_BYTES = 16 * 1024
"""What has to arrive between two looks while a body is awaited, at least every other time."""

LOOKS_AT_BODY = 60
"""How often a body may be found unfinished, the time not counted that we do not read it."""

LOOKS_UNREAD = 12
"""How often in a row an answer may be found where it was, because the client does not read."""

MOST_PER_ADDRESS = 64
"""Connections from one other machine."""

MOST_CONNECTIONS = 512


def config_of(app: ASGIApp, *, most: int = MOST_CONNECTIONS) -> uvicorn.Config:
    """How a server of ours listens; `most`: connections at the same time."""
    return uvicorn.Config(
        app,
        http=TimedProtocol,
        # Behind a proxy that is not configured, anyone can write these headers.
        proxy_headers=False,
        server_header=False,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        limit_concurrency=most,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


class TimedProtocol(H11Protocol):
    """HTTP/1.1, where a client has to get on with what it says."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._look: asyncio.TimerHandle | None = None
        self._received = 0
        self._trickled = False
        self._looks_at_body = 0
        self._unsent = 0
        self._looks_unread = 0
        self._cycle_before: object = self

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Takes a connection, if its machine has not too many."""
        super().connection_made(transport)
        others = (one for one in self.connections if cast(Any, one).client[0] == self._address())
        if not is_loopback(self._address()) and sum(1 for _ in others) > MOST_PER_ADDRESS:
            transport.abort()
            return
        self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends with the connection."""
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Takes what the client sends."""
        self._received += len(data)
        super().data_received(data)

    def _address(self) -> str:
        return self.client[0] if self.client else ""

    def _look_later(self) -> None:
        self._look = self.loop.call_later(LOOK_SECONDS, self._look_after_it)

    def _look_after_it(self) -> None:
        if self.transport.is_closing():
            return
        if self._idles() or self._trickles() or self._does_not_read():
            self.transport.abort()
            return
        self._received = 0
        self._cycle_before = self.cycle
        self._look_later()

    def _idles(self) -> bool:
        """Whether since the last look it has been about to send headers."""
        # Between two requests uvicorn's own, shorter limit holds until the first byte.
        between = self.timeout_keep_alive_task is not None
        return (
            self.conn.their_state is h11.IDLE and not between and self.cycle is self._cycle_before
        )

    def _trickles(self) -> bool:
        """Whether of a body that is awaited next to nothing comes, or no end."""
        if self.conn.their_state is not h11.SEND_BODY:
            self._trickled, self._looks_at_body = False, 0
            return False
        if self.flow.read_paused:
            self._trickled = False
            return False
        before, self._trickled = self._trickled, self._received < LEAST_BYTES
        self._looks_at_body += 1
        return (before and self._trickled) or self._looks_at_body > LOOKS_AT_BODY

    def _does_not_read(self) -> bool:
        """Whether an answer has been stuck for many looks."""
        unsent = self.transport.get_write_buffer_size()
        stuck = self.flow.write_paused and unsent == self._unsent
        self._unsent, self._looks_unread = unsent, self._looks_unread + 1 if stuck else 0
        return self._looks_unread >= LOOKS_UNREAD
