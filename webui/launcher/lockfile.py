"""`requirements.lock` and `requirements-dev.lock`: reading them, and making them anew."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from webui.launcher.console import ROOT, SetupError, clean_environ, run_tool, say

LOCK = ROOT / "requirements.lock"
DEV_LOCK = ROOT / "requirements-dev.lock"

_PIN = re.compile(r"([A-Za-z0-9._-]+)==([^\s;\\]+)")


def fingerprint(locks: Iterable[Path]) -> str:
    """A hash over the files' contents, to tell whether an environment was made from them."""
    digest = hashlib.sha256()
    for lock in locks:
        digest.update(read(lock).encode())
    return digest.hexdigest()


def read(lock: Path) -> str:
    """The text of a lock.

    Raises:
        SetupError: It is missing or not readable.
    """
    try:
        return lock.read_text(encoding="utf-8")
    except OSError as error:
        raise SetupError(
            f"{lock.name} cannot be read ({error.strerror}): restore it with "
            f"`git checkout {lock.name}`."
        ) from error


def select(text: str, keep: Callable[[str], bool]) -> str:
    """The pins, with their hashes, of the packages that `keep` accepts by name."""
    lines: list[str] = []
    kept = False
    for line in text.splitlines(keepends=True):
        if pin := _PIN.match(line):
            kept = keep(pin[1])
        if kept:
            lines.append(line)
    return "".join(lines)


def version(text: str, package: str) -> str:
    """The version a lock pins a package to.

    Raises:
        SetupError: The lock does not name the package.
    """
    pin = _PIN.match(select(text, lambda name: name == package))
    if pin is None:
        raise SetupError(f"The lock names no {package}: restore it with git.")
    return pin[2]


def remake(uv: Path, upgrade: bool) -> None:
    """Resolves `pyproject.toml` anew for every system, and writes both locks.

    Args:
        uv: The uv program.
        upgrade: Whether pins that still fit may move to newer versions.

    Raises:
        SetupError: The requirements contradict each other, or the index cannot be reached.
    """
    pyproject = ROOT / "pyproject.toml"
    common = ["--universal", "--generate-hashes", "--no-emit-index-url", "--only-binary", ":all:"]
    header = ["--custom-compile-command", "python launch.py lock", "--quiet"]
    newest = ["--upgrade"] if upgrade else []
    parts = (
        (LOCK, [pyproject.name]),
        (DEV_LOCK, ["--group", "dev", "--constraint", LOCK.name]),
    )
    for lock, sources in parts:
        say(f"Resolving {lock.name} ...")
        command = [uv, "pip", "compile", *common, *header, *newest, *sources, "-o", lock.name]
        run_tool(f"Making {lock.name}", command, clean_environ())
