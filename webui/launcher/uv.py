"""Finding uv, or getting it where the machine has none."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from webui.launcher import lockfile
from webui.launcher.console import answer_of, clean_environ, run_tool, say

OLDEST = (0, 8)
"""The oldest uv whose `--torch-backend` is not a preview."""


def find(extra: Path | None = None) -> Path | None:
    """Finds a uv that runs and is new enough.

    Args:
        extra: A folder to look in besides `PATH` and uv's own places.
    """
    suffix = ".exe" if os.name == "nt" else ""
    home = Path.home()
    places = [
        shutil.which("uv"),
        home / ".local" / "bin" / f"uv{suffix}",
        home / ".cargo" / "bin" / f"uv{suffix}",
        extra and extra / f"uv{suffix}",
    ]
    for place in places:
        # Asking is the only sure way: a version manager's shim exists without any uv behind it.
        if place is not None and (said := answer_of((place, "--version"))):
            number = re.search(r"(\d+)\.(\d+)", said)
            if number and (int(number[1]), int(number[2])) >= OLDEST:
                return Path(place)
    return None


def install(python: Path) -> None:
    """Installs uv into an environment that has pip, at the version and hashes of the dev lock.

    Args:
        python: The environment's interpreter.

    Raises:
        SetupError: pip failed.
    """
    say("This machine has no uv; installing it into .venv ...")
    wanted = python.parent.parent / "uv-requirement.txt"
    wanted.write_text(
        lockfile.select(lockfile.read(lockfile.DEV_LOCK), lambda name: name == "uv"),
        encoding="utf-8",
    )
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run_tool(
        "Installing uv",
        [*pip, "--require-hashes", "--only-binary", ":all:", "-r", wanted],
        clean_environ(),
    )
