from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from webui.launcher import chromium
from webui.launcher.console import SetupError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-ins are shell scripts")


def _program(file: Path, script: str = "") -> Path:
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return file


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(chromium.VARIABLE, raising=False)
    monkeypatch.setattr(chromium, "PLACES", ())
    return tmp_path


def test_finds_what_is_installed(path: Path) -> None:
    assert chromium.find() is None
    chrome = _program(path / "google-chrome")
    assert chromium.find() == str(chrome)
    assert chromium.find() == chromium.ensure()


def test_the_named_one_wins(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _program(path / "chromium")
    mine = _program(path / "mine")
    monkeypatch.setenv(chromium.VARIABLE, str(mine))
    assert chromium.find() == str(mine)
    mine.unlink()
    with pytest.raises(SetupError, match="is not a program"):
        chromium.find()


def test_root_installs_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    said = path / "said"
    installs = f'case "$*" in *install*chromium) : > {path}/chromium; '
    _program(
        path / "apt-get", f'echo "$*" >> {said}; {installs} /bin/chmod +x {path}/chromium;; esac'
    )
    assert chromium.ensure() == str(path / "chromium")
    assert [line.split()[0] for line in said.read_text().splitlines()] == ["update", "install"]


def test_who_may_not_is_told_how(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    _program(path / "sudo", "exit 1")
    _program(path / "apt-get", f": > {path}/called")
    with pytest.raises(
        SetupError, match=r"`sudo apt-get update && sudo apt-get install .*chromium`"
    ):
        chromium.ensure()
    assert not (path / "called").exists()


def test_sudo_without_a_password_will_do(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    _program(
        path / "sudo", f'echo "$*" >> {path}/said; : > {path}/chromium; /bin/chmod +x {path}/*'
    )
    _program(path / "dnf")
    assert chromium.ensure() == str(path / "chromium")
    assert (path / "said").read_text().splitlines()[-1] == "-n dnf install -y chromium"


def test_without_a_package_manager_it_says_what_is_needed(path: Path) -> None:
    with pytest.raises(SetupError, match="install one, or name it in EASEL_CHROMIUM"):
        chromium.ensure()
