"""The launcher as a user meets it, with a stand-in for uv: what real packages do, CI proves."""

from __future__ import annotations

import json
import os
import platform
import runpy
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

NO_NETWORK = "error: Failed to fetch: dns error"

FAKE_UV = """\
#!/bin/sh
[ "$1" = --version ] && { echo "uv 0.13.9"; exit 0; }
echo "$*" >> "$FAKE_LOG"
if [ "$1" = venv ]; then
    mkdir -p "$6/bin" && ln -s "$5" "$6/bin/python"
elif [ -n "$FAKE_FAILS_ON" ]; then
    case "$*" in *"$FAKE_FAILS_ON"*) echo "$FAKE_SAYS" >&2; exit 2 ;; esac
fi
"""

FAKE_WEBUI = """\
import json, os, sys
print(json.dumps({"argv": sys.argv[1:], "cwd": os.getcwd(), "file": __file__}))
"""

LOCK = """\
numpy==2.4.6 \\
    --hash=sha256:aa
nvidia-cublas==13.4.1.3 ; sys_platform == 'linux' \\
    --hash=sha256:bb
torch==2.15.0 \\
    --hash=sha256:cc
"""


XFORMERS_LOCK = """\
torch==2.10.0 \\
    --hash=sha256:ee
xformers==0.0.35 \\
    --hash=sha256:ff
"""


@dataclass
class Clone:
    """A repository to set up, apart from this one."""

    folder: Path
    log: Path
    environ: dict[str, str]

    def launch(
        self, *arguments: str, cwd: Path | None = None, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(self.folder / "launch.py"), *arguments],
            cwd=cwd or self.folder,
            env=self.environ | environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def calls(self) -> list[str]:
        """How uv was called since the last question."""
        if not self.log.exists():
            return []
        lines = self.log.read_text().splitlines()
        self.log.unlink()
        return [line.replace(str(self.folder), ".") for line in lines]

    def stamp(self) -> dict[str, str]:
        return json.loads((self.folder / ".venv" / "easel-stamp.json").read_text())


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    if sys.platform == "win32":
        pytest.skip("the stand-in for uv is a shell script")
    folder, tools = tmp_path / "easel", tmp_path / "bin"
    shutil.copytree(
        REPOSITORY / "webui" / "launcher",
        folder / "webui" / "launcher",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    for name in ("launch.py", "webui/__init__.py", "webui/errors.py"):
        shutil.copy(REPOSITORY / name, folder / name)
    (folder / "webui" / "__main__.py").write_text(FAKE_WEBUI)
    (folder / "requirements.lock").write_text(LOCK)
    (folder / "requirements-xformers.lock").write_text(XFORMERS_LOCK)
    (folder / "requirements-dev.lock").write_text("ruff==0.17.6 \\\n    --hash=sha256:dd\n")
    tools.mkdir()
    (tools / "uv").write_text(FAKE_UV)
    (tools / "uv").chmod(0o755)
    log = tmp_path / "calls"
    environ = {
        "PATH": os.pathsep.join([str(tools), "/usr/bin", "/bin"]),
        "HOME": str(tmp_path),
        "FAKE_LOG": str(log),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return Clone(folder, log, environ)


def test_an_old_python_gets_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 8, 10, "final", 0))
    with pytest.raises(SystemExit, match=r"needs Python 3\.11 or newer, and this is Python 3\.8"):
        runpy.run_path(str(REPOSITORY / "launch.py"), run_name="__main__")


def test_needs_the_standard_library_only() -> None:
    code = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); import webui.launcher.commands"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)


def test_sets_up_once(clone: Clone) -> None:
    first = clone.launch("setup")
    assert first.returncode == 0, first.stderr
    venv, install = clone.calls()
    assert venv.startswith("venv ")
    assert "--require-hashes" in install
    assert "--compile-bytecode" in install
    assert install.endswith("-r ./requirements.lock")

    second = clone.launch("setup")
    assert second.returncode == 0
    assert clone.calls() == []
    assert second.stderr == ""


