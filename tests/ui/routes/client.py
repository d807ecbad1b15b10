"""A client of our own routes that comes as the front would let it through."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.types import Receive, Scope, Send

from webui.ui.front import LOCAL, SESSION_COOKIE
from webui.ui.routes.answers import answer_errors


def client_of(app: FastAPI, *, local: bool = True, session: str = "me") -> TestClient:
    """Asks `app` as a session at this machine, or from elsewhere."""

    async def fronted(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, LOCAL: local}, receive, send)

    answer_errors(app)
    return TestClient(fronted, cookies={SESSION_COOKIE: session})
