"""Listening, starting, opening the browser and ending.

The address is bound and answers before Gradio is imported; Gradio is imported and the page built
in a thread while the starting page is shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import ipaddress
import logging
import os
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette

from webui.errors import StartError
from webui.jobs import Jobs
from webui.library.checkpoints import CheckpointShelf
from webui.library.controlnets import ControlNetShelf
from webui.library.history import History
from webui.library.loras import LoraShelf
from webui.library.presets import PresetShelf
from webui.library.uploads import Uploads
from webui.library.wordlists import WordLists
from webui.settings import ServerSettings
from webui.ui.front import Front, Status, known_names

if TYPE_CHECKING:
    from webui.provenance.certificate import Trust

GRACE_SECONDS = 1
"""How long open connections may go on once the server is told to end."""

_LAST_PORT = 65_535
_M_ARENA_MAX = -8
"""Of glibc's malloc.h."""

_PORTS_TRIED = 20


@dataclass(frozen=True)
class Backend:
    """What the page talks to.

    Attributes:
        status: How far the engine is.
        annotators: Folders with the weights of what draws hints.
        trust: Whose signatures are known; `None` before anything was signed.
    """

    jobs: Jobs
    status: Callable[[], Status]
    models: CheckpointShelf
    loras: LoraShelf
    controlnets: ControlNetShelf
    annotators: tuple[Path, ...]
    history: History
    presets: PresetShelf
    words: WordLists
    uploads: Uploads
    trust: Callable[[], Trust | None]


@dataclass(frozen=True)
class Listener:
    """A bound, listening socket and the address to open in a browser."""

    socket: socket.socket
    address: str


def bind(settings: ServerSettings) -> Listener:
    """Takes the port; connections wait in its backlog until `serve` answers them.

    Raises:
        StartError: The port is taken or not allowed, or the address is not this machine's.
    """
    if not 0 <= settings.port <= _LAST_PORT:
        raise StartError(f"Port {settings.port} does not exist: choose one from 1024 to 65535.")
    try:
        bound = _listen(settings.host, settings.port)
    except (OSError, UnicodeError) as error:
        raise StartError(_why_not(error, settings)) from None
    return Listener(socket=bound, address=_address(settings.host, bound.getsockname()[1]))


def serve(
    listener: Listener,
    settings: ServerSettings,
    backend: Backend,
    *,
    announce: Callable[[str], object] = print,
) -> None:
    """Serves the page until Ctrl+C or SIGTERM, ends the jobs and returns.

    The engine behind the jobs is the caller's to close.

    Args:
        announce: Is given the line with the address, once.

    Raises:
        StartError: The page could not be built; the log has the details.
    """
    names = known_names(settings.host, *settings.allowed_hosts)
    front = Front(names=names, status=backend.status, build=lambda: _in_thread(backend))
    server = _Server(front, backend.jobs)
    announce(f"Easel: {listener.address}")
    if settings.open_browser and _has_browser():
        threading.Thread(target=webbrowser.open, args=(listener.address,), daemon=True).start()
    with _ended_by_signals(server):
        server.run(sockets=[listener.socket])
    if server.failure is not None:
        raise StartError("The page could not be built: the lines above say why.")


def share_one_arena() -> None:
    """Makes all threads take memory from one heap, where the C library is glibc.

    To be called before the first thread is started. By default it gives threads heaps of their
    own, which the short-lived ones that follow jobs leave behind in pieces: with 300 pictures the
    process grew by some 3 % in place of 0.6 %.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


class _Server(uvicorn.Server):
    """A uvicorn server that runs the page beside the connections.

    Attributes:
        failure: What kept the page from being built, once that is known.
    """

    def __init__(self, front: Front, jobs: Jobs) -> None:
        super().__init__(
            uvicorn.Config(
                front,
                # Behind a proxy that is not configured, anyone can write these headers.
                proxy_headers=False,
                server_header=False,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        self.failure: BaseException | None = None
        self._front = front
        self._jobs = jobs

    async def main_loop(self) -> None:
        """Serves until told to end."""
        page = asyncio.create_task(self._front.run_page())
        page.add_done_callback(self._page_ended)
        await super().main_loop()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends jobs and connections, streams of events included, after the grace period."""
        # Tabs are told how their jobs end and then close their streams in order.
        self._jobs.close()
        # Every open tab holds one more stream, which never ends by itself: cutting it is no error.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets)

    def _page_ended(self, page: asyncio.Task[None]) -> None:
        if page.cancelled() or (failure := page.exception()) is None:
            return
        self.failure = failure
        logging.getLogger(__name__).error("the page could not be built", exc_info=failure)
        self.should_exit = True


async def _in_thread(backend: Backend) -> Starlette:
    """Imports Gradio and builds the page off the loop, which goes on answering meanwhile.

    The thread is a daemon: `asyncio.to_thread` would keep Ctrl+C waiting for the import's end.
    """
    loop = asyncio.get_running_loop()
    built: asyncio.Future[Starlette] = loop.create_future()

    def settle(page: Starlette | None, error: BaseException | None) -> None:
        if built.cancelled():
            return
        if page is not None:
            built.set_result(page)
        elif error is not None:
            built.set_exception(error)

    def build() -> None:
        page, error = None, None
        try:
            os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
            from webui.ui.app import build_app

            page = build_app(backend)
        except Exception as raised:  # noqa: BLE001  (handed to whoever awaits the page)
            error = raised
        # The loop may be closed already when the server was ended during the import.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, page, error)

    threading.Thread(target=build, name="build-page", daemon=True).start()
    return await built


@contextlib.contextmanager
def _ended_by_signals(server: uvicorn.Server) -> Generator[None, None, None]:
    """Makes Ctrl+C and SIGTERM end the server and nothing else.

    uvicorn raises the signal once more after it has ended, which by default would end the
    process before the caller has closed the engine.
    """

    def end(_number: int, _frame: object) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listen(host: str, port: int) -> socket.socket:
    family, *_, where = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    bound = socket.create_server(where[:2], family=family, backlog=128)
    # Only where the protocol is named does asyncio send at once; else most answers take 40 ms.
    return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=bound.detach())


def _why_not(error: OSError | UnicodeError, settings: ServerSettings) -> str:
    host, port = settings.host, settings.port
    match error:
        case OSError(errno=errno.EADDRINUSE):
            return (
                f"Port {port} is in use: end the program that has it, or start with"
                f" --port {_free_port(host, port)}."
            )
        case OSError(errno=errno.EACCES | errno.EPERM):
            return f"Port {port} may not be used by this account: choose one above 1024."
        case _:
            return f"{host!r} is not an address of this machine: use --host 127.0.0.1."


def _free_port(host: str, taken: int) -> int:
    """The first free port after `taken`."""
    for port in range(taken + 1, min(taken + _PORTS_TRIED, _LAST_PORT) + 1):
        with contextlib.suppress(OSError), _listen(host, port):
            return port
    return 0


def _address(host: str, port: int) -> str:
    """The address to open: listening everywhere includes this machine."""
    try:
        everywhere = ipaddress.ip_address(host).is_unspecified
    except ValueError:
        everywhere = not host
    name = "127.0.0.1" if everywhere else host
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def _has_browser() -> bool:
    """Whether a browser window can be shown; a text browser would take the console over."""
    if sys.platform in ("win32", "darwin"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME"))
