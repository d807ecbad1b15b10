"""The browser that the browser tests drive."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence

from webui.launcher.console import SetupError, answer_of, clean_environ, run_tool, say

VARIABLE = "EASEL_CHROMIUM"
"""Names the program to use; the browser tests read it."""

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

PLACES = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "C:/Program Files/Google/Chrome/Application/chrome.exe",
    "C:/Program Files (x86)/Google/Chrome/Application/chrome.exe",
)

MANAGERS: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...] = (
    ("apt-get", (("update",), ("install", "-y", "--no-install-recommends", "chromium"))),
    ("dnf", (("install", "-y", "chromium"),)),
    ("pacman", (("-S", "--noconfirm", "chromium"),)),
    ("zypper", (("--non-interactive", "install", "chromium"),)),
    ("apk", (("add", "chromium"),)),
    ("brew", (("install", "--cask", "chromium"),)),
)


def find() -> str | None:
    """The path of Chromium or Chrome; `None` where there is none.

    Raises:
        SetupError: `EASEL_CHROMIUM` names something that is not there.
    """
    if named := os.environ.get(VARIABLE):
        if found := shutil.which(named):
            return found
        raise SetupError(f"{VARIABLE} names {named}, which is not a program: correct or unset it.")
    on_path = (shutil.which(name) for name in NAMES)
    return next((found for found in (*on_path, *map(shutil.which, PLACES)) if found), None)


def ensure() -> str:
    """The path of Chromium, which is installed by the system's package manager where it may be.

    Raises:
        SetupError: There is none, with how to get it.
    """
    if found := find():
        return found
    manager = next((each for each in MANAGERS if shutil.which(each[0])), None)
    if manager is None:
        raise SetupError(
            f"The browser tests need Chromium or Chrome: install one, or name it in {VARIABLE}."
        )
    name, steps = manager
    commands = [[name, *step] for step in steps]
    prefix = _privilege(name)
    if prefix is None:
        by_hand = " && ".join("sudo " + " ".join(command) for command in commands)
        raise SetupError(f"The browser tests need Chromium: run `{by_hand}`, then this again.")
    say(f"Installing Chromium with {name} ...")
    for command in commands:
        run_tool(
            "Installing Chromium",
            [*prefix, *command],
            clean_environ(DEBIAN_FRONTEND="noninteractive"),
        )
    if found := find():
        return found
    raise SetupError(f"{name} installed no Chromium: install Chrome, or name it in {VARIABLE}.")


def _privilege(manager: str) -> Sequence[str] | None:
    """What to put before the package manager's command; `None` where it may not be run."""
    if manager == "brew" or (sys.platform != "win32" and os.geteuid() == 0):
        return ()
    if answer_of(("sudo", "-n", "true")) is not None:
        return ("sudo", "-n")
    return None
