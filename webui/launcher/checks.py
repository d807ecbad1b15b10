"""`python launch.py test`: everything that must pass, each announced, with a summary."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
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


_BROWSER = "tests/ui"
_ATTACKS = "tests/attacks"
_MODELS = ("tests/families", "tests/generation", "tests/postcard", "tests/benchmarks")
"""What computes most: apart from the rest, so that both cores are busy until the end."""


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
    # The longest of all comes as early as may be, and what is short fills what is left.
    Check("browser tests", (PYTHON, "-m", "pytest", "-m", "browser", _BROWSER), _browser_tests),
    Check(
        "unit and engine tests",
        (
            *(PYTHON, "-m", "pytest", "-m", "not browser"),
            *(f"--ignore={folder}" for folder in (_ATTACKS, *_MODELS)),
        ),
        _tests,
    ),
    Check("model tests", (PYTHON, "-m", "pytest", "-m", "not browser", *_MODELS), _tests),
    Check("attacks", (PYTHON, "-m", "pytest", "-m", "not browser", _ATTACKS), _tests),
    Check("import layers", (SCRIPTS / "lint-imports",)),
    Check("pyright", (PYTHON, "-m", "pyright"), _no_version_query),
)


AT_ONCE = 3
"""Checks that run side by side: the tests wait for servers and browsers more often than not."""


def run_all(checks: Sequence[Check] = CHECKS) -> list[str]:
    """Runs the checks, going on after a failure; what each prints is shown when it has ended.

    Returns:
        The names of those that failed, in the order of the checks.
    """
    failed: set[str] = set()
    began = time.monotonic()
    say(f"{len(checks)} checks, {AT_ONCE} at a time; each is shown when it has ended.")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running = {pool.submit(_run, check): check for check in checks}
        for number, future in enumerate(as_completed(running), 1):
            check, ended = running[future], future.result()
            say(f"\n== {check.name} ({number} of {len(checks)}) ==\n{ended.said.rstrip()}")
            if not ended.passed:
                failed.add(check.name)
    took = f"{time.monotonic() - began:.0f} s"
    named = [check.name for check in checks if check.name in failed]
    if named:
        say(f"\nFailed: {', '.join(named)} ({len(named)} of {len(checks)} checks, {took}).")
    else:
        say(f"\nAll {len(checks)} checks passed in {took}.")
    return named


@dataclass(frozen=True)
class _Ended:
    """How a check ended, and all that it printed."""

    passed: bool
    said: str


def _run(check: Check) -> _Ended:
    try:
        environ = clean_environ(**(check.prepare() if check.prepare else {}))
        run = subprocess.run(
            check.command,
            cwd=ROOT,
            env=environ,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
    except SetupError as error:
        return _Ended(False, error.message)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        return _Ended(False, f"{check.command[0]} could not be started: {reason}.")
    return _Ended(run.returncode == 0, run.stdout)
