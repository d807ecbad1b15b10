"""Serves what the launcher's server does on the way up: a page, a status, an engine process.

How far it is counts in questions for its status, not in time, so that it is the same on a slow
machine.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

ASKED_BEFORE_PAGE = 2
ASKED_BEFORE_ENGINE = 5


class Engine:
    """A process that only waits, started again when it dies, ready once asked about often."""

    def __init__(self) -> None:
        self._asked = itertools.count()
        Thread(target=self._keep, daemon=True).start()

    def phase(self) -> str:
        return "ready" if next(self._asked) >= ASKED_BEFORE_ENGINE else "loading"

    def _keep(self) -> None:
        wait = "import sys; sys.stdin.read()"
        while True:
            # The last argument is how the benchmark knows a spawned engine.
            command = [sys.executable, "-c", wait, "multiprocessing.spawn"]
            subprocess.Popen(command, stdin=subprocess.PIPE).wait()
            self._asked = itertools.count()


def main(arguments: list[str]) -> None:
    asked, engine = itertools.count(), Engine()

    def status() -> dict[str, object]:
        return {"page": next(asked) >= ASKED_BEFORE_PAGE, "phase": engine.phase()}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(status()).encode() if self.path == "/status" else b"page")

        def log_message(self, format: str, *args: object) -> None:
            pass

    port = int(arguments[arguments.index("--port") + 1])
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    sys.stdout.write(f"Easel: http://127.0.0.1:{port}\n")
    if "--die" in arguments:
        sys.exit(1)
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
