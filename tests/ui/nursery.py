"""Servers of the tests as copies of one process that has imported what all of them import.

Importing Gradio takes several times as long as building the page and serving it.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import IO

IMPORTED = ("pytest", "tests.ui.fake_server", "tests.ui.shared_server", "webui.ui.app")
POSSIBLE = sys.platform == "linux"
"""Elsewhere libraries of the system do not survive the copying."""


class Copy:
    """A process that runs a module, with what `subprocess.Popen` has of methods that are used.

    Attributes:
        stdout: What it prints.
    """

    def __init__(self, arguments: Sequence[str], folder: Path, log: Path) -> None:
        """As `python -m` with `arguments` in `folder`, its stderr in the file `log`."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([*IMPORTED])
        reads, writes = context.Pipe(duplex=False)
        given = (arguments, folder, log, dict(os.environ), writes)
        self._process: BaseProcess = context.Process(target=_run, args=given, daemon=True)
        self._process.start()
        writes.close()
        self.stdout: IO[str] = os.fdopen(os.dup(reads.fileno()))
        reads.close()

    @property
    def pid(self) -> int:
        """Its number."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """How it ended; negative for a signal."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """`returncode`, looked up anew."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("a copy", timeout or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Does nothing where it has ended."""
        if self._process.is_alive():
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it at once."""
        self.send_signal(signal.SIGKILL)


def _run(
    arguments: Sequence[str], folder: Path, log: Path, environ: Mapping[str, str], says: Connection
) -> None:
    os.dup2(says.fileno(), 1)
    says.close()
    with log.open("w") as errors:
        os.dup2(errors.fileno(), 2)
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(folder)
    sys.argv = [*arguments]
    with warnings.catch_warnings():
        # That it has been imported before is what this is for.
        warnings.filterwarnings("ignore", "'tests.ui", RuntimeWarning)
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
