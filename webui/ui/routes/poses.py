"""Files of poses: read into the pose editor, and written from it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from webui.interchange.openpose import MAX_BYTES, read_openpose, write_openpose
from webui.poses import MAX_SIDE, Pose
from webui.ui.routes.bodies import read_up_to

_Side = Annotated[int, Query(ge=8, le=MAX_SIDE)]


def add_poses_routes(app: FastAPI) -> None:
    """Adds `POST /poses/read` (a file as the body) and `POST /poses/write` (a pose as JSON).

    The first answers {pose, report}: a sentence for each thing that was changed or left out. The
    second answers OpenPose's JSON.
    """

    def read_now(data: bytes, width: int, height: int) -> dict[str, Any]:
        read = read_openpose(data, width=width, height=height)
        return {"pose": read.pose.model_dump(mode="json"), "report": list(read.report)}

    @app.post("/poses/read")
    async def read(request: Request, width: _Side, height: _Side) -> dict[str, Any]:
        """Takes the canvas of the picture to be made, for a file that does not tell its own."""
        data = await read_up_to(request, MAX_BYTES)
        return await run_in_threadpool(read_now, data, width, height)

    @app.post("/poses/write")
    def write(pose: Pose) -> Response:
        return Response(write_openpose(pose), media_type="application/json")
