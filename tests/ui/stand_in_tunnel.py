"""A tunnel whose public end is at this machine, too; as an object, and as the program `frpc`.

`python -m tests.ui.stand_in_tunnel http -l PORT ...` takes what Gradio gives to `frpc`.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import sys
import threading
import time

HOST = "shared.localhost"
"""Browsers find every name below localhost at this machine."""


class StandInTunnel:
    """A `webui.ui.share.Tunnel`.

    Args:
        host: Name of the public end.
    """

    def __init__(self, host: str = HOST) -> None:
        self._host = host
        self._public: socket.socket | None = None
        self._ends: list[socket.socket] = []

    def open(self, port: int) -> str:
        self._public = public = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, args=(public, port), daemon=True).start()
        return f"http://{self._host}:{public.getsockname()[1]}"

    def is_open(self) -> bool:
        return self._public is not None

    def close(self) -> None:
        public, self._public = self._public, None
        if public is not None:
            # Only this ends an `accept` that waits.
            with contextlib.suppress(OSError):
                public.shutdown(socket.SHUT_RDWR)
            public.close()
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self, public: socket.socket, port: int) -> None:
        while True:
            try:
                visitor, _ = public.accept()
            except OSError:
                return
            try:
                page = socket.create_connection(("127.0.0.1", port))
            except OSError:
                visitor.close()
                continue
            self._ends += (visitor, page)
            for source, sink in ((visitor, page), (page, visitor)):
                threading.Thread(target=_pass_on, args=(source, sink), daemon=True).start()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            sink.sendall(piece)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def main() -> None:
    """Does what `frpc` does, as far as it is heard."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-l", type=int, required=True)
    parser.add_argument("--server_addr", required=True)
    options, _ = parser.parse_known_args()
    if options.server_addr.startswith("silent."):
        time.sleep(600)
    if options.server_addr.startswith("refusing."):
        sys.exit("login to server failed")
    address = StandInTunnel().open(options.l)
    lines = ["[I] login to server success", f"[I] [proxy] start proxy success: {address}"]
    # More than a pipe holds that nobody reads.
    for line in (*lines, *("x" * 1000 for _ in range(1000))):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    time.sleep(600)


if __name__ == "__main__":
    main()
