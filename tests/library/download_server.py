"""A server on loopback that gives files the way bad and good ones do."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Served:
    """A file, and how it is given.

    Attributes:
        cuts: After how many bytes the next answers break off, one after the other.
        statuses: What the next answers say instead.
        length: What is said of the length instead of the truth; `None`: chunked, without a word.
        ranges: Whether parts are given.
        slow: Waits before each piece, in seconds.
    """

    data: bytes
    etag: str = '"one"'
    cuts: list[int] = field(default_factory=list[int])
    statuses: list[tuple[int, dict[str, str]]] = field(
        default_factory=list[tuple[int, dict[str, str]]]
    )
    length: int | None = -1
    endless: bool = False
    ranges: bool = True
    headers: dict[str, str] = field(default_factory=dict[str, str])
    redirect: str = ""
    slow: float = 0.0


@dataclass
class Asked:
    """A request that came in."""

    path: str
    headers: dict[str, str]


class DownloadServer:
    """What is served, by path, and what was asked for."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self.files: dict[str, Served] = {}
        self.asked: list[Asked] = []
        self.change: Callable[[Asked], None] = lambda _: None

    def put(self, path: str, data: bytes, **how: Any) -> str:
        """Serves bytes; gives their address."""
        self.files[path] = Served(data, **how)
        return self.address + path

    def put_json(self, path: str, content: Any) -> str:
        return self.put(path, json.dumps(content).encode())

    def put_repo(self, repo: str, files: dict[str, bytes], **about: Any) -> None:
        """A repository as the hub has it; large files redirect to another path."""
        siblings: list[dict[str, Any]] = []
        for path, data in files.items():
            row: dict[str, Any] = {"rfilename": path, "size": len(data)}
            address = f"/{repo}/resolve/c0ffee/{path}"
            if path.endswith(".json"):
                self.put(address, data)
            else:
                digest = hashlib.sha256(data).hexdigest()
                row["lfs"] = {"sha256": digest, "size": len(data)}
                far = self.put(f"/far/{repo}/{path}", data)
                linked = {"x-linked-etag": f'"{digest}"', "x-linked-size": str(len(data))}
                self.put(address, b"", redirect=far, headers=linked)
            siblings.append(row)
        content = {"sha": "c0ffee", "siblings": siblings, **about}
        self.put_json(f"/api/models/{repo}/revision/main?blobs=true", content)

    def ranges_asked(self) -> list[str]:
        return [asked.headers.get("range", "") for asked in self.asked]


@contextmanager
def serving() -> Generator[DownloadServer, None, None]:
    """Serves until the context ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            _answer(self, server)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server = DownloadServer(http.server_address[1])
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def _answer(handler: BaseHTTPRequestHandler, server: DownloadServer) -> None:
    asked = Asked(handler.path, {k.lower(): v for k, v in handler.headers.items()})
    server.asked.append(asked)
    server.change(asked)
    served = server.files.get(handler.path)
    handler.close_connection = True
    if served is None:
        _say(handler, 404, {"content-length": "0"})
        return
    if served.statuses:
        status, headers = served.statuses.pop(0)
        _say(handler, status, {"content-length": "0", **headers})
        return
    if served.redirect:
        headers = {"location": served.redirect, "content-length": "0", **served.headers}
        _say(handler, 302, headers)
        return
    begin, status = _begin(asked, served)
    headers = {"etag": served.etag, "connection": "close", **served.headers}
    if status == 416:
        _say(handler, 416, {"content-range": f"bytes */{len(served.data)}", "content-length": "0"})
        return
    body = served.data[begin:]
    if status == 206:
        headers["content-range"] = f"bytes {begin}-{len(served.data) - 1}/{len(served.data)}"
    if served.length is not None:
        said = len(body) if served.length < 0 else served.length
        headers["content-length"] = str(said)
    _say(handler, status, headers)
    _send(handler, served, body)


def _begin(asked: Asked, served: Served) -> tuple[int, int]:
    wanted = asked.headers.get("range", "")
    same = asked.headers.get("if-range") in (None, served.etag)
    if not wanted or not served.ranges or not same:
        return 0, 200
    begin = int(wanted.removeprefix("bytes=").partition("-")[0])
    return (begin, 206) if begin < len(served.data) else (begin, 416)


def _say(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str]) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()


def _send(handler: BaseHTTPRequestHandler, served: Served, body: bytes) -> None:
    most = served.cuts.pop(0) if served.cuts else len(body)
    pause = threading.Event()
    try:
        for start in range(0, min(most, len(body)), 16384):
            if served.slow:
                pause.wait(served.slow)
            handler.wfile.write(body[start : min(start + 16384, most)])
        while served.endless:
            handler.wfile.write(b"x" * 65536)
    except OSError:
        pass
