"""Listening, starting, opening the browser and ending.

The address is bound and answers before Gradio is imported; Gradio is imported and the page built
in a thread while the starting page is shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.applications import Starlette

from webui.errors import StartError
from webui.generator import Session
from webui.jobs import Jobs
from webui.library.downloads import Downloads
from webui.library.history import History
from webui.library.offers import Offers
from webui.library.presets import PresetShelf
from webui.library.shelves import Shelves
from webui.library.wordlists import WordLists
from webui.settings import ServerSettings
from webui.standing import Answer, Question
from webui.ui.connections import config_of
from webui.ui.door import Door, make_password
from webui.ui.first import FirstModels
from webui.ui.front import Front, Status, known_names
from webui.ui.library import Library
from webui.ui.listening import Listener, bind
from webui.ui.share import Share, Tunnel, keep_shared
from webui.ui.threads import in_daemon

__all__ = ["Backend", "bind", "serve"]

if TYPE_CHECKING:
    from webui.provenance.certificate import Trust


@dataclass(frozen=True)
class Backend:
    """What the page talks to.

    Attributes:
        status: How far the engine is.
        ask: Carries a session's question to the engine's gate.
        annotators: Folders with the weights of what draws hints.
        trust: Whose signatures are known; `None` before anything was signed.
        library: Everything on the shelves, with what is known of it.
        offers: Looks at what could be downloaded.
        first: What is offered where there is only the built-in model.
        share: The share link, where one was asked for; `serve` puts it in.
    """

    jobs: Jobs
    status: Callable[[], Status]
    shelves: Shelves
    annotators: tuple[Path, ...]
    history: History
    presets: PresetShelf
    words: WordLists
    trust: Callable[[], Trust | None]
    ask: Callable[[Question, Session], Answer]
    library: Library
    offers: Offers
    downloads: Downloads
    first: FirstModels
    share: Share | None = None

    def close(self) -> None:
        """Ends what goes on in the background; the jobs are the caller's."""
        self.downloads.close()
        self.library.close()
        self.history.close()


def serve(
    listener: Listener,
    settings: ServerSettings,
    backend: Backend,
    *,
    announce: Callable[[str], object] = print,
    tunnel: Callable[[], Tunnel] | None = None,
) -> None:
    """Serves the page until Ctrl+C or SIGTERM, ends the jobs and returns.

    The engine behind the jobs is the caller's to close.

    Args:
        announce: Is given the line with the address, once; then what becomes of the share link.
        tunnel: Makes the share link's, where the settings ask for one.

    Raises:
        StartError: The page could not be built; the log has the details.
    """
    names = known_names(settings.host, *settings.allowed_hosts)
    password = settings.password or (make_password() if tunnel is not None else None)
    door = None if password is None else Door(password)
    if tunnel is not None:
        share = Share(tunnel, hours=settings.share_hours, out=lambda: _put_out(door, backend.jobs))
        backend = replace(backend, share=share)
    front = Front(
        names=names,
        status=backend.status,
        build=lambda: in_daemon(lambda: _build(backend), "build-page"),
        door=door,
        share=backend.share,
    )
    server = _Server(
        front, backend.jobs, lambda: _shared(front, backend, settings, password, announce)
    )
    announce(f"Easel: {listener.address}")
    if settings.open_browser and _has_browser():
        threading.Thread(target=webbrowser.open, args=(listener.address,), daemon=True).start()
    with _ended_by_signals(server):
        server.run(sockets=[listener.socket])
    if server.failure is not None:
        raise StartError("The page could not be built: the lines above say why.")


def _put_out(door: Door | None, jobs: Jobs) -> None:
    """Ends what visitors from elsewhere have here."""
    if door is not None:
        door.forget()
    jobs.cancel_where(lambda session: session.remote)


async def _shared(
    front: Front,
    backend: Backend,
    settings: ServerSettings,
    password: str | None,
    announce: Callable[[str], object],
) -> None:
    if backend.share is not None:
        unknown = password if settings.password is None else None
        await keep_shared(backend.share, front, unknown, announce)


class _Server(uvicorn.Server):
    """A uvicorn server that runs the page beside the connections.

    Attributes:
        failure: What kept the page from being built, once that is known.
    """

    def __init__(
        self,
        front: Front,
        jobs: Jobs,
        beside: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        """`beside`: what goes on for as long as the server does."""
        super().__init__(config_of(front))
        self.failure: BaseException | None = None
        self._front = front
        self._jobs = jobs
        self._beside = beside
        self._goes_on: asyncio.Task[None] | None = None

    async def main_loop(self) -> None:
        """Serves until told to end."""
        page = asyncio.create_task(self._front.run_page())
        page.add_done_callback(self._page_ended)
        self._goes_on = asyncio.create_task(self._beside())
        await super().main_loop()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends jobs and connections, streams of events included, after the grace period."""
        # Tabs are told how their jobs end and then close their streams in order.
        self._jobs.close()
        # Every open tab holds one more stream, which never ends by itself: cutting it is no error.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        if self._goes_on is not None:
            self._goes_on.cancel()
            await asyncio.gather(self._goes_on, return_exceptions=True)
        await super().shutdown(sockets)

    def _page_ended(self, page: asyncio.Task[None]) -> None:
        if page.cancelled() or (failure := page.exception()) is None:
            return
        self.failure = failure
        logging.getLogger(__name__).error("the page could not be built", exc_info=failure)
        self.should_exit = True


def _build(backend: Backend) -> Starlette:
    """Imports Gradio and builds the page, off the loop, which goes on answering meanwhile."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    from webui.ui.app import build_app

    return build_app(backend)


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


def _has_browser() -> bool:
    """Whether a browser window can be shown; a text browser would take the console over."""
    if sys.platform in ("win32", "darwin"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME"))
