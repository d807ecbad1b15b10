"""How much a request may bring, and how many large ones are taken at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from webui.ui.refusals import refused

MAX_BODY_BYTES = 1024**2
"""Largest body taken, where it is no file: a request is text."""

MAX_FILE_BYTES = 64 * 1024**2
"""Largest file that can be brought in."""

FILES = frozenset({"/read", "/presets/import", "/uploads", "/poses/read", "/verify"})
"""Where files are brought in."""

MAX_HEAD_BYTES = 32 * 1024
"""Of the address and all headers."""

WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})

FILES_AT_ONCE = 2
"""Files that are held in memory at the same time, of those at this machine and of all others."""

SECONDS_IN_LINE = 60.0
"""How long a file waits for its turn."""


def head_refusal(scope: Scope) -> Response | None:
    """The answer to a request whose headers are too large."""
    fields = (len(name) + len(value) for name, value in scope["headers"])
    if sum(fields) + len(scope["raw_path"]) + len(scope["query_string"]) > MAX_HEAD_BYTES:
        return refused("The headers of this request are too large.", 431)
    return None


def body_refusal(scope: Scope) -> Response | None:
    """The answer to a request whose body must not be read; `None` when it may."""
    headers = Headers(scope=scope)
    # The server would believe this word before the length.
    if "transfer-encoding" in headers:
        return refused("The length of the request must be given.", 411)
    length = headers.get("content-length", "" if scope["method"] in WRITES else "0")
    if not length.isdecimal():
        return refused("The length of the request must be given.", 411)
    most = MAX_FILE_BYTES if scope["path"] in FILES else MAX_BODY_BYTES
    if int(length) > most:
        return refused(f"This is too large: at most {most // 1024**2} MiB can be sent.", 413)
    return None


class NoTurnError(Exception):
    """Too many files are being brought in."""


class FileTurns:
    """Lets few files in at once; the others wait without being read."""

    def __init__(self) -> None:
        self._here = asyncio.Semaphore(FILES_AT_ONCE)
        self._elsewhere = asyncio.Semaphore(FILES_AT_ONCE)

    @asynccontextmanager
    async def turn(self, scope: Scope, *, local: bool) -> AsyncGenerator[None, None]:
        """Holds a place while the request lasts, where it brings a file.

        Raises:
            NoTurnError: There was none in time.
        """
        if scope["method"] not in WRITES or scope["path"] not in FILES:
            yield
            return
        # Who sits at this machine never waits for visitors.
        places = self._here if local else self._elsewhere
        try:
            await asyncio.wait_for(places.acquire(), SECONDS_IN_LINE)
        except TimeoutError:
            raise NoTurnError from None
        try:
            yield
        finally:
            places.release()
