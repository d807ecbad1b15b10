from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from webui.launcher.checks import CHECKS, Check, run_all
from webui.launcher.console import SetupError


def _exits(code: int) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", "-c", f"raise SystemExit({code})")


def test_all_pass(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_all([Check("style", _exits(0)), Check("types", _exits(0))]) == []
    said = capfd.readouterr().err
    assert all(f"== {name} (" in said for name in ("style", "types"))
    assert "All 2 checks passed" in said


def test_a_failure_is_named_and_the_rest_still_runs(capfd: pytest.CaptureFixture[str]) -> None:
    checks = [Check("style", _exits(1)), Check("types", _exits(0)), Check("none", ("/nowhere",))]
    assert run_all(checks) == ["style", "none"]
    said = capfd.readouterr().err
    assert "== types (" in said
    assert "Failed: style, none (2 of 3 checks" in said


def test_checks_run_side_by_side_and_each_is_told_as_it_ends(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    met = str(tmp_path / "met")
    waits = f"import os, time\nwhile not os.path.exists({met!r}): time.sleep(0.01)\nprint('last')"
    meets = f"print('first'); open({met!r}, 'w').close()"
    commands = [(sys.executable, "-I", "-S", "-c", code) for code in (waits, meets)]
    assert run_all([Check("one", commands[0]), Check("other", commands[1])]) == []
    said = capfd.readouterr().err
    order = [said.index(part) for part in ("== one", "last", "All 2 checks passed")]
    assert order == sorted(order)
    assert said.index("== other") < said.index("first")


_AFTER = """
import os, pathlib, time
file = pathlib.Path({file!r})
while not file.exists() or not file.read_text():
    time.sleep(0.01)
try:
    while True:
        os.kill(int(file.read_text()), 0)
        time.sleep(0.01)
except ProcessLookupError:
    raise SystemExit(1)
"""


def test_failures_are_named_in_the_order_of_the_checks(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = str(tmp_path / "process")
    early = f"import os, pathlib; pathlib.Path({file!r}).write_text(str(os.getpid())); 1 / 0"
    commands = [
        (sys.executable, "-I", "-S", "-c", code) for code in (_AFTER.format(file=file), early)
    ]
    assert run_all([Check("late", commands[0]), Check("early", commands[1])]) == ["late", "early"]
    said = capfd.readouterr().err
    assert said.index("== early (1 of 2)") < said.index("== late (2 of 2)")


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
    for part in ("ruff check", "ruff format --check", "pyright", "lint-imports"):
        assert part in commands


ROOT = Path(__file__).parents[2]


def _files(arguments: Sequence[str]) -> Counter[Path]:
    """The files with tests that pytest takes with such arguments."""
    ignored = {ROOT / each.partition("=")[2] for each in arguments if each.startswith("--ignore=")}
    named = [each for each in arguments if each.startswith("tests/")] or ["tests"]
    return Counter(
        file
        for each in named
        for file in (ROOT / each).rglob("test_*.py")
        if not ignored & {*file.parents}
    )


def test_every_test_is_run_by_one_check() -> None:
    everything = Counter((ROOT / "tests").rglob("test_*.py"))
    browser, others = Counter[Path](), Counter[Path]()
    for check in CHECKS:
        words = [str(part) for part in check.command]
        if "pytest" not in words:
            continue
        assert words[3] == "-m"
        assert words[4] in ("browser", "not browser")
        (browser if words[4] == "browser" else others).update(_files(words[5:]))
    assert others == everything
    marked = {file for file in everything if "pytest.mark." + "browser" in file.read_text()}
    assert len(marked) > 10
    assert marked <= browser.keys()
    assert set(browser.values()) == {1}
