"""A tunnel by Gradio's share service, where every wait is bounded.

The service is asked before Gradio is imported, which takes seconds: without a network that is said
at once.
"""

from __future__ import annotations

import http.client
import json
import queue
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.request import urlopen

from webui.errors import WebuiError

if TYPE_CHECKING:
    from webui.ui.frpc import Frpc

SHARE_SERVICE = "https://api.gradio.app/v3/tunnel-request"
"""Where Gradio asks for a server (`gradio.networking.GRADIO_API_SERVER`)."""

SECONDS_TO_ASK = 5.0
"""How long the share service may take to name a server."""

SECONDS_TO_FETCH = 60.0
"""How long the program may take to come, the first time."""

_MOST_BYTES = 64 * 1024
_T = TypeVar("_T")
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}")


class TunnelError(WebuiError):
    """There is no tunnel; the message says why, without a full stop."""

    status = 503


class GradioTunnel:
    """A tunnel from an address in public to a port of this machine. Safe to use from threads.

    Args:
        folder: Gets the certificate of the share service's server.
        service: Where the share service is asked for a server.
        program: Gives the program that makes the tunnel, or raises `TunnelError`; by default
            Gradio's own, fetched and checked.
    """

    def __init__(
        self,
        folder: Path,
        *,
        service: str = SHARE_SERVICE,
        program: Callable[[], Path] | None = None,
    ) -> None:
        self._folder = folder
        self._service = service
        self._program = program or _fetched
        self._lock = threading.Lock()
        self._frpc: Frpc | None = None
        self._closed = False

    def open(self, port: int) -> str:
        """Makes the tunnel; gives its address, such as "https://0a1b2c.gradio.live".

        Raises:
            TunnelError: It could not be made within the time for each step, or was closed.
        """
        host, remote_port, certificate = _within(
            SECONDS_TO_ASK, lambda: _offered(self._service), _NO_SERVICE
        )
        program = _within(SECONDS_TO_FETCH, self._program, _NO_PROGRAM)
        from webui.ui.frpc import Frpc

        frpc = Frpc(host, remote_port, port, self._written(certificate))
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


_NO_SERVICE = "Gradio's share service cannot be reached (is there a network?)"
_NO_PROGRAM = "the tunnel's program could not be fetched"


def _fetched() -> Path:
    from webui.ui.frpc import fetched_program

    return fetched_program()


def _offered(service: str) -> tuple[str, int, str]:
    """Host, port and certificate of the server that the share service names.

    Raises:
        TunnelError: It cannot be asked, or its answer cannot be read.
    """
    try:
        with urlopen(service, timeout=SECONDS_TO_ASK) as answer:
            offer: Any = json.loads(answer.read(_MOST_BYTES))[0]
        host, port, certificate = str(offer["host"]), int(offer["port"]), str(offer["root_ca"])
    except (OSError, http.client.HTTPException):
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
        except Exception:  # noqa: BLE001  (whatever it is: there will be no answer)
            answers.put(TunnelError(sentence))

    threading.Thread(target=run, name="make-tunnel", daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise TunnelError(sentence) from None
    if isinstance(answer, TunnelError):
        raise answer
    return answer
