"""Starts a server as its own process, the way a user does, and ends it."""

from __future__ import annotations

import json
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import httpx

from tests.ui import nursery

ROOT = Path(__file__).resolve().parents[2]


def client(address: str, headers: Mapping[str, str] | None = None) -> httpx.Client:
    """Somebody who asks a server of ours, and reads no certificates, of which it has none."""
    return httpx.Client(base_url=address, headers=headers, timeout=60, verify=False)


@dataclass
class Served:
    """A running server.

    Attributes:
        address: What it printed, such as "http://127.0.0.1:41234".
        seconds: From the start of the process to that line.
    """

    process: subprocess.Popen[str] | nursery.Copy
    address: str

    @property
    def port(self) -> int:
        """The port that was chosen."""
        return int(self.address.rpartition(":")[2])

    def status(self) -> dict[str, Any]:
        """What `/status` says."""
        with urlopen(self.address + "/status", timeout=60) as answer:
            return json.load(answer)

    def wait_for(self, *, phase: str = "ready", seconds: float = 120) -> None:
        """Waits until the page is there and the engine is in that phase."""
        deadline = time.monotonic() + seconds
        while True:
            status = self.status()
            if status["page"] and status["phase"] == phase:
                return
            assert status["phase"] != "failed", status["message"]
            assert time.monotonic() < deadline, status
            time.sleep(0.1)

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Sends the signal and waits until the process is gone, a minute at most."""
        self.process.send_signal(number)
        self.process.wait(60)

    def kill(self) -> None:
        """Ends it by force if it is still there."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def start(
    arguments: Sequence[str], *, log: Path, before: Callable[[], None] | None = None
) -> Served:
    """Runs `python -m` with `arguments` and waits for the line with the address.

    Args:
        log: File that gets what the server writes to stderr.
        before: Called in the new process before the server is run.
    """
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            preexec_fn=before,
        )
    return _told(process, log)


def copied(arguments: Sequence[str], *, log: Path) -> Served:
    """As `start`, quicker, for a server of the tests whose starting is not what is tested."""
    if not nursery.POSSIBLE:
        return start(arguments, log=log)
    return _told(nursery.Copy(arguments, ROOT, log), log)


def _told(process: subprocess.Popen[str] | nursery.Copy, log: Path) -> Served:
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read_into, args=(process, lines), daemon=True).start()
    try:
        line = lines.get(timeout=60)
    except queue.Empty:
        process.kill()
        raise
    found = re.fullmatch(r"Easel: (http://\S+)\n", line)
    assert found, line + log.read_text()
    return Served(process, found[1])


def _read_into(
    process: subprocess.Popen[str] | nursery.Copy, lines: queue.SimpleQueue[str]
) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
    lines.put("")
