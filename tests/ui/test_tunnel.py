from __future__ import annotations

import http.server
import json
import socket
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, cast
from urllib.request import urlopen

import pytest
from gradio import networking, tunneling

from tests.ui.served import ROOT
from tests.work import finite
from webui.ui import frpc, tunnel
from webui.ui.tunnel import SHARE_SERVICE, GradioTunnel, TunnelError


@contextmanager
def service(answer: object) -> Generator[str, None, None]:
    """A share service at this machine that answers with that."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def offer(host: str = "tunnel.example") -> list[dict[str, object]]:
    return [{"host": host, "port": 7000, "root_ca": "a certificate"}]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """What stands in for `frpc`."""
    path = tmp_path / "frpc"
    command = f'cd "{ROOT}" && exec "{sys.executable}" -m tests.ui.stand_in_tunnel "$@"'
    path.write_text(f"#!/bin/sh\n{command}\n")
    path.chmod(0o755)
    return path


def test_gradio_asks_the_same_service() -> None:
    assert networking.GRADIO_API_SERVER == SHARE_SERVICE


def test_a_tunnel_leads_to_the_port_until_it_is_closed(tmp_path: Path, program: Path) -> None:
    with service(offer()) as address, service("here") as page:
        opened = GradioTunnel(tmp_path, service=address, program=lambda: program)
        public = opened.open(int(page.rpartition(":")[2].strip("/")))
        assert public.startswith("https://shared.localhost:")
        port = int(public.rpartition(":")[2])
        with urlopen(f"http://127.0.0.1:{port}", timeout=60) as answer:
            assert json.load(answer) == "here"
        # By now it has written more than a pipe holds, and still passes on.
        with urlopen(f"http://127.0.0.1:{port}", timeout=60) as answer:
            assert json.load(answer) == "here"
        assert opened.is_open()
        assert (tmp_path / "certificate.pem").read_text() == "a certificate"
        opened.close()
        assert not opened.is_open()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        assert tunneling.CURRENT_TUNNELS == []


def test_without_a_network_that_is_said_before_anything_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(TunnelError, match="cannot be reached"):
        GradioTunnel(tmp_path, service="http://127.0.0.1:9/", program=unasked).open(1)


def unasked() -> NoReturn:
    raise AssertionError("The program was asked for.")


def test_a_service_that_does_not_answer_is_not_waited_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnel, "SECONDS_TO_ASK", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with finite(), pytest.raises(TunnelError, match="cannot be reached"):
            GradioTunnel(tmp_path, service=address).open(1)


@pytest.mark.parametrize(
    "answer",
    [[], {}, "no", [{"host": "a.example"}], [{"host": "--flag x", "port": 1, "root_ca": ""}]],
    ids=range(5),
)
def test_a_service_that_answers_something_else_is_a_sentence(
    tmp_path: Path, answer: object
) -> None:
    with service(answer) as address, pytest.raises(TunnelError, match="cannot be read"):
        GradioTunnel(tmp_path, service=address).open(1)


@pytest.mark.parametrize(
    ("host", "seconds", "words"),
    [("refusing.example", 20.0, "could not log in"), ("silent.example", 0.5, "no address")],
)
def test_a_program_that_fails_or_says_nothing_is_ended(
    tmp_path: Path,
    program: Path,
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    seconds: float,
    words: str,
) -> None:
    monkeypatch.setattr(frpc, "SECONDS_TO_OPEN", seconds)
    with service(offer(host)) as address:
        opened = GradioTunnel(tmp_path, service=address, program=lambda: program)
        with pytest.raises(TunnelError, match=words):
            opened.open(1)
        assert not opened.is_open()


def test_a_tunnel_that_was_closed_is_not_opened(tmp_path: Path, program: Path) -> None:
    with service(offer()) as address:
        opened = GradioTunnel(tmp_path, service=address, program=lambda: program)
        opened.close()
        with pytest.raises(TunnelError, match="stopped"):
            opened.open(1)


def test_a_program_that_is_not_gradios_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "frpc"
    path.write_bytes(b"something else")

    def fetch() -> None:
        path.write_bytes(b"something else again")

    monkeypatch.setattr(tunneling, "BINARY_PATH", str(path))
    monkeypatch.setattr(cast(Any, tunneling).Tunnel, "download_binary", staticmethod(fetch))
    with pytest.raises(TunnelError, match="not the one that Gradio names"):
        frpc.fetched_program()
    assert not path.exists()


def test_a_program_that_cannot_be_fetched_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "frpc"

    def fetch() -> None:
        path.write_bytes(b"half of it")
        raise OSError("the line went dead")

    monkeypatch.setattr(tunneling, "BINARY_PATH", str(path))
    monkeypatch.setattr(cast(Any, tunneling).Tunnel, "download_binary", staticmethod(fetch))
    with pytest.raises(TunnelError, match="could not be fetched"):
        frpc.fetched_program()
    assert not path.exists()
