from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from webui.launcher.checks import CHECKS, Check, run_all
from webui.launcher.console import SetupError


def _exits(code: int) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", "-c", f"raise SystemExit({code})")


def test_all_pass(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_all([Check("style", _exits(0)), Check("types", _exits(0))]) == []
    said = capfd.readouterr().err
    assert "== style (1 of 2) ==" in said
    assert "== types (2 of 2) ==" in said
    assert "All 2 checks passed" in said


def test_a_failure_is_named_and_the_rest_still_runs(capfd: pytest.CaptureFixture[str]) -> None:
    checks = [Check("style", _exits(1)), Check("types", _exits(0)), Check("none", ("/nowhere",))]
    assert run_all(checks) == ["style", "none"]
    said = capfd.readouterr().err
    assert "== types (2 of 3) ==" in said
    assert "Failed: style, none (2 of 3 checks" in said


def test_checks_run_side_by_side_and_are_told_in_order(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    met = str(tmp_path / "met")
    waits = f"import os, time\nwhile not os.path.exists({met!r}): time.sleep(0.01)\nprint('first')"
    meets = f"open({met!r}, 'w').close(); print('second')"
    commands = [(sys.executable, "-I", "-S", "-c", code) for code in (waits, meets)]
    assert run_all([Check("one", commands[0]), Check("other", commands[1])]) == []
    said = capfd.readouterr().err
    order = [said.index(part) for part in ("== one", "first", "== other", "second")]
    assert order == sorted(order)


def test_what_cannot_be_prepared_has_failed(capfd: pytest.CaptureFixture[str]) -> None:
    def no_browser() -> Mapping[str, str]:
        raise SetupError("Install Chromium.")

    assert run_all([Check("browser", _exits(0), no_browser)]) == ["browser"]
    assert "Install Chromium." in capfd.readouterr().err


def test_what_was_prepared_reaches_the_check() -> None:
    code = "import os; raise SystemExit(os.environ['EASEL_CHROMIUM'] != 'here')"
    command = (sys.executable, "-I", "-S", "-c", code)
    assert run_all([Check("browser", command, lambda: {"EASEL_CHROMIUM": "here"})]) == []


def test_every_kind_of_check_is_run() -> None:
    commands = " ".join(str(part) for check in CHECKS for part in check.command)
    for part in ("ruff check", "ruff format --check", "pyright", "lint-imports", "not browser"):
        assert part in commands
