"""A trap: a socket of this machine that tells whether anybody called."""

from __future__ import annotations

import socket
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Trap:
    """Somebody listens at `address`."""

    _server: socket.socket

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.getsockname()[1]}/manifest.c2pa"

    def was_called(self) -> bool:
        """Whether somebody has connected; a connection waits in the socket's queue."""
        try:
            caller, _ = self._server.accept()
        except TimeoutError:
            return False
        caller.close()
        return True


@contextmanager
def listening() -> Generator[Trap]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        yield Trap(server)
