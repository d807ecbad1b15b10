"""Requests that pages of other sites make a browser send."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, Response
from starlette.types import Scope

from webui.ui.bodies import WRITES


def is_foreign(scope: Scope) -> bool:
    """Whether a page of another site asks; other ports of this machine are other sites, too."""
    headers = Headers(scope=scope)
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return True
    origin, host = headers.get("origin"), headers.get("host", "")
    foreign = origin is not None and origin.partition("://")[2].casefold() != host.casefold()
    return foreign and scope["method"] in WRITES


def may_be_foreign(scope: Scope) -> bool:
    """Whether nothing comes of it but that the browser leaves the other page for this one."""
    mode = Headers(scope=scope).get("sec-fetch-mode")
    return scope["method"] not in WRITES and mode == "navigate"


def come_again() -> Response:
    """Makes the browser ask once more, from this page of ours: then it sends the cookie along.

    To a request from elsewhere it does not, and a new one would end the session that it has.
    """
    return HTMLResponse(_AGAIN, headers={"cache-control": "no-store"})


_AGAIN = """<!doctype html>
<meta charset="utf-8">
<title>Easel</title>
<script>
  const query = location.search ? `${location.search}&back` : "?back";
  location.replace(location.pathname + query + location.hash);
</script>
<noscript><a href="?back">Easel</a></noscript>
"""
