from __future__ import annotations

import asyncio
import http.client
import json
import signal
import socket
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from urllib.request import urlopen

import pytest

from tests.fakes import FakeGenerator
from tests.ui.fake_server import READY
from tests.ui.served import Served, start
from tests.ui.stand_in import StandInGate
from webui.cli.building import build_backend
from webui.errors import StartError
from webui.jobs import Jobs
from webui.settings import ServerSettings, Settings
from webui.ui.server import bind, serve

SLOW_STEP = 2.0
HEAVY = ("diffusers", "gradio", "onnxruntime", "torch", "transformers")


@pytest.fixture
def server(tmp_path: Path) -> Generator[Served, None, None]:
    log = tmp_path / "stderr.txt"
    arguments = ("tests.ui.fake_server", str(tmp_path / "out"), "0", str(SLOW_STEP))
    served = start(arguments, log=log)
    yield served
    served.kill()


def stderr_of(tmp_path: Path) -> str:
    return (tmp_path / "stderr.txt").read_text()


def test_a_taken_port_is_one_sentence_naming_a_free_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartError) as caught:
            bind(ServerSettings(port=port))
    message = caught.value.message
    assert message.startswith(f"Port {port} is in use: ")
    suggested = int(message.rpartition("--port ")[2].rstrip("."))
    with bind(ServerSettings(port=suggested)).socket as free:
        assert free.getsockname()[1] == suggested


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (ServerSettings(port=100_000), "Port 100000 does not exist"),
        (ServerSettings(host="203.0.113.7", port=0), "'203.0.113.7' is not an address"),
        (ServerSettings(host="no such host", port=0), "'no such host' is not an address"),
    ],
)
def test_an_address_that_cannot_be_had_is_one_sentence(
    settings: ServerSettings, words: str
) -> None:
    with pytest.raises(StartError, match=words):
        bind(settings)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:"),
        ("0.0.0.0", "http://127.0.0.1:"),
        ("localhost", "http://localhost:"),
    ],
)
def test_the_printed_address_can_be_opened(host: str, address: str) -> None:
    listener = bind(ServerSettings(host=host, port=0))
    with listener.socket as bound:
        assert listener.address == f"{address}{bound.getsockname()[1]}"
        socket.create_connection(("127.0.0.1", bound.getsockname()[1])).close()


def test_the_starting_page_answers_before_anything_heavy_is_there_and_the_signal_ends_it_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Imports that take seconds are here ones that never end."""
    for name in HEAVY:
        (tmp_path / "heavy" / name).mkdir(parents=True)
        endless = "import threading\n\nthreading.Event().wait()\n"
        (tmp_path / "heavy" / name / "__init__.py").write_text(endless)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "heavy"))
    outputs = str(tmp_path / "out")
    arguments = ("webui", "serve", "--port", "0", "--no-browser", "--outputs", outputs)
    server = start(arguments, log=tmp_path / "stderr.txt")
    try:
        with urlopen(server.address, timeout=60) as answer:
            assert "Easel is starting" in answer.read().decode()
        assert not server.status()["page"]
        server.end(signal.SIGTERM)
        assert server.process.returncode == 0
        assert stderr_of(tmp_path) == ""
    finally:
        server.kill()


def test_answers_on_an_open_connection_are_not_held_back() -> None:
    """Nagle's algorithm would wait 40 ms with most of them, for the client's word."""
    held_back: list[bool] = []

    async def accepted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = writer.get_extra_info("socket")
        held_back.append(not connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    async def story() -> None:
        listener = bind(ServerSettings(port=0))
        server = await asyncio.start_server(accepted, sock=listener.socket)
        async with server:
            reader, writer = await asyncio.open_connection(*listener.socket.getsockname())
            await reader.read()
            writer.close()

    asyncio.run(story())
    assert held_back == [False]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_tabs_open_and_a_job_running(
    server: Served, tmp_path: Path, number: signal.Signals
) -> None:
    server.wait_for()
    tab = Tab(server.port)
    tab.asks("generate", {"tab": "one", "request": {"steps": 150}})
    assert tab.hears("Step 1 of 150"), "the job has to be running"
    server.end(number)
    assert server.process.returncode == 0
    assert stderr_of(tmp_path) == ""


def test_a_page_that_cannot_be_built_ends_the_server_with_one_sentence(tmp_path: Path) -> None:
    settings = ServerSettings(port=0, open_browser=False)
    jobs = Jobs(FakeGenerator(tmp_path))
    said: list[str] = []
    whole = build_backend(Settings(outputs=tmp_path), jobs, lambda: READY, StandInGate().answer)
    backend = replace(whole, history=cast(Any, None))
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(StartError, match="could not be built"):
        serve(bind(settings), settings, backend, announce=said.append)
    assert said[0].startswith("Easel: http://127.0.0.1:")
    assert signal.getsignal(signal.SIGTERM) is handler
    jobs.close()


class Tab:
    """What a browser's tab says to Gradio, without a browser."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._cookie = ""
        page = self._ask("GET", "/")
        self._cookie = (page.getheader("set-cookie") or "").partition(";")[0]
        page.read()
        self._config: dict[str, Any] = json.load(self._ask("GET", "/config"))
        self._alive = self._ask("GET", "/gradio_api/heartbeat/tab")

    def asks(self, event: str, data: dict[str, Any]) -> None:
        """Sends what the page's script sends with that event."""
        found = next(d for d in self._config["dependencies"] if d["targets"][0][1] == event)
        body: dict[str, Any] = {"session_hash": "tab", "fn_index": found["id"], "data": []}
        body["event_data"] = data
        assert self._ask("POST", "/gradio_api/queue/join", json.dumps(body)).status == 200

    def hears(self, text: str) -> bool:
        """Whether that text comes along the stream of events."""
        events = self._ask("GET", "/gradio_api/queue/data?session_hash=tab")
        return any(text in line.decode() for line in events)

    def _ask(self, method: str, path: str, body: str | None = None) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        headers = {"cookie": self._cookie, "content-type": "application/json"}
        connection.request(method, path, body=body, headers=headers)
        return connection.getresponse()
