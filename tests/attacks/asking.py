"""Requests that no browser of ours sends, and what Gradio says to them."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx

JSON = {"content-type": "application/json"}


def join(client: httpx.Client, tab: str, asked: object, **more: object) -> httpx.Response:
    """Sends an event the way the page's script does; `more` goes into the body, too."""
    if "fn_index" not in more:
        config = client.get("/config").json()
        event = more.pop("event", "generate")
        found = next(d for d in config["dependencies"] if d["targets"][0][1] == event)
        more["fn_index"] = found["id"]
    body: dict[str, object] = {"session_hash": tab, "data": [], "event_data": asked, **more}
    return client.post("/gradio_api/queue/join", content=json.dumps(body), headers=JSON)


def heard(client: httpx.Client, tab: str, seconds: float = 60) -> Iterator[dict[str, Any]]:
    """What comes along a tab's stream, until it ends or the time is over."""
    path = f"/gradio_api/queue/data?session_hash={tab}"
    deadline = time.monotonic() + seconds
    with (
        contextlib.suppress(httpx.ReadTimeout),
        client.stream("GET", path, timeout=seconds) as lines,
    ):
        for line in lines.iter_lines():
            if line.startswith("data:"):
                yield json.loads(line[5:])
            if time.monotonic() > deadline:
                return


def made(client: httpx.Client, tab: str, request: dict[str, Any]) -> dict[str, Any]:
    """The last view of a job."""
    join(client, tab, {"tab": tab, "request": request}).raise_for_status()
    for told in heard(client, tab, 60):
        if told["msg"] == "process_completed":
            return told["output"]["data"][0]
    raise AssertionError("The stream ended before the event did.")


def raw(port: int, *pieces: bytes, seconds: float = 60, pause: float = 0) -> bytes:
    """Sends bytes as they are and gives all that comes back until the server hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        with contextlib.suppress(OSError):
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
        answer = b""
        with contextlib.suppress(OSError):
            while piece := connection.recv(65536):
                answer += piece
        return answer


def first_of(port: int, sent: bytes, seconds: float = 60) -> bytes:
    """Sends bytes as they are and gives how the answer begins, without waiting for its end."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(sent)
        answer = b""
        with contextlib.suppress(OSError):
            while b"\r\n" not in answer and (piece := connection.recv(65536)):
                answer += piece
        return answer
