"""The operator's settings: nobody but the operator raises them, and a doubtful file is strict."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.safety.keeping import OPEN, VISITOR, Keep, write_policy
from webui.cli import main
from webui.levels import LEVELS, Level
from webui.safety.operator import FILE, highest_bound
from webui.settings import ROOT, Settings

BAD = {
    "empty": "",
    "mistyped level": "max_level = true\n",
    "level as text": 'max_level = "2"\n',
    "level as a fraction": "max_level = 2.0\n",
    "level out of range": "max_level = 1000000000\n",
    "unknown key": f"{OPEN}max_levels = 2\n",
    "looser threshold": f"{OPEN}[thresholds.0]\nanus = 0.9\n",
    "no TOML": "max_level: 2\n",
}


@pytest.mark.parametrize("kind", BAD)
def test_a_policy_that_cannot_be_used_is_strict(tmp_path: Path, kind: str) -> None:
    write_policy(tmp_path, BAD[kind])
    keep = Keep(tmp_path)
    keep.grants.issue(VISITOR.id, 2, "owner", keep.gate.policy().digest)
    assert keep.level(VISITOR) == 0
    assert keep.gate.policy().trouble is not None


@pytest.mark.parametrize("mode", [0o602, 0o620, 0o666])
def test_a_policy_that_others_can_write_is_strict(tmp_path: Path, mode: int) -> None:
    write_policy(tmp_path, OPEN, mode)
    keep = Keep(tmp_path)
    keep.grants.issue(VISITOR.id, 2, "owner", keep.gate.policy().digest)
    assert keep.level(VISITOR) == 0


def test_a_policy_that_turns_bad_ends_what_was_granted_under_it(tmp_path: Path) -> None:
    for text, mode in ((OPEN, 0o666), ("max_levle = 2\n", 0o600), ("", 0o600)):
        write_policy(tmp_path, OPEN)
        keep = Keep(tmp_path)
        keep.grant(VISITOR)
        assert keep.level(VISITOR) == 2
        write_policy(tmp_path, text, mode)
        assert keep.level(VISITOR) == 0
        write_policy(tmp_path, OPEN)
        assert keep.level(VISITOR) == 0, "the grant is gone for good"


@pytest.mark.parametrize(
    ("said", "bound"), [("0", 0), ("1", 1), ("2", 1), ("3", 0), ("art", 0), ("", 0)]
)
@pytest.mark.parametrize("flag", [None, *LEVELS])
def test_environment_and_flag_above_the_file_change_nothing(
    tmp_path: Path, said: str, bound: int, flag: Level | None
) -> None:
    write_policy(tmp_path, "max_level = 1\n")
    keep = Keep(tmp_path, bound=highest_bound({"EASEL_MAX_LEVEL": said}, flag))
    keep.grants.issue(VISITOR.id, 2, "owner", keep.gate.policy().digest)
    assert keep.level(VISITOR) == (bound if flag is None else min(bound, flag))


def test_a_level_raised_in_the_file_of_a_running_server(tmp_path: Path) -> None:
    write_policy(tmp_path, "max_level = 1\n")
    keep = Keep(tmp_path)
    write_policy(tmp_path, OPEN)
    keep.grant(VISITOR)
    assert keep.level(VISITOR) == 1


def test_a_level_lowered_in_the_file_reaches_a_running_job(tmp_path: Path) -> None:
    write_policy(tmp_path, OPEN)
    keep = Keep(tmp_path)
    keep.grant(VISITOR)
    assert keep.level(VISITOR) == 2
    write_policy(tmp_path, "max_level = 1\n")
    assert keep.level(VISITOR) == 0


@pytest.mark.parametrize(
    "what",
    [
        ["max_level", "2"],
        ["share_max_level", "1"],
        ["knows_invitees", "true"],
        ["guard", "nsfw", "0" * 64],
    ],
)
def test_raising_a_setting_without_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: list[str]
) -> None:
    monkeypatch.setattr("webui.cli.policy_deeds.Settings", lambda: Settings(state=tmp_path))
    assert main(["policy", "set", *what]) == 2
    assert main(["policy", "allow", "0" * 64]) == 2
    assert not (tmp_path / FILE).exists()


def test_nothing_but_the_command_writes_settings_or_invitations() -> None:
    allowed = {"webui/cli/policy_deeds.py", "webui/safety/operator.py"}
    for path in sorted((ROOT / "webui").rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name in allowed:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(attr="invite" | "end_all")):
                    pytest.fail(f"{name} makes or ends invitations")
                case ast.Import(names=names) if "tomlkit" in {each.name for each in names}:
                    pytest.fail(f"{name} writes TOML")
                case ast.Constant(value=str(text)) if text == FILE:
                    pytest.fail(f"{name} names the file of the settings")
                case _:
                    pass
