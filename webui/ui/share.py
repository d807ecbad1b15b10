"""The share link: a tunnel from a public address to a socket of its own, for a while.

What comes in at that socket came through the tunnel, whatever it says of itself. The socket has a
server of its own, too: visitors cannot use up the connections of who sits at this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from webui.errors import WebuiError
from webui.ui.connections import config_of
from webui.ui.hosts import name_in
from webui.ui.listening import listen
from webui.ui.sessions import SHARED
from webui.ui.threads import in_daemon

SECONDS_BETWEEN_LOOKS = 1.0
"""How often the clock and the tunnel are looked at."""

MOST_VISITORS = 256
"""Connections through the tunnel at the same time."""


class Tunnel(Protocol):
    """What makes an address in public: `webui.ui.tunnel.GradioTunnel`."""

    def open(self, port: int) -> str:
        """Makes a tunnel to that port of 127.0.0.1 and gives its address.

        Raises:
            WebuiError: It cannot be made; the message says why, without a full stop.
        """
        ...

    def is_open(self) -> bool:
        """Whether it is still there."""
        ...

    def close(self) -> None:
        """Ends it at once, also while it is being made."""
        ...


@dataclass(frozen=True)
class Shared:
    """The link while there is one.

    Attributes:
        address: Where it is, such as "https://0a1b2c.gradio.live".
        expires_at: When it ends, in seconds since 1970.
    """

    address: str
    expires_at: float


class Share:
    """Makes the link, ends it in time or before. Safe to use from several threads.

    Args:
        tunnel: Makes the tunnel; called once, in a thread.
        hours: How long the link lasts.
        out: Called when it has ended: no visitor is let in any more, and their jobs end.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        tunnel: Callable[[], Tunnel],
        *,
        hours: float,
        out: Callable[[], object],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._make = tunnel
        self._seconds = hours * 3600
        self._out = out
        self._clock = clock
        self._lock = threading.Lock()
        self._tunnel: Tunnel | None = None
        self._server: _TunnelServer | None = None
        self._stopped = False
        self._shared: Shared | None = None
        self._ends = 0.0

    @property
    def shared(self) -> Shared | None:
        """The link, if there is one now."""
        with self._lock:
            known = self._shared
        # The clock may be set back, and a machine that sleeps stops the other one.
        over = known is None or self._clock() >= known.expires_at or time.monotonic() >= self._ends
        return None if over else known

    @property
    def names(self) -> frozenset[str]:
        """Host names that visitors may come by."""
        shared = self.shared
        return frozenset() if shared is None else frozenset({_host(shared.address)})

    @property
    def is_secure(self) -> bool:
        """Whether visitors come by https."""
        shared = self.shared
        return shared is not None and shared.address.startswith("https:")

    def stop(self) -> None:
        """Ends the link at once, and whatever goes on over it."""
        with self._lock:
            tunnel, server = self._tunnel, self._server
            was_shared, self._shared, self._stopped = self._shared, None, True
        if server is not None:
            server.cut()
        if tunnel is not None:
            tunnel.close()
        if was_shared is not None:
            self._out()

    async def run(self, front: ASGIApp, opened: Callable[[Shared], object]) -> None:
        """Makes the link and keeps it until it ends or is stopped; cancelling stops it, too.

        Args:
            front: Answers the visitors, with `SHARED` in the scope.
            opened: Called with the link once it is there.

        Raises:
            WebuiError: It cannot be made, or has broken down.
        """
        bound = listen("127.0.0.1", 0)
        server = _TunnelServer(_marked(front))
        with self._lock:
            self._server = server
        serving = asyncio.create_task(server.serve(sockets=[bound]))
        try:
            shared = await self._open(bound)
            if shared is not None:
                opened(shared)
                await self._watch()
        finally:
            self.stop()
            server.should_exit = True
            with contextlib.suppress(asyncio.CancelledError):
                await serving

    async def _open(self, bound: socket.socket) -> Shared | None:
        port = bound.getsockname()[1]
        address = await in_daemon(lambda: self._opened(port), "open-tunnel")
        with self._lock:
            if self._stopped:
                return None
            self._shared = Shared(address, self._clock() + self._seconds)
            self._ends = time.monotonic() + self._seconds
            return self._shared

    def _opened(self, port: int) -> str:
        tunnel = self._make()
        with self._lock:
            self._tunnel = tunnel
            stopped = self._stopped
        if stopped:
            tunnel.close()
        return tunnel.open(port)

    async def _watch(self) -> None:
        while self.shared is not None:
            tunnel = self._tunnel
            if tunnel is not None and not tunnel.is_open() and not self._stopped:
                raise WebuiError("the tunnel broke down")
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)


def gradio_tunnel(folder: Path) -> Tunnel:
    """A tunnel by Gradio's share service; its files go to `folder`."""
    from webui.ui.tunnel import GradioTunnel

    return GradioTunnel(folder)


async def keep_shared(
    share: Share, front: ASGIApp, password: str | None, announce: Callable[[str], object]
) -> None:
    """Makes the link, says so, and keeps it until it ends; says also if there is none.

    Args:
        password: One that was made up and is known to nobody yet.
        announce: Is given lines for the console.
    """
    try:
        await share.run(front, lambda shared: announce(_told(shared, password)))
    except WebuiError as error:
        announce(f"There is no share link, because {error.message}; Easel goes on without it.")
    except Exception:
        logging.getLogger(__name__).exception("the share link failed")
        announce("There is no share link, for the reason above; Easel goes on without it.")
    else:
        announce("The share link has ended: visitors cannot reach this page any more.")


def _told(shared: Shared, password: str | None) -> str:
    until = datetime.fromtimestamp(shared.expires_at).astimezone()
    return "\n".join(
        (
            f"Share link: {shared.address}",
            f"Password: {password or 'the one given by --password'}",
            f"Until: {until:%Y-%m-%d %H:%M %Z}, or until it is stopped on the page or here.",
        )
    )


def _host(address: str) -> str:
    return name_in(urlsplit(address).netloc)


def _marked(front: ASGIApp) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await front({**scope, SHARED: True}, receive, send)

    return answer


class _TunnelServer(uvicorn.Server):
    """A server beside the main one, whose connections can be cut."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(config_of(app, most=MOST_VISITORS))
        self._loop: asyncio.AbstractEventLoop | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leaves them to the main server."""
        yield

    async def main_loop(self) -> None:
        """Serves until told to end."""
        self._loop = asyncio.get_running_loop()
        await super().main_loop()

    def cut(self) -> None:
        """Ends all connections and takes no more. Can be called from any thread."""
        self.should_exit = self.force_exit = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._cut)

    def _cut(self) -> None:
        for connection in list(self.server_state.connections):
            cast(Any, connection).transport.abort()
