"""A space of their own for each session's streams of events.

Gradio finds a tab's events by a `session_hash` that the tab chooses: who knows another's could
read its events, end them, or put own ones in between. Here each session's hashes are turned into
others before Gradio sees them, by a way that depends on the session's cookie.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from webui.ui.refusals import refused

_JOIN = "/gradio_api/queue/join"
_DATA = "/gradio_api/queue/data"
_HEARTBEAT = "/gradio_api/heartbeat/"

_EVENTS = (0, 1, 2)
"""Gradio's numbers of what the page can send: generate, resume, stop (`webui.ui.page`)."""

_KEPT = ("data", "event_data", "fn_index", "trigger_id")
"""What the page's script sends with an event; Gradio would take more from whoever asks."""


def of_own(page: ASGIApp, session: str) -> ASGIApp:
    """`page` as that session sees it."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path == _JOIN:
            try:
                body = _joined(await Request(scope, receive).body(), session)
            except (ValueError, RecursionError):
                await refused("This event cannot be read.", 400)(scope, receive, send)
                return
            except ClientDisconnect:
                return
            await page(_with_length(scope, len(body)), _again(body, receive), send)
            return
        if path == _DATA:
            given = parse_qsl(scope["query_string"].decode("latin-1"))
            query = [(k, _own(v, session) if k == "session_hash" else v) for k, v in given]
            scope = {**scope, "query_string": urlencode(query).encode()}
        elif path.startswith(_HEARTBEAT):
            path = _HEARTBEAT + _own(path.removeprefix(_HEARTBEAT), session)
            scope = {**scope, "path": path, "raw_path": path.encode()}
        await page(scope, receive, send)

    return answer


def _own(name: str, session: str) -> str:
    written = name.encode("utf-8", "surrogatepass")
    return hashlib.sha256(session.encode() + b"\0" + written).hexdigest()


def _joined(body: bytes, session: str) -> bytes:
    """The event with the session's own hash, and nothing in it that our script does not send.

    Raises:
        ValueError: It is no JSON object, has no hash, or is no event of the page's.
    """
    asked: Any = json.loads(body)
    if not isinstance(asked, dict):
        raise ValueError("no object")
    event = cast(dict[str, Any], asked)
    name = event.get("session_hash")
    if not isinstance(name, str):
        raise ValueError("no hash")
    # Gradio would fail over a number it does not know, and write pages about it into the log.
    number = event.get("fn_index")
    if type(number) is not int or number not in _EVENTS:
        raise ValueError("no event of the page's")
    kept = {key: event[key] for key in _KEPT if key in event}
    return json.dumps(kept | {"session_hash": _own(name, session)}).encode()


def _with_length(scope: Scope, length: int) -> Scope:
    headers = [(name, value) for name, value in scope["headers"] if name != b"content-length"]
    return {**scope, "headers": [*headers, (b"content-length", b"%d" % length)]}


def _again(body: bytes, receive: Receive) -> Receive:
    """Gives the body once more, then whatever the client does next."""
    waiting = [body]

    async def receive_again() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return receive_again
