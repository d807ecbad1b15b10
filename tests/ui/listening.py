"""A wire between a browser and a server that remembers all that was sent over it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Generator


class Wire:
    """Forwards connections to a port of this machine.

    Attributes:
        sent: All bytes that came from the browser.
    """

    def __init__(self, port: int) -> None:
        self.sent = bytearray()
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))

    @property
    def address(self) -> str:
        """Where the server can be reached by it."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def run(self) -> None:
        """Takes connections until it is closed."""
        with contextlib.suppress(OSError):
            while True:
                browser, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
                for source, target in ((browser, server), (server, browser)):
                    log = self.sent if source is browser else None
                    one_way = threading.Thread(target=_pump, args=(source, target, log))
                    one_way.daemon = True
                    one_way.start()

    def close(self) -> None:
        """Takes no more connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@contextlib.contextmanager
def wired(port: int) -> Generator[Wire, None, None]:
    """A wire to that port while it lasts."""
    wire = Wire(port)
    thread = threading.Thread(target=wire.run, daemon=True)
    thread.start()
    try:
        yield wire
    finally:
        wire.close()


def _pump(source: socket.socket, target: socket.socket, log: bytearray | None) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65_536):
            if log is not None:
                log += piece
            target.sendall(piece)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