def test_own_code_is_compiled_whatever_the_environment_says(clone: Clone) -> None:
    clone.launch("setup")
    compiled = clone.folder / "webui" / "__pycache__"
    assert any(file.name.startswith("errors.") for file in compiled.glob("*.pyc"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), ["serve"]),
        (("--port", "7861"), ["serve", "--port", "7861"]),
        (("serve", "--help"), ["serve", "--help"]),
        (("generate", "a red shirt", "--steps", "3"), ["generate", "a red shirt", "--steps", "3"]),
    ],
)
def test_hands_over_to_webui(
    clone: Clone, tmp_path: Path, arguments: tuple[str, ...], expected: list[str]
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "webui").mkdir(parents=True)
    (elsewhere / "webui" / "__main__.py").write_text("raise SystemExit('the wrong webui')")
    done = clone.launch(*arguments, cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["argv"] == expected
    assert said["cwd"] == str(elsewhere)
    assert said["file"] == str(clone.folder / "webui" / "__main__.py")


def test_a_changed_lock_is_installed_into_the_same_environment(clone: Clone) -> None:
    clone.launch("setup")
    clone.calls()
    with (clone.folder / "requirements.lock").open("a") as lock:
        lock.write("pillow==12.3.0 \\\n    --hash=sha256:ee\n")
    assert clone.launch("setup").returncode == 0
    assert [call.split()[0] for call in clone.calls()] == ["pip"]
    assert clone.launch("setup").stderr == ""


def test_a_failed_set_up_says_why_and_is_made_anew(clone: Clone) -> None:
    failed = clone.launch("setup", FAKE_FAILS_ON="pip install", FAKE_SAYS=NO_NETWORK)
    assert failed.returncode == 1
    assert NO_NETWORK in failed.stderr
    assert "check the network" in failed.stderr.splitlines()[-1]
    clone.calls()
    assert clone.launch("setup").returncode == 0
    assert [call.split()[0] for call in clone.calls()] == ["venv", "pip"]


@pytest.mark.parametrize("damage", ["interpreter", "stamp", "moved"])
def test_a_broken_environment_is_made_anew(clone: Clone, damage: str) -> None:
    clone.launch("setup")
    clone.calls()
    match damage:
        case "interpreter":
            (clone.folder / ".venv" / "bin" / "python").unlink()
        case "stamp":
            (clone.folder / ".venv" / "easel-stamp.json").write_text('{"lock": "half')
        case _:
            moved = clone.folder.with_name("moved")
            clone.folder.rename(moved)
            clone.folder = moved
    assert clone.launch("setup").returncode == 0
    assert [call.split()[0] for call in clone.calls()] == ["venv", "pip"]


def test_a_linked_environment_is_replaced_not_emptied(clone: Clone, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "kept").touch()
    (clone.folder / ".venv").symlink_to(other)
    assert clone.launch("setup").returncode == 0
    assert (other / "kept").exists()
    assert not (clone.folder / ".venv").is_symlink()


def test_another_torch_build_is_pinned_by_version_and_the_rest_by_hash(clone: Clone) -> None:
    assert clone.launch("setup", UV_TORCH_BACKEND="cu128").returncode == 0
    _, locked, torch = clone.calls()
    assert "--require-hashes" in locked
    assert "--no-deps" in locked
    subset = (clone.folder / ".venv" / "without-torch-requirements.lock").read_text()
    assert subset == "numpy==2.4.6 \\\n    --hash=sha256:aa\n"
    assert "--torch-backend cu128" in torch
    assert torch.endswith(" torch==2.15.0")
    assert "--require-hashes" not in torch
    assert clone.stamp()["torch"] == "cu128"


def test_falls_back_to_the_plain_torch_and_tries_again_when_asked(clone: Clone) -> None:
    fallen = clone.launch(
        "setup",
        UV_TORCH_BACKEND="cu128",
        FAKE_FAILS_ON="--torch-backend",
        FAKE_SAYS=NO_NETWORK,
    )
    assert fallen.returncode == 0
    assert "plain build of torch" in fallen.stderr
    assert clone.calls()[-1].endswith("-r ./requirements.lock")
    assert (clone.stamp()["wanted"], clone.stamp()["torch"]) == ("cu128", "plain")

    assert clone.launch("serve", UV_TORCH_BACKEND="cu128").returncode == 0
    assert clone.calls() == []

    assert clone.launch("setup", UV_TORCH_BACKEND="cu128").returncode == 0
    assert clone.calls()[-1].endswith(" torch==2.15.0")
    assert clone.stamp()["torch"] == "cu128"


def test_does_not_take_what_it_does_not_know(clone: Clone) -> None:
    done = clone.launch("setup", "--fast")
    assert done.returncode == 1
    assert "--fast" in done.stderr
    assert clone.calls() == []


def test_a_missing_lock_is_named(clone: Clone) -> None:
    (clone.folder / "requirements.lock").unlink()
    done = clone.launch("setup")
    assert done.returncode == 1
    assert "requirements.lock cannot be read" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_sets_nothing_up(clone: Clone) -> None:
    done = clone.launch("--help")
    assert done.returncode == 0
    assert "setup" in done.stderr
    assert not (clone.folder / ".venv").exists()


def test_ci_runs_exactly_the_test_command(clone: Clone) -> None:
    (clone.folder / ".ci").mkdir()
    shutil.copy(REPOSITORY / ".ci" / "run", clone.folder / ".ci" / "run")
    (clone.folder / "launch.py").write_text("import sys; print(sys.argv[1:])")
    done = subprocess.run(
        ["bash", str(clone.folder / ".ci" / "run")],
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "['test']\n"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="xformers has wheels for x86 only")
def test_xformers_has_an_environment_of_its_own(clone: Clone) -> None:
    run = clone.launch("--xformers", "--port", "7861")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["argv"] == ["serve", "--port", "7861"]
    venv, install = clone.calls()
    assert venv.endswith("./.venv-xformers")
    assert install.endswith("-r ./requirements-xformers.lock")
    assert not (clone.folder / ".venv").exists()
    assert clone.launch("--xformers").stderr == ""
    assert clone.calls() == []
    assert clone.launch("setup").returncode == 0
    assert clone.calls()[1].endswith("-r ./requirements.lock"), "the usual one is another"


@pytest.mark.parametrize("command", ["test", "lock"])
def test_commands_of_the_usual_environment_refuse_xformers(clone: Clone, command: str) -> None:
    run = clone.launch(command, "--xformers")
    assert run.returncode == 1
    assert run.stderr == f"`{command}` does not know --xformers; see launch.py --help.\n"
