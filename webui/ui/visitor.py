"""Who asks, as the front has found out."""

from __future__ import annotations

from starlette.requests import HTTPConnection, Request

from webui.errors import WebuiError
from webui.generator import Session
from webui.levels import STRICT, as_level
from webui.ui.sessions import LOCAL, SESSION_COOKIE


class NotHereError(WebuiError):
    """What belongs to the machine's owner was asked for from elsewhere."""

    status = 403


def session_of(connection: HTTPConnection, level: object = STRICT) -> Session:
    """The session behind a request that came through `webui.ui.front.Front`.

    Args:
        level: The filter level it asks for; what is none is strict.
    """
    remote = not connection.scope.get(LOCAL, False)
    return Session(id=connection.cookies[SESSION_COOKIE], remote=remote, level=as_level(level))


def at_this_machine(request: Request) -> None:
    """A FastAPI dependency for routes that only the machine's owner may use.

    Raises:
        NotHereError: The request comes from another machine, or through a tunnel.
    """
    if not request.scope.get(LOCAL, False):
        raise NotHereError("This can only be used on the machine that Easel runs on.")
