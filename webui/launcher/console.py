"""Talking to the person at the terminal, and running other tools in front of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from webui.errors import WebuiError

ROOT = Path(__file__).resolve().parent.parent.parent
"""The repository: the folder that holds `launch.py`."""

TAIL_LINES = 12

_ADVICE = (
    (
        ("no space left", "os error 28", "os error 112", "disk quota"),
        "the disk is full: free about 8 GB (`uv cache clean` drops old downloads), then run "
        "it again",
    ),
    (
        (
            "failed to fetch",
            "error sending request",
            "dns error",
            "name resolution",
            "could not connect",
            "connection refused",
            "newconnectionerror",
            "timed out",
            "network is unreachable",
        ),
        "a download did not go through: check the network (and proxy settings), then run it "
        "again; what has arrived is kept",
    ),
    (
        ("hash mismatch", "do not match the hashes"),
        "a downloaded package is not the one this version was tested with, so nothing of it was "
        "used: run it again, and if that does not help, without a package mirror",
    ),
    (
        (
            "no wheels with a matching",
            "no solution found",
            "has no usable wheels",
            "no matching distribution",
        ),
        "a package has no ready-made build for Python {python} on this machine (a compiler would "
        "not help): run it again with another Python from 3.11 on",
    ),
    (
        ("ensurepip",),
        "this Python cannot make environments: install uv, or your system's python3-venv package, "
        "then run it again",
    ),
    (
        ("permission denied", "access is denied", "os error 13", "os error 5"),
        "a file may not be written: close programs that use this folder and check that it is "
        "yours, then run it again",
    ),
)


class SetupError(WebuiError):
    """The environment could not be made ready, or a check failed."""

    exit_code: ClassVar[int] = 1


def say(line: str) -> None:
    """Prints a line to stderr: stdout belongs to the command that is started in the end."""
    print(line, file=sys.stderr, flush=True)


def explain(doing: str, output: str) -> str:
    """Says what went wrong and what to do.

    Args:
        doing: What was being done, as in "Installing the packages".
        output: The tail of the failed tool's own output.

    Returns:
        One sentence.
    """
    text = output.lower()
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for signs, advice in _ADVICE:
        if any(sign in text for sign in signs):
            return f"{doing} failed: {advice.format(python=python)}."
    return f"{doing} failed; the lines above are the tool's own words."


def run_tool(doing: str, command: Sequence[str | Path], environ: Mapping[str, str]) -> None:
    """Runs a tool in the repository, showing its output as it comes.

    Args:
        doing: What is being done, for the sentence on failure.
        command: The program and its arguments.
        environ: Its whole environment.

    Raises:
        SetupError: It could not be started or ended with another status than 0.
    """
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    try:
        with subprocess.Popen(
            command,
            cwd=ROOT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                sys.stderr.write(f"  {line}")
                sys.stderr.flush()
                tail.append(line)
    except OSError as error:
        raise SetupError(f"{doing} failed: {command[0]} could not be started ({error}).") from error
    if process.returncode != 0:
        raise SetupError(explain(doing, "".join(tail)))


def answer_of(command: Sequence[str | Path], seconds: float = 30) -> str | None:
    """What a small program prints to stdout.

    Args:
        command: The program and its arguments.
        seconds: How long it may take.

    Returns:
        The text, or `None` where the program is missing, fails or takes too long.
    """
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def clean_environ(**changes: str) -> dict[str, str]:
    """This process's environment without what would turn an installation from its course.

    Args:
        changes: Variables to set.
    """
    misleading = {
        "PYTHONHOME",
        "PYTHONPATH",
        "UV_REQUIRE_HASHES",
        "UV_SYSTEM_PYTHON",
        "UV_TORCH_BACKEND",
        "VIRTUAL_ENV",
    }
    return {k: v for k, v in os.environ.items() if k not in misleading} | changes
