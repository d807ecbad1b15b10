"""What `python launch.py ...` does, by its first argument."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from webui.errors import WebuiError
from webui.launcher import checks, environment, lockfile, uv
from webui.launcher.console import ROOT, SetupError, say

USAGE = """\
python launch.py [OPTIONS]          set up what is missing, then start the server
python launch.py --xformers ...     the same in an environment of its own with xformers
python launch.py setup [--xformers] only set up
python launch.py test               set up with the tools for tests, then run every check
python launch.py lock [--upgrade]   resolve pyproject.toml anew into all locks
python launch.py COMMAND ...        set up, then `python -m webui COMMAND ...` (generate, ...)

OPTIONS go to `python -m webui serve`; `python launch.py serve --help` lists them.
UV_TORCH_BACKEND names a build of torch (cpu, cu128, ...) in place of the one that fits."""

INTERRUPTED = 130
XFORMERS = "--xformers"


def main(arguments: Sequence[str]) -> int:
    """Does what the arguments ask for; on POSIX, starting the server does not return.

    Returns:
        The exit code.
    """
    try:
        return _run(arguments)
    except WebuiError as error:
        say(error.message)
        return error.exit_code
    except OSError as error:
        say(f"A file could not be used: {error}. Free space or correct its rights, and try again.")
        return SetupError.exit_code
    except KeyboardInterrupt:
        say("Interrupted; the next run goes on from here.")
        return INTERRUPTED


def _run(arguments: Sequence[str]) -> int:
    place = environment.WITH_XFORMERS if XFORMERS in arguments else environment.USUAL
    match [each for each in arguments if each != XFORMERS]:
        case ["-h" | "--help", *_]:
            say(USAGE)
            return 0
        case ["setup"]:
            environment.ensure(retry_torch=True, place=place)
            return 0
        case ["test" | "lock" as command, *_] if XFORMERS in arguments:
            raise SetupError(f"`{command}` does not know {XFORMERS}; see launch.py --help.")
        case ["test"]:
            environment.ensure(tools=True)
            return _test()
        case ["lock", *options] if set(options) <= {"--upgrade"}:
            return _lock(upgrade=bool(options))
        case ["setup" | "test" | "lock" as command, *rest]:
            raise SetupError(f"`{command}` does not know {' '.join(rest)}; see launch.py --help.")
        case rest:
            environment.ensure(place=place)
            return _start(place.python, webui_arguments(rest))


def webui_arguments(arguments: Sequence[str]) -> list[str]:
    """The arguments for `python -m webui`: options alone mean its `serve`."""
    if not arguments or arguments[0].startswith("-"):
        return ["serve", *arguments]
    return list(arguments)


def _lock(upgrade: bool) -> int:
    program = uv.find(environment.SCRIPTS)
    if program is None:
        environment.ensure(tools=True)
        program = environment.SCRIPTS / "uv"
    lockfile.remake(program, upgrade)
    return 0


def _test() -> int:
    return 1 if checks.run_all() else 0


def _start(python: Path, arguments: Sequence[str]) -> int:
    """Becomes `python -m webui`, in the folder the user is in, so that relative paths hold."""
    command = [str(python), "-m", "webui", *arguments]
    # The folder the user is in may hold another `webui`; only this repository is searched.
    environ = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    if sys.platform != "win32":
        sys.stderr.flush()
        os.execve(python, command, environ)
    with subprocess.Popen(command, env=environ) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                # The console sent it to the server as well, which ends in its own time.
                continue
