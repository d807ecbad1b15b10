"""The environment in `.venv`: made once, checked in milliseconds, repaired when it is broken.

A stamp in `.venv` says from what it was made. It is taken away before anything changes and put
back last, so an environment without one is half made and is made anew; downloads stay in uv's
cache.
"""

from __future__ import annotations

import compileall
import json
import os
import shutil
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from webui.launcher import lockfile, torch_build, uv
from webui.launcher.console import ROOT, SetupError, clean_environ, run_tool, say

VENV = ROOT / ".venv"
STAMP = VENV / "easel-stamp.json"
SCRIPTS = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = SCRIPTS / ("python.exe" if os.name == "nt" else "python")
STATE = ROOT / ".easel"


@dataclass(frozen=True)
class Stamp:
    """What an environment was made from.

    Attributes:
        lock: Hash of `requirements.lock`.
        dev_lock: Hash of `requirements-dev.lock`; "" without the tools for tests.
        machine: `torch_build.fingerprint()`.
        wanted: The torch build that fits the machine.
        torch: The one that could be installed.
        python: The interpreter behind `.venv`, links resolved.
        root: The repository, since scripts in `.venv` name it.
    """

    lock: str
    dev_lock: str
    machine: str
    wanted: str
    torch: str
    python: str
    root: str


def read_stamp() -> Stamp | None:
    """The stamp; `None` where the environment was never finished or its interpreter is gone."""
    try:
        stamp = Stamp(**json.loads(STAMP.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    there = PYTHON.exists() and os.path.realpath(PYTHON) == stamp.python
    return stamp if there and stamp.root == str(ROOT) else None


def is_current(stamp: Stamp, tools: bool, requested: str) -> bool:
    """Whether an environment with this stamp can be used as it is.

    Args:
        stamp: Its stamp.
        tools: Whether the tools for tests are needed.
        requested: The torch backend the user named, or "".
    """
    return (
        stamp.lock == lockfile.fingerprint([lockfile.LOCK])
        and (not tools or stamp.dev_lock == lockfile.fingerprint([lockfile.DEV_LOCK]))
        and stamp.machine == torch_build.fingerprint()
        and requested in ("", stamp.wanted)
    )


def ensure(tools: bool = False, retry_torch: bool = False) -> None:
    """Makes `.venv` ready; does nothing where it is.

    Args:
        tools: Whether to install the tools for tests too.
        retry_torch: Whether to try again for a torch build that could not be had last time.

    Raises:
        SetupError: With the sentence that says what failed and what to do.
    """
    requested = os.environ.get("UV_TORCH_BACKEND", "")

    def ready() -> bool:
        stamp = read_stamp()
        if stamp is None or (retry_torch and stamp.torch != stamp.wanted):
            return False
        return is_current(stamp, tools, requested)

    if not ready():
        with _one_at_a_time():
            if not ready():
                _make(tools, requested)
    compile_own_code()


def compile_own_code() -> None:
    """Compiles `webui/` where its bytecode is missing or old; milliseconds where it is not.

    The first import would do it, but not where PYTHONDONTWRITEBYTECODE is set.
    """
    compileall.compile_dir(ROOT / "webui", quiet=2)


def _make(tools: bool, requested: str) -> None:
    machine = torch_build.fingerprint()
    wanted = torch_build.choose(torch_build.survey(), requested)
    old = read_stamp()
    STAMP.unlink(missing_ok=True)
    program = uv.find(SCRIPTS) if old and old.torch == wanted else None
    if program is None:
        program = _make_empty()
    tools = tools or bool(old and old.dev_lock)
    torch = _install(program, wanted, tools)
    _write_stamp(
        Stamp(
            lock=lockfile.fingerprint([lockfile.LOCK]),
            dev_lock=lockfile.fingerprint([lockfile.DEV_LOCK]) if tools else "",
            machine=machine,
            wanted=wanted,
            torch=torch,
            python=os.path.realpath(PYTHON),
            root=str(ROOT),
        )
    )
    say("Easel is set up.")


def _make_empty() -> Path:
    """Makes `.venv` anew, and says which uv to fill it with."""
    say(f"Making .venv with Python {sys.version.split()[0]} ...")
    _remove_old()
    # From inside an environment, the interpreter it was made from: the environment may be the
    # very one that is made anew.
    python = str(getattr(sys, "_base_executable", None) or sys.executable)
    if program := uv.find():
        command = [program, "venv", "--quiet", "--no-project", "--python", python, VENV]
        run_tool("Making .venv", command, clean_environ())
        return program
    run_tool("Making .venv", [python, "-m", "venv", VENV], clean_environ())
    uv.install(PYTHON)
    if program := uv.find(SCRIPTS):
        return program
    raise SetupError(
        "uv was installed into .venv but does not run on this machine: install it "
        "by your system's packages, then run this again."
    )


def _remove_old() -> None:
    if VENV.is_symlink() or VENV.is_file():
        VENV.unlink()
    elif VENV.exists():
        shutil.rmtree(VENV)


def _install(program: Path, wanted: str, tools: bool) -> str:
    """Fills `.venv` from the locks.

    Returns:
        The torch build that was installed.
    """
    locks = [lockfile.LOCK, *([lockfile.DEV_LOCK] if tools else [])]
    say("Installing the packages; the first time this downloads about 3 GB ...")
    if wanted != torch_build.PLAIN:
        _install_locked(program, [_without_torch(lock) for lock in locks], "--no-deps")
        if _install_torch(program, wanted):
            return wanted
    _install_locked(program, locks)
    return torch_build.PLAIN


def _install_locked(program: Path, locks: list[Path], *options: str) -> None:
    files = [part for lock in locks for part in ("-r", lock)]
    _pip_install(
        program,
        "Installing the packages",
        ["--require-hashes", "--only-binary", ":all:", *options, *files],
    )


def _install_torch(program: Path, backend: str) -> bool:
    """Installs the lock's torch version from torch's own index, whose hashes no lock has."""
    version = lockfile.version(lockfile.read(lockfile.LOCK), "torch")
    say(f"Installing torch {version} for this machine's GPU ({backend}) ...")
    try:
        _pip_install(
            program,
            "Installing torch",
            ["--torch-backend", backend, "--only-binary", ":all:", f"torch=={version}"],
        )
    except SetupError as error:
        say(
            f"{error.message} Until then the plain build of torch is used, which may leave this "
            "GPU idle; `python launch.py setup` tries again."
        )
        return False
    return True


def _pip_install(program: Path, doing: str, arguments: list[str | Path]) -> None:
    command = [program, "pip", "install", "--python", PYTHON, "--compile-bytecode", *arguments]
    run_tool(doing, command, clean_environ())


def _without_torch(lock: Path) -> Path:
    """A copy of a lock without torch and what its CUDA build brings along."""

    def keep(name: str) -> bool:
        return name not in ("torch", "triton") and not name.startswith(("nvidia-", "cuda-"))

    copy = VENV / f"without-torch-{lock.name}"
    copy.write_text(lockfile.select(lockfile.read(lock), keep), encoding="utf-8")
    return copy


def _write_stamp(stamp: Stamp) -> None:
    fresh = STAMP.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(stamp), indent=1), encoding="utf-8")
    fresh.replace(STAMP)


@contextmanager
def _one_at_a_time() -> Generator[None, None, None]:
    """Holds off a second set-up of this repository; the system lets go if this process dies."""
    STATE.mkdir(exist_ok=True)
    with (STATE / "setup.lock").open("w") as file:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
        else:
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("Another set-up of this folder is running; waiting for it ...")
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
