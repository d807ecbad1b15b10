from __future__ import annotations

import os
import sys

import pytest

from webui.launcher.console import SetupError, answer_of, clean_environ, explain, run_tool


@pytest.mark.parametrize(
    ("output", "advice"),
    [
        ("error: Failed to fetch: `x`\n  cause: dns error", "check the network"),
        ("tcp connect error: Connection refused (os error 111)", "check the network"),
        ("failed to write: No space left on device (os error 28)", "the disk is full"),
        ("Failed to extract: There is not enough space (os error 112)", "the disk is full"),
        ("error: Hash mismatch for `torch==2.15.0`", "not the one this version was tested with"),
        (
            "x No solution found when resolving dependencies: torch==2.15.0 has no wheels with a "
            "matching Python ABI tag",
            "another Python",
        ),
        ("The virtual environment was not created because ensurepip is not", "python3-venv"),
        ("PermissionError: [Errno 13] Permission denied: 'x'", "may not be written"),
        ("something new", "the tool's own words"),
    ],
)
def test_explain_says_what_to_do(output: str, advice: str) -> None:
    said = explain("Installing the packages", output)
    assert said.startswith("Installing the packages failed")
    assert advice in said
    assert "\n" not in said


def test_run_tool_shows_the_output_and_keeps_its_end(capfd: pytest.CaptureFixture[str]) -> None:
    code = "import sys; print('begun'); print('No space left on device', file=sys.stderr); exit(1)"
    with pytest.raises(SetupError, match="disk is full"):
        run_tool("Making it", [sys.executable, "-c", code], os.environ)
    out, err = capfd.readouterr()
    assert out == ""
    assert "begun" in err
    assert "No space left" in err


def test_run_tool_names_a_program_that_is_not_there() -> None:
    with pytest.raises(SetupError, match="/nowhere/uv could not be started"):
        run_tool("Making it", ["/nowhere/uv"], os.environ)


def test_answer_of() -> None:
    assert answer_of([sys.executable, "-c", "print('7')"]) == "7\n"
    assert answer_of([sys.executable, "-c", "print('7'); exit(1)"]) is None
    assert answer_of(["/nowhere/uv"]) is None


def test_clean_environ_drops_what_leads_astray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_TORCH_BACKEND", "cpu")
    monkeypatch.setenv("VIRTUAL_ENV", "/elsewhere")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "kept")
    environ = clean_environ(EXTRA="1")
    assert "UV_TORCH_BACKEND" not in environ
    assert "VIRTUAL_ENV" not in environ
    assert environ["UV_DEFAULT_INDEX"] == "kept"
    assert environ["EXTRA"] == "1"
