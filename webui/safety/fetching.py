"""Answers of a server that is not ours: bounded, from safe addresses, asked for seldom."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any, Generic, TypeVar, cast

import httpx2

ANSWER_SECONDS = 15.0
"""How long an answer may take from its first byte to its last."""

KEPT_SECONDS = 3600.0
"""How long a document is taken for the present one."""

MAX_ANSWER_BYTES = 256 * 1024
"""Longest answer that is read."""

READ_SECONDS = 5.0
"""How long a server may be silent."""

RETRY_SECONDS = 60.0
"""How long a server is left alone after it was asked for a document."""

_OK = 200

_Document = TypeVar("_Document")


class RefusalError(Exception):
    """Why an answer is not used, for the log: it quotes nothing that came from outside."""


class Kept(Generic[_Document]):
    """A document of a server's: fetched when it is needed, once a minute at the most."""

    def __init__(self, fetch: Callable[[], _Document], ticks: Callable[[], float]) -> None:
        self._fetch = fetch
        self._ticks = ticks
        self._lock = threading.Lock()
        self._document: _Document | None = None
        self._fetched = self._tried = float("-inf")

    def get(self, suits: Callable[[_Document], bool] = lambda _: True) -> _Document:
        """The document, fetched anew when it is old or does not suit.

        Raises:
            RefusalError: There is none, and it is too early to ask again.
            Exception: It could not be fetched or read.
        """
        with self._lock:
            now = self._ticks()
            if self._document is None or now - self._fetched >= KEPT_SECONDS:
                self._document = None
            suitable = self._document is not None and suits(self._document)
            if not suitable and now - self._tried >= RETRY_SECONDS:
                self._tried = now
                self._document, self._fetched = self._fetch(), now
            if self._document is None:
                raise RefusalError("the server was asked less than a minute ago, in vain")
            return self._document


class Bounded(httpx2.BaseTransport):
    """Gives whole answers only: of a bounded size, and within a bounded time."""

    def __init__(self, ticks: Callable[[], float]) -> None:
        self._inner = httpx2.HTTPTransport()
        self._ticks = ticks

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """The answer's status and content; everything else of it is left out."""
        ends = self._ticks() + ANSWER_SECONDS
        # What is small when packed need not be small.
        request.headers["accept-encoding"] = "identity"
        answer = self._inner.handle_request(request)
        body = bytearray()
        with closing(answer):
            for piece in cast(httpx2.SyncByteStream, answer.stream):
                body += piece
                if len(body) > MAX_ANSWER_BYTES:
                    raise RefusalError("an answer of the server is too long")
                if self._ticks() > ends:
                    raise RefusalError("an answer of the server took too long")
        return httpx2.Response(answer.status_code, content=bytes(body))


def fetch(transport: Bounded, address: str) -> dict[str, Any]:
    """The JSON object at an address; redirects are not followed.

    Raises:
        RefusalError: There is no such object, or it is too long or too slow.
        Exception: It could not be fetched or read.
    """
    with httpx2.Client(transport=transport, timeout=READ_SECONDS, follow_redirects=False) as client:
        return object_in(client.get(address))


def object_in(answer: httpx2.Response) -> dict[str, Any]:
    """The JSON object an answer holds."""
    if answer.status_code != _OK:
        raise RefusalError("the server answers with an error")
    content = answer.json()
    if not isinstance(content, dict):
        raise RefusalError("the server answers with something else than an object")
    return cast(dict[str, Any], content)
