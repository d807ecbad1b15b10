"""The locks `requirements*.lock`: reading them, and making them anew."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from webui.launcher.console import ROOT, SetupError, clean_environ, run_tool, say

LOCK = ROOT / "requirements.lock"
DEV_LOCK = ROOT / "requirements-dev.lock"
XFORMERS_LOCK = ROOT / "requirements-xformers.lock"

XFORMERS = "xformers==0.0.35"
XFORMERS_TORCH = "torch==2.10.0"
"""The torch that wheel was built for, as `xformers/cpp_lib.json` in it says; its kernels load with
no other, though its requirements accept any newer one."""

_FOLDER = ".easel"
_XFORMERS_SOURCES = (
    f"{_FOLDER}/xformers.in",
    *("--override", f"{_FOLDER}/xformers-torch.txt"),
    *("--constraint", f"{_FOLDER}/without-torch.txt"),
    "--no-annotate",
)

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


def without_torch(text: str) -> str:
    """A lock's pins but for torch and what its CUDA build brings along."""
    return select(
        text,
        lambda name: name not in ("torch", "triton") and not name.startswith(("nvidia-", "cuda-")),
    )


def remake(uv: Path, upgrade: bool) -> None:
    """Resolves `pyproject.toml` anew for every system, and writes all locks.

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
        (XFORMERS_LOCK, [pyproject.name, *_XFORMERS_SOURCES]),
    )
    for lock, sources in parts:
        say(f"Resolving {lock.name} ...")
        if lock is XFORMERS_LOCK:
            _write_xformers_sources()
        command = [uv, "pip", "compile", *common, *header, *newest, *sources, "-o", lock.name]
        run_tool(f"Making {lock.name}", command, clean_environ())


def _write_xformers_sources() -> None:
    """Files for uv, which takes an override from a file only: all pins of the first lock hold but
    those that hang on torch.
    """
    package, _, override, _, constraint, _ = _XFORMERS_SOURCES
    (ROOT / _FOLDER).mkdir(exist_ok=True)
    (ROOT / package).write_text(XFORMERS + "\n", encoding="utf-8")
    (ROOT / override).write_text(XFORMERS_TORCH + "\n", encoding="utf-8")
    (ROOT / constraint).write_text(without_torch(read(LOCK)), encoding="utf-8")
