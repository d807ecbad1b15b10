"""The tunnel's program, `frpc`, as Gradio fetches and calls it.

Gradio itself checks it only when it has just fetched it, stops reading what it writes, and may
wait for it half a minute.
"""

from __future__ import annotations

import contextlib
import hashlib
import queue
import secrets
import subprocess
import threading
import time
from pathlib import Path
from typing import IO, cast
from urllib.parse import urlsplit

from gradio import tunneling

from webui.ui.tunnel import TunnelError

SECONDS_TO_OPEN = 20.0
"""How long the program may take to name the address."""

_MOST_BYTES = 64 * 1024
_OPENED = "start proxy success: "
_FAILED = "login to server failed"
_NOT_FETCHED = "the tunnel's program could not be fetched"


def fetched_program() -> Path:
    """Gradio's `frpc`, fetched the first time.

    Gradio checks it only when it has just fetched it, and leaves what is wrong for the next time.

    Raises:
        TunnelError: It cannot be fetched, or is not the one that Gradio names.
    """
    path, wanted = Path(tunneling.BINARY_PATH), tunneling.CHECKSUMS.get(tunneling.BINARY_URL)
    if wanted is None:
        raise TunnelError("Gradio has no tunnel for this kind of machine")
    if not _is_right(path, wanted):
        path.unlink(missing_ok=True)
        try:
            tunneling.Tunnel.download_binary()
        except Exception:  # noqa: BLE001  (of httpx, of the disk, of Gradio's own check)
            path.unlink(missing_ok=True)
            raise TunnelError(_NOT_FETCHED) from None
    if not _is_right(path, wanted):
        path.unlink(missing_ok=True)
        raise TunnelError("the tunnel's program is not the one that Gradio names")
    return path


def _is_right(path: Path, wanted: str) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == wanted
    except OSError:
        return False


class Frpc(tunneling.Tunnel):
    """Gradio's tunnel, whose command it is; reading and ending the program are our own."""

    def __init__(self, host: str, remote_port: int, port: int, certificate: str) -> None:
        super().__init__(
            host, remote_port, "127.0.0.1", port, secrets.token_urlsafe(32), certificate
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._process: subprocess.Popen[bytes] | None = None
        self._done = False

    def start(self, program: Path) -> None:
        """Runs the program.

        Raises:
            TunnelError: It cannot be run.
        """
        try:
            self._start_tunnel(str(program))
        except OSError as error:
            raise TunnelError(f"the tunnel's program cannot be run: {error.strerror}") from None

    def address(self) -> str:
        """What the program names as the address in public, once it does.

        Raises:
            TunnelError: It ended, failed or named none in time.
        """
        deadline = time.monotonic() + SECONDS_TO_OPEN
        while True:
            try:
                line = self._lines.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                raise TunnelError("the tunnel's program names no address") from None
            if not line or _FAILED in line:
                raise TunnelError("the tunnel's program could not log in to Gradio's server")
            if _OPENED in line:
                self._done = True
                return _public(line.partition(_OPENED)[2].strip())

    def runs(self) -> bool:
        """Whether the program runs."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """Ends the program."""
        with contextlib.suppress(ValueError):
            tunneling.CURRENT_TUNNELS.remove(self)
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _read_url_from_tunnel_stream(self) -> str:
        self._process = process = cast("subprocess.Popen[bytes]", self.proc)
        # A pipe that nobody reads would stop the program once it is full.
        for pipe in (process.stdout, process.stderr):
            heard = pipe is process.stdout
            threading.Thread(target=self._read, args=(pipe, heard), daemon=True).start()
        return ""

    def _read(self, pipe: IO[bytes], heard: bool) -> None:
        for line in iter(lambda: pipe.readline(_MOST_BYTES), b""):
            if heard and not self._done:
                self._lines.put(line.decode("utf-8", "replace"))
        if heard:
            self._lines.put("")


def _public(address: str) -> str:
    """The address that visitors open: Gradio's server speaks https, whatever its program says."""
    name = urlsplit(address).netloc
    if not name:
        raise TunnelError("the tunnel's program names no address")
    return f"https://{name}"
