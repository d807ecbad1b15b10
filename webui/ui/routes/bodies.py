"""Reading what is sent along with a request, up to a limit."""

from __future__ import annotations

from fastapi import Request


async def read_up_to(request: Request, most: int) -> bytes:
    """The request's body, of a larger one as much as is one byte too long.

    So whoever reads it says in their own sentence that it is too large, without all of it having
    been held in memory. It is taken to its end all the same: a browser shows no answer that comes
    before. How long that can be is limited by `webui.ui.front`.
    """
    body = bytearray()
    async for piece in request.stream():
        body += piece[: most + 1 - len(body)]
    return bytes(body)
