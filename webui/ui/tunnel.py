"""The public end of a share link: Gradio's share service and its program, `frpc`.

Of Gradio this takes the service's address, the program's (with its checksum) and how it is called.
What it does otherwise: every wait is bounded, the program is checked each time before it is run,
and what it writes is read for as long as it runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import queue
import re
import secrets
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar, cast
from urllib.parse import urlsplit
from urllib.request import urlopen

from gradio import networking, tunneling

from webui.errors import WebuiError

SECONDS_TO_ASK = 5.0
"""How long the share service may take to name a server."""

SECONDS_TO_FETCH = 60.0
"""How long the program may take to come, the first time."""

SECONDS_TO_OPEN = 20.0
"""How long the program may take to name the address."""

_MOST_BYTES = 64 * 1024
_T = TypeVar("_T")
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}")
_OPENED = "start proxy success: "
_FAILED = "login to server failed"


class TunnelError(WebuiError):
    """There is no tunnel; the message says why, without a full stop."""

    status = 503


class Program(Protocol):
    """How the tunnel's program is come by."""

    def __call__(self) -> Path:
        """The program, checked.

        Raises:
            TunnelError: It cannot be had.
        """
        ...


class GradioTunnel:
    """A tunnel from an address in public to a port of this machine. Safe to use from threads.

    Args:
        folder: Gets the certificate of the share service's server.
        api: Where the share service is asked for a server.
    """

    def __init__(
        self,
        folder: Path,
        *,
        api: str = networking.GRADIO_API_SERVER,
        program: Program | None = None,
    ) -> None:
        self._folder = folder
        self._api = api
        self._program = program or fetched_program
        self._lock = threading.Lock()
        self._frpc: _Frpc | None = None
        self._closed = False

    def open(self, port: int) -> str:
        """Makes the tunnel; gives its address, such as "https://0a1b2c.gradio.live".

        Raises:
            TunnelError: It could not be made within the time for each step, or was closed.
        """
        host, remote_port, certificate = _within(
            SECONDS_TO_ASK, lambda: _offered(self._api), _NO_SERVICE
        )
        program = _within(SECONDS_TO_FETCH, self._program, _NO_PROGRAM)
        frpc = _Frpc(host, remote_port, port, self._written(certificate))
        with self._lock:
            if self._closed:
                raise TunnelError("it was stopped")
            self._frpc = frpc
            frpc.start(program)
        try:
            return frpc.address()
        except TunnelError:
            self.close()
            raise

    def is_open(self) -> bool:
        """Whether the program still runs."""
        return self._frpc is not None and self._frpc.runs()

    def close(self) -> None:
        """Ends it at once; one that is being opened is not opened any more."""
        with self._lock:
            self._closed = True
            if self._frpc is not None:
                self._frpc.kill()

    def _written(self, certificate: str) -> str:
        path = self._folder / "certificate.pem"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            path.write_text(certificate, encoding="ascii")
        except (OSError, ValueError):
            raise TunnelError(f"{path} cannot be written") from None
        return str(path)


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
            raise TunnelError(_NO_PROGRAM) from None
    if not _is_right(path, wanted):
        path.unlink(missing_ok=True)
        raise TunnelError("the tunnel's program is not the one that Gradio names")
    return path


_NO_SERVICE = "Gradio's share service cannot be reached (is there a network?)"
_NO_PROGRAM = "the tunnel's program could not be fetched"


def _is_right(path: Path, wanted: str) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == wanted
    except OSError:
        return False


def _offered(api: str) -> tuple[str, int, str]:
    """Host, port and certificate of the server that the share service names.

    Raises:
        TunnelError: It cannot be asked, or its answer cannot be read.
    """
    try:
        with urlopen(api, timeout=SECONDS_TO_ASK) as answer:
            offer: Any = json.loads(answer.read(_MOST_BYTES))[0]
        host, port, certificate = str(offer["host"]), int(offer["port"]), str(offer["root_ca"])
    except OSError:
        raise TunnelError(_NO_SERVICE) from None
    except (ValueError, LookupError, TypeError, RecursionError):
        raise TunnelError("Gradio's share service answers what cannot be read") from None
    # It becomes an argument of a program.
    if not _HOST.fullmatch(host):
        raise TunnelError("Gradio's share service answers what cannot be read")
    return host, port, certificate


def _within(seconds: float, work: Callable[[], _T], sentence: str) -> _T:
    """What `work` gives; nothing bounds how long names are resolved.

    Raises:
        TunnelError: As `work`; or with `sentence` when it takes longer.
    """
    answers: queue.SimpleQueue[_T | TunnelError] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put(work())
        except TunnelError as error:
            answers.put(error)

    threading.Thread(target=run, name="make-tunnel", daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise TunnelError(sentence) from None
    if isinstance(answer, TunnelError):
        raise answer
    return answer


class _Frpc(tunneling.Tunnel):
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
