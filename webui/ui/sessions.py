"""Who a request belongs to: the session's cookie, and where the asker is.

Both are put into the scope by `webui.ui.front.Front`; nothing a client sends gets there.
"""

from __future__ import annotations

import re
import secrets
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers
from starlette.types import Scope

from webui.ui.hosts import FORWARDED, is_local

SESSION_COOKIE = "easel_session"
LOCAL = "easel.local"
"""Key of the scope: whether the asker is known to sit at this machine."""

SHARED = "easel.shared"
"""Key of the scope: whether the request came in where the share link's tunnel ends."""

_ID = re.compile(r"[A-Za-z0-9_-]{43}")


def new_session() -> str:
    """The id of a session that is new: 256 bits."""
    return secrets.token_urlsafe(32)


def session_in(scope: Scope) -> str | None:
    """The session's id from its cookie."""
    try:
        cookie = SimpleCookie(Headers(scope=scope).get("cookie", "")).get(SESSION_COOKIE)
    except CookieError:
        return None
    return cookie.value if cookie is not None and _ID.fullmatch(cookie.value) else None


def cookie_of(session: str, *, secure: bool) -> str:
    """The header that gives a browser its session; `secure`: for https alone."""
    flags = "; Secure" if secure else ""
    return f"{SESSION_COOKIE}={session}; Path=/; HttpOnly; SameSite=Strict{flags}"


def with_session(scope: Scope, session: str) -> Scope:
    """The scope as the page gets it: our cookie alone, and no word of a proxy's.

    `LOCAL` in it says whether the asker is known to sit at this machine.
    """
    headers = [
        (name, value)
        for name, value in scope["headers"]
        if name != b"cookie" and not FORWARDED.fullmatch(name)
    ]
    headers.append((b"cookie", f"{SESSION_COOKIE}={session}".encode()))
    local = not scope.get(SHARED, False) and is_local(scope)
    return {**scope, "headers": headers, LOCAL: local}
