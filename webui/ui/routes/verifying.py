"""What a picture's file tells about how it was made, for everybody who has the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Request

from webui.errors import BadRequestError
from webui.ui.front import MAX_FILE_BYTES
from webui.ui.routes.bodies import read_up_to

if TYPE_CHECKING:
    from webui.provenance.certificate import Trust


def add_verify_routes(app: FastAPI, trust: Callable[[], Trust | None]) -> None:
    """Adds `POST /verify` (a picture's file as the body).

    Answers `webui.provenance.report.to_json`. The file is looked at in memory and kept nowhere.

    Args:
        trust: Whose signatures are known; `None` before anything was signed.
    """
    # The pixels of a large picture take some hundred megabytes: never those of several at once.
    one_at_a_time = CapacityLimiter(1)

    def look(data: bytes) -> dict[str, Any]:
        # What reads credentials takes 40 MB of memory, and most who make pictures never check one.
        from webui.provenance.report import to_json
        from webui.provenance.verify import verify

        return to_json("", verify(data, trust()))

    @app.post("/verify")
    async def verify_sent(request: Request) -> dict[str, Any]:
        data = await read_up_to(request, MAX_FILE_BYTES)
        if len(data) > MAX_FILE_BYTES:
            most = MAX_FILE_BYTES // 1024**2
            raise BadRequestError(f"The file is larger than {most} MiB.")
        return await to_thread.run_sync(look, data, limiter=one_at_a_time)
