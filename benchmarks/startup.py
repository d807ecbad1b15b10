"""From the start of the process to the page and the engine, and back after the engine is killed."""

from __future__ import annotations

import http.client
import json
import os
import queue
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import psutil

from benchmarks.figures import Figure, Limit, seconds
from benchmarks.measure import BenchmarkError
from benchmarks.workbench import Workbench
from webui.launcher.environment import is_current, read_stamp
from webui.settings import ROOT

PATIENCE_SECONDS = 300
POLL_SECONDS = 0.05
ENGINE = "multiprocessing.spawn"
"""What the command line of a spawned engine holds."""


@dataclass(frozen=True)
class Start:
    """One life of the server; all in seconds, up to `ready` from the start of the process.

    Attributes:
        address: The line with the address is printed.
        answer: The first request is answered, with whatever page.
        page: The real page is answered.
        ready: The engine is ready.
        back: From the engine's death by kill -9 to its being ready again.
        end: From SIGTERM to the end of the process.
    """

    address: float
    answer: float
    page: float
    ready: float
    back: float
    end: float


ROWS = (
    ("address", "process start to the line with the address", Limit(2.0)),
    ("answer", "process start to the first answered request", None),
    ("page", "process start to the real page", Limit(5.0)),
    ("ready", "process start to the engine being ready", None),
    ("back", "engine killed with -9 to it being ready again", Limit(10.0)),
    ("end", "SIGTERM to the end of the process", Limit(5.0)),
)


def run(bench: Workbench) -> list[Figure]:
    """Starts the server several times, one after the other."""
    command = _command()
    outputs = bench.work / "outputs"
    starts = [observe(command, outputs) for _ in range(bench.effort.starts)]
    shown = "python " + " ".join(command[1:])
    return [
        seconds(f"{shown}: {what}", [getattr(start, name) for start in starts], asked=asked)
        for name, what, asked in ROWS
    ]


def _command() -> list[str]:
    """`launch.py` where it has set this environment up, else what it would start.

    Anything else would measure the set-up.
    """
    stamp = read_stamp()
    if stamp is not None and is_current(stamp, False, os.environ.get("UV_TORCH_BACKEND", "")):
        return [sys.executable, "launch.py"]
    return [sys.executable, "-m", "webui", "serve"]


def observe(command: Sequence[str], outputs: Path) -> Start:
    """Starts the server, watches it come up, kills its engine, and ends it.

    Raises:
        BenchmarkError: Something did not come within five minutes, or the server died.
    """
    options = ["--no-browser", "--port", str(_free_port()), "--outputs", str(outputs)]
    began = perf_counter()
    with _running([*command, *options]) as server:
        url = server.address()
        address = perf_counter() - began
        _get(url)
        answer = perf_counter() - began
        server.wait("the page", lambda: _status(url)["page"] is True)
        _get(url)
        page = perf_counter() - began
        server.wait("the engine", lambda: _status(url)["phase"] == "ready")
        ready = perf_counter() - began
        server.kill_engine()
        killed = perf_counter()
        server.wait("the engine's death", lambda: _status(url)["phase"] != "ready")
        server.wait("the engine again", lambda: _status(url)["phase"] == "ready")
        back = perf_counter() - killed
        told = perf_counter()
        server.end()
        return Start(address, answer, page, ready, back, perf_counter() - told)


@contextmanager
def running_server(outputs: Path) -> Generator[tuple[str, int], None, None]:
    """The address and process id of a server whose engine is ready.

    Raises:
        BenchmarkError: It did not come within five minutes, or died.
    """
    options = ["--no-browser", "--port", str(_free_port()), "--outputs", str(outputs)]
    with _running([sys.executable, "-m", "webui", "serve", *options]) as server:
        url = server.address()
        server.wait("the engine", lambda: _status(url)["phase"] == "ready")
        server.wait("the page", lambda: _status(url)["page"] is True)
        yield url, server.pid
        server.end()


class _Server:
    """A running server process and the lines it prints."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def address(self) -> str:
        """The first web address it prints."""
        until = perf_counter() + PATIENCE_SECONDS
        with suppress(queue.Empty):
            while line := self._lines.get(timeout=max(0.0, until - perf_counter())):
                if found := re.search(r"http://\S+", line):
                    return found[0]
        raise BenchmarkError("The server printed no address.")

    def wait(self, what: str, come: Callable[[], bool]) -> None:
        """Asks again and again until it has come."""
        until = perf_counter() + PATIENCE_SECONDS
        while not come():
            if self._process.poll() is not None or perf_counter() > until:
                raise BenchmarkError(f"The server gave up, or too long passed, before {what}.")
            time.sleep(POLL_SECONDS)

    def kill_engine(self) -> None:
        """Kills the spawned engine as `kill -9` does."""
        for child in psutil.Process(self._process.pid).children():
            if any(ENGINE in word for word in child.cmdline()):
                child.kill()
                return
        raise BenchmarkError("The server has no engine process.")

    def end(self) -> None:
        """Asks it to end and waits until it has."""
        self._process.terminate()
        try:
            self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            raise BenchmarkError("The server did not end when told to.") from None

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")


@contextmanager
def _running(command: Sequence[str]) -> Generator[_Server, None, None]:
    """The server; whatever happens, neither it nor its engine outlives the block."""
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    ) as process:
        try:
            yield _Server(process)
        finally:
            if process.poll() is None:
                for each in psutil.Process(process.pid).children(recursive=True):
                    with suppress(psutil.NoSuchProcess):
                        each.kill()
                process.kill()


def _get(url: str) -> bytes:
    """The body of an answer.

    Raises:
        BenchmarkError: The server did not answer, or with an error.
    """
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as answer:
            return answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise BenchmarkError(f"The server did not answer {url}: {error}.") from None


def _status(url: str) -> dict[str, Any]:
    return json.loads(_get(f"{url.rstrip('/')}/status"))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]
