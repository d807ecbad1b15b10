from __future__ import annotations

import sys
from pathlib import Path

import pytest

from webui.launcher import uv

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-ins are shell scripts")


def _program(folder: Path, script: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "uv"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.mark.parametrize("folder", ["path", "home/.local/bin", "home/.cargo/bin", "venv"])
def test_finds_uv_where_it_is_put(machine: Path, folder: str) -> None:
    program = _program(machine / folder, "echo uv 0.13.9 '(abc 2026-01-01)'")
    assert uv.find(machine / "venv") == program


@pytest.mark.parametrize("script", ["echo uv 0.7.22", "echo 'uv: command not found'; exit 127"])
def test_passes_over_an_old_one_and_an_empty_shim(machine: Path, script: str) -> None:
    _program(machine / "path", script)
    assert uv.find() is None
    newer = _program(machine / "venv", "echo uv 1.0.0")
    assert uv.find(machine / "venv") == newer


def test_installs_uv_at_its_locked_version(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called = machine / "called"
    python = machine / "venv" / "bin" / "python"
    _program(python.parent, f'echo "$@" > {called}').rename(python)
    uv.install(python)
    arguments = called.read_text().split()
    assert "--require-hashes" in arguments
    wanted = Path(arguments[arguments.index("-r") + 1]).read_text()
    assert wanted.startswith("uv==")
    assert "--hash=sha256:" in wanted
    assert wanted.count("==") == 1
