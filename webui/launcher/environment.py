"""The environments in `.venv` and, with xformers, `.venv-xformers`.

Each is made once, checked in milliseconds, and repaired when it is broken.

A stamp in each says from what it was made. It is taken away before anything changes and put
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

STATE = ROOT / ".easel"


@dataclass(frozen=True)
class Place:
    """An environment.

    Attributes:
        venv: Its folder.
        lock: The lock it is made from.
    """

    venv: Path
    lock: Path

    @property
    def stamp(self) -> Path:
        """The file that says from what it was made."""
        return self.venv / "easel-stamp.json"

    @property
    def scripts(self) -> Path:
        """The folder of its programs."""
        return self.venv / ("Scripts" if os.name == "nt" else "bin")

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.scripts / ("python.exe" if os.name == "nt" else "python")


USUAL = Place(ROOT / ".venv", lockfile.LOCK)
WITH_XFORMERS = Place(ROOT / ".venv-xformers", lockfile.XFORMERS_LOCK)
SCRIPTS = USUAL.scripts
PYTHON = USUAL.python


@dataclass(frozen=True)
class Stamp:
    """What an environment was made from.

    Attributes:
        lock: Hash of the lock.
        dev_lock: Hash of `requirements-dev.lock`; "" without the tools for tests.
        machine: `torch_build.fingerprint()`.
        wanted: The torch build that fits the machine.
        torch: The one that could be installed.
        python: The interpreter behind it, links resolved.
        root: The repository, since its scripts name it.
    """

    lock: str
    dev_lock: str
    machine: str
    wanted: str
    torch: str
    python: str
    root: str


def read_stamp(place: Place = USUAL) -> Stamp | None:
    """The stamp; `None` where the environment was never finished or its interpreter is gone."""
    try:
        stamp = Stamp(**json.loads(place.stamp.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    there = place.python.exists() and os.path.realpath(place.python) == stamp.python
    return stamp if there and stamp.root == str(ROOT) else None


def is_current(stamp: Stamp, tools: bool, requested: str, place: Place = USUAL) -> bool:
    """Whether an environment with this stamp can be used as it is.

    Args:
        stamp: Its stamp.
        tools: Whether the tools for tests are needed.
        requested: The torch backend the user named, or "".
    """
    return (
        stamp.lock == lockfile.fingerprint([place.lock])
        and (not tools or stamp.dev_lock == lockfile.fingerprint([lockfile.DEV_LOCK]))
        and stamp.machine == torch_build.fingerprint()
        and requested in ("", stamp.wanted)
    )


def ensure(tools: bool = False, retry_torch: bool = False, place: Place = USUAL) -> None:
    """Makes an environment ready; does nothing where it is.

    Args:
        tools: Whether to install the tools for tests too.
        retry_torch: Whether to try again for a torch build that could not be had last time.

    Raises:
        SetupError: With the sentence that says what failed and what to do.
    """
    requested = os.environ.get("UV_TORCH_BACKEND", "")

    def ready() -> bool:
        stamp = read_stamp(place)
        if stamp is None or (retry_torch and stamp.torch != stamp.wanted):
            return False
        return is_current(stamp, tools, requested, place)

    if not ready():
        with _one_at_a_time():
            if not ready():
                _make(place, tools, requested)
    compile_own_code()


def compile_own_code() -> None:
    """Compiles `webui/` where its bytecode is missing or old; milliseconds where it is not.

    The first import would do it, but not where PYTHONDONTWRITEBYTECODE is set.
    """
    compileall.compile_dir(ROOT / "webui", quiet=2)


def _make(place: Place, tools: bool, requested: str) -> None:
    machine = torch_build.fingerprint()
    choose = torch_build.choose_for_xformers if place == WITH_XFORMERS else torch_build.choose
    wanted = choose(torch_build.survey(), requested)
    old = read_stamp(place)
    place.stamp.unlink(missing_ok=True)
    program = uv.find(place.scripts) if old and old.torch == wanted else None
    if program is None:
        program = _make_empty(place)
    tools = tools or bool(old and old.dev_lock)
    torch = _install(place, program, wanted, tools)
    _write_stamp(
        place,
        Stamp(
            lock=lockfile.fingerprint([place.lock]),
            dev_lock=lockfile.fingerprint([lockfile.DEV_LOCK]) if tools else "",
            machine=machine,
            wanted=wanted,
            torch=torch,
            python=os.path.realpath(place.python),
            root=str(ROOT),
        ),
    )
    say("Easel is set up.")


def _make_empty(place: Place) -> Path:
    """Makes the environment anew, and says which uv to fill it with."""
    say(f"Making {place.venv.name} with Python {sys.version.split()[0]} ...")
    _remove_old(place.venv)
    # From inside an environment, the interpreter it was made from: the environment may be the
    # very one that is made anew.
    python = str(getattr(sys, "_base_executable", None) or sys.executable)
    if program := uv.find():
        command = [program, "venv", "--quiet", "--no-project", "--python", python, place.venv]
        run_tool(f"Making {place.venv.name}", command, clean_environ())
        return program
    run_tool(f"Making {place.venv.name}", [python, "-m", "venv", place.venv], clean_environ())
    uv.install(place.python)
    if program := uv.find(place.scripts):
        return program
    raise SetupError(
        "uv was installed into .venv but does not run on this machine: install it "
        "by your system's packages, then run this again."
    )


def _remove_old(venv: Path) -> None:
    if venv.is_symlink() or venv.is_file():
        venv.unlink()
    elif venv.exists():
        shutil.rmtree(venv)


def _install(place: Place, program: Path, wanted: str, tools: bool) -> str:
    """Fills the environment from the locks.

    Returns:
        The torch build that was installed.
    """
    locks = [place.lock, *([lockfile.DEV_LOCK] if tools else [])]
    say("Installing the packages; the first time this downloads about 3 GB ...")
    if wanted != torch_build.PLAIN:
        others = [_without_torch(place, lock) for lock in locks]
        _install_locked(place, program, others, "--no-deps")
        if _install_torch(place, program, wanted):
            return wanted
    _install_locked(place, program, locks)
    return torch_build.PLAIN


def _install_locked(place: Place, program: Path, locks: list[Path], *options: str) -> None:
    files = [part for lock in locks for part in ("-r", lock)]
    _pip_install(
        place,
        program,
        "Installing the packages",
        ["--require-hashes", "--only-binary", ":all:", *options, *files],
    )


def _install_torch(place: Place, program: Path, backend: str) -> bool:
    """Installs the lock's torch version from torch's own index, whose hashes no lock has."""
    version = lockfile.version(lockfile.read(place.lock), "torch")
    say(f"Installing torch {version} for this machine's GPU ({backend}) ...")
    try:
        _pip_install(
            place,
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


def _pip_install(place: Place, program: Path, doing: str, arguments: list[str | Path]) -> None:
    install = [program, "pip", "install", "--python", place.python, "--compile-bytecode"]
    command = [*install, *arguments]
    run_tool(doing, command, clean_environ())


def _without_torch(place: Place, lock: Path) -> Path:
    """A copy of a lock without torch and what its CUDA build brings along."""
    copy = place.venv / f"without-torch-{lock.name}"
    copy.write_text(lockfile.without_torch(lockfile.read(lock)), encoding="utf-8")
    return copy


def _write_stamp(place: Place, stamp: Stamp) -> None:
    fresh = place.stamp.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(stamp), indent=1), encoding="utf-8")
    fresh.replace(place.stamp)


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
