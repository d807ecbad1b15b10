"""The share link: whether there is one, and its end."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, FastAPI, Request

from webui.ui.sessions import LOCAL
from webui.ui.share import Share
from webui.ui.visitor import at_this_machine


def add_share_routes(app: FastAPI, share: Share | None) -> None:
    """Adds `GET /share` and, for the owner at this machine, `POST /share/stop`.

    Both answer {active, address, expires_at (seconds since 1970), owner}; only the owner gets the
    address.
    """

    def told(request: Request) -> dict[str, Any]:
        owner = bool(request.scope.get(LOCAL, False))
        shared = None if share is None else share.shared
        return {
            "active": shared is not None,
            "address": shared.address if shared is not None and owner else None,
            "expires_at": None if shared is None else shared.expires_at,
            "owner": owner,
        }

    @app.get("/share")
    def look(request: Request) -> dict[str, Any]:
        return told(request)

    @app.post("/share/stop", dependencies=[Depends(at_this_machine)])
    def stop(request: Request) -> dict[str, Any]:
        """Closes the tunnel; visitors are out, and their jobs end."""
        if share is not None:
            share.stop()
        return told(request)
