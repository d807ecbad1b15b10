"""`python launch.py test`: everything that must pass, each announced, with a summary."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from webui.launcher import chromium
from webui.launcher.console import ROOT, SetupError, clean_environ, say
from webui.launcher.environment import PYTHON, SCRIPTS


@dataclass(frozen=True)
class Check:
    """One thing that must pass.

    Attributes:
        name: What it is called in the announcement and the summary.
        command: The program and its arguments.
        prepare: What must be there first; gives variables for the command's environment.
    """

    name: str
    command: Sequence[str | Path]
    prepare: Callable[[], Mapping[str, str]] | None = None


def _tests() -> Mapping[str, str]:
    # The models in the tests are so small that threads spend their time waiting for each other.
    return {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}


def _browser_tests() -> Mapping[str, str]:
    return {**_tests(), chromium.VARIABLE: chromium.ensure()}


def _no_version_query() -> Mapping[str, str]:
    # pyright's package would ask the network for a newer version of itself.
    return {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}


CHECKS = (
    Check("ruff check", (PYTHON, "-m", "ruff", "check", ".")),
    Check("ruff format", (PYTHON, "-m", "ruff", "format", "--check", ".")),
    Check("pyright", (PYTHON, "-m", "pyright"), _no_version_query),
    Check("import layers", (SCRIPTS / "lint-imports",)),
    Check("unit and engine tests", (PYTHON, "-m", "pytest", "-m", "not browser"), _tests),
    Check("browser tests", (PYTHON, "-m", "pytest", "-m", "browser"), _browser_tests),
)


def run_all(checks: Sequence[Check] = CHECKS) -> list[str]:
    """Runs the checks one after another, going on after a failure.

    Returns:
        The names of those that failed.
    """
    failed: list[str] = []
    began = time.monotonic()
    for number, check in enumerate(checks, 1):
        say(f"\n== {check.name} ({number} of {len(checks)}) ==")
        if not _passes(check):
            failed.append(check.name)
    took = f"{time.monotonic() - began:.0f} s"
    if failed:
        say(f"\nFailed: {', '.join(failed)} ({len(failed)} of {len(checks)} checks, {took}).")
    else:
        say(f"\nAll {len(checks)} checks passed in {took}.")
    return failed


def _passes(check: Check) -> bool:
    try:
        environ = clean_environ(**(check.prepare() if check.prepare else {}))
        return subprocess.run(check.command, cwd=ROOT, env=environ, check=False).returncode == 0
    except SetupError as error:
        say(error.message)
    except OSError as error:
        say(f"{check.command[0]} could not be started: {os.strerror(error.errno or 0)}.")
    return False
