"""`policy`: what it changes, and what it asks for before it allows more."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from webui.cli import main
from webui.cli.building import shelves_in
from webui.cli.places import add_places, settings_of
from webui.cli.policy_deeds import KNOWS, RESPONSIBLE, TRUSTS
from webui.safety.audit import FOLDER
from webui.safety.grants import EPOCH_FILE, Epoch, Grants
from webui.safety.invitations import Invitations
from webui.safety.operator import FILE, Policy, read_policy
from webui.settings import ROOT, Settings

ONE = "1" * 64
LORA = ROOT / "loras" / "postcard-neon.safetensors"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "state"
    monkeypatch.setattr("webui.cli.policy_deeds.Settings", lambda: Settings(state=folder))
    monkeypatch.delenv("EASEL_MAX_LEVEL", raising=False)
    return folder


Type = Callable[[str | None], None]


@pytest.fixture
def types(monkeypatch: pytest.MonkeyPatch) -> Type:
    """Puts a terminal in place, in which something is typed."""

    def typing(text: str | None) -> None:
        def answer(prompt: str) -> str:
            if text is None:
                raise EOFError
            return text

        monkeypatch.setattr("sys.stdin.isatty", lambda: True)
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
        monkeypatch.setattr("builtins.input", answer)

    return typing


def policy(*arguments: str) -> int:
    return main(["policy", *arguments])


def events(state: Path) -> list[tuple[str, object]]:
    lines = [
        json.loads(line)
        for path in sorted((state / FOLDER).glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    return [(line["event"], line.get("effective")) for line in lines]


@pytest.mark.parametrize(
    ("what", "sentence", "expected"),
    [
        (["max_level", "2"], RESPONSIBLE, Policy(max_level=2)),
        (["share_max_level", "1"], RESPONSIBLE, Policy(share_max_level=1)),
        (["knows_invitees", "true"], KNOWS, Policy(knows_invitees=True)),
        (["guard", "nsfw", ONE], RESPONSIBLE, Policy(guards={"nsfw": ONE})),
    ],
)
def test_what_allows_more_needs_a_typed_sentence_and_is_written_down(
    state: Path,
    types: Type,
    capsys: pytest.CaptureFixture[str],
    what: list[str],
    sentence: str,
    expected: Policy,
) -> None:
    for typed in ("", "yes", sentence[:-1], None):
        types(typed)
        assert policy("set", *what) == 2
        assert "Nothing was changed" in capsys.readouterr().err
        assert not (state / FILE).exists()
    types(f"  {sentence.upper()}. ")
    assert policy("set", *what) == 0
    output = capsys.readouterr().out
    assert sentence in output
    assert "started again" in output
    assert read_policy(state / FILE) == expected
    assert (state / FILE).stat().st_mode & 0o777 == 0o600
    assert events(state) == [("policy set", expected.max_level)]


def test_without_a_terminal_nothing_is_allowed_that_was_not(
    state: Path, types: Type, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    types(RESPONSIBLE)
    for end in ("stdin", "stdout"):
        with monkeypatch.context() as patch:
            patch.setattr(f"sys.{end}.isatty", lambda: False)
            assert policy("set", "max_level", "1") == 2
        assert "in a terminal" in capsys.readouterr().err
    assert not (state / FILE).exists()


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (["max_level", "1"], Policy(max_level=1)),
        (["max_level", "2"], Policy(max_level=2)),
        (["mosaic_previews", "true"], Policy(max_level=2, mosaic_previews=True)),
        (["threshold", "anus", "0.1"], Policy(max_level=2, thresholds={(2, "anus"): 0.1})),
        (
            ["threshold", "anus", "0.1", "--level", "0"],
            Policy(max_level=2, thresholds={(0, "anus"): 0.1}),
        ),
    ],
)
def test_what_allows_less_is_done_at_once_and_written_down(
    state: Path, capsys: pytest.CaptureFixture[str], what: list[str], expected: Policy
) -> None:
    begin(state, "max_level = 2\n")
    assert policy("set", *what) == 0
    assert "at once" in capsys.readouterr().out
    assert read_policy(state / FILE) == expected
    assert events(state) == [("policy set", expected.max_level)]


def begin(state: Path, text: str, mode: int = 0o600) -> None:
    state.mkdir(exist_ok=True)
    (state / FILE).write_text(text)
    (state / FILE).chmod(mode)


def test_a_threshold_can_be_put_back_with_the_sentence(state: Path, types: Type) -> None:
    assert policy("set", "threshold", "anus", "0.1") == 0
    assert policy("set", "threshold", "anus", "shipped") == 2
    types(RESPONSIBLE)
    assert policy("set", "threshold", "anus", "0.12") == 0
    assert dict(read_policy(state / FILE).thresholds) == {(2, "anus"): 0.12}
    assert policy("set", "threshold", "anus", "shipped") == 0
    assert read_policy(state / FILE) == Policy()


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        (["threshold", "anus", "0.9"], "it can only be tightened"),
        (["threshold", "anus", "nan"], "it can only be tightened"),
        (["threshold", "anus", "low"], "'low' is no number."),
        (["guard", "nsfw", "abc"], "guards.nsfw has 'abc': it must be a SHA-256"),
    ],
)
def test_what_cannot_be_set_is_told(
    state: Path, capsys: pytest.CaptureFixture[str], what: list[str], sentence: str
) -> None:
    assert policy("set", *what) == 2
    assert sentence in capsys.readouterr().err
    assert not (state / FILE).exists()


def test_what_the_operator_wrote_around_a_setting_stays(state: Path) -> None:
    text = "# mine\nmax_level = 2 # for now\n\n[issuer]\n"
    text += 'url = "https://a.example"\nclient_id = "e"\nclaim = "c"\nvalue = true\nlevel = 1\n'
    begin(state, text)
    assert policy("set", "max_level", "1") == 0
    assert (state / FILE).read_text() == text.replace("= 2", "= 1")
    assert policy("set", "mosaic_previews", "true") == 0
    found = read_policy(state / FILE)
    assert found.mosaic_previews
    assert found.issuer is not None


def test_a_file_that_cannot_be_relied_on_is_not_built_upon(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(state, "max_level = 2\n", 0o666)
    for command in (["set", "max_level", "1"], ["invite", "--level", "1"]):
        assert policy(*command) == 2
        assert "written by others" in capsys.readouterr().err
    assert (state / FILE).read_text() == "max_level = 2\n"


def test_a_change_made_while_the_sentence_was_typed_is_not_undone(
    state: Path, types: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    types(RESPONSIBLE)

    def slowly(prompt: str) -> str:
        begin(state, "mosaic_previews = true\n")
        return RESPONSIBLE

    monkeypatch.setattr("builtins.input", slowly)
    assert policy("set", "max_level", "2") == 2
    assert read_policy(state / FILE) == Policy(mosaic_previews=True)


def test_a_log_that_fails_keeps_settings_from_being_raised_but_not_from_being_lowered(
    state: Path, types: Type, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(state, "max_level = 1\n")
    (state / FOLDER).write_bytes(b"no folder")
    types(RESPONSIBLE)
    assert policy("set", "max_level", "2") == 1
    assert read_policy(state / FILE).max_level == 1
    capsys.readouterr()
    assert policy("set", "max_level", "0") == 0
    assert read_policy(state / FILE).max_level == 0
    assert "could not be written to the audit log" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["hash", "file", "model", "adapter"])
def test_models_are_trusted_by_their_content(
    state: Path, types: Type, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:

    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(LORA.read_bytes())
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4}')
    settings = Settings(state=tmp_path / "hashes", loras=tmp_path)
    shelf = shelves_in(settings).loras
    cards = {card.name: card for card in shelf.cards()}
    named, digest = {
        "hash": ("A" * 64, "a" * 64),
        "file": (str(LORA), shelf.hashes(cards["postcard-neon"]).sha256),
        "model": (
            str(ROOT / "models" / "postcard"),
            shelves_in(settings).models.find("postcard").sha256,
        ),
        "adapter": (str(adapter), shelf.hashes(cards["adapter"]).sha256),
    }[what]
    types(TRUSTS)
    assert policy("allow", named) == 0
    assert digest in capsys.readouterr().out
    assert policy("allow", ONE) == 0
    assert read_policy(state / FILE).allowed == {digest, ONE}
    assert policy("forbid", named) == 0
    assert read_policy(state / FILE).allowed == {ONE}
    assert policy("forbid", named) == 0


@pytest.mark.parametrize("what", ["nowhere", "README.md", "webui"])
def test_what_is_no_model_cannot_be_trusted(
    state: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    assert policy("allow", str(ROOT / what)) == 2
    assert "neither a safetensors file, nor" in capsys.readouterr().err


def test_an_invitation_is_printed_once_and_can_be_redeemed(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(state, "max_level = 2\n")
    assert policy("invite", "--level", "2", "--hours", "0.5") == 0
    output = capsys.readouterr()
    code = output.out.strip()
    assert "0.5 hours" in output.err
    assert code not in output.err
    invitations = Invitations(state, Epoch(state / EPOCH_FILE))
    assert invitations.redeem(code, "a").level == 2
    assert invitations.redeem(code, "a").level is None
    assert events(state) == [("invited", 2)]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--level", "2"], "max_level is 1, so nobody can reach level 2"),
        (["--level", "1", "--hours", "0"], "--hours is 0: it must be more than 0"),
        (["--level", "1", "--hours", "721"], "at most 720"),
        (["--level", "1", "--hours", "nan"], "--hours is nan"),
    ],
)
def test_an_invitation_of_no_use_is_not_made(
    state: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    begin(state, "max_level = 1\n")
    assert policy("invite", *arguments) == 2
    assert sentence in capsys.readouterr().err
    assert events(state) == []


def test_a_revocation_ends_grants_and_invitations(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(state, "max_level = 2\n")
    policy("invite", "--level", "2")
    code = capsys.readouterr().out.strip()
    epoch = Epoch(state / EPOCH_FILE)
    grants = Grants(epoch)
    grants.issue("a", 2, "owner", "digest")
    assert policy("revoke") == 0
    assert grants.find("a", "digest") is None
    assert Invitations(state, epoch).redeem(code, "a").level is None
    assert events(state) == [("invited", 2), ("revoked", None)]


def test_a_revocation_does_not_need_the_log(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state.mkdir()
    (state / FOLDER).write_bytes(b"no folder")
    assert policy("revoke") == 0
    assert "could not be written to the audit log" in capsys.readouterr().err
    assert Epoch(state / EPOCH_FILE).read() is not None


def test_the_log_is_shown_to_be_whole_or_not(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert policy("audit", "--verify") == 0
    assert policy("revoke") == 0
    assert policy("revoke") == 0
    assert policy("audit", "--verify") == 0
    assert "2 lines" in capsys.readouterr().out
    (day,) = (state / FOLDER).glob("*.jsonl")
    day.write_text(day.read_text().replace("revoked", "invited", 1))
    assert policy("audit", "--verify") == 1
    assert "broken" in capsys.readouterr().out
    assert policy("audit") == 0
    assert str(state / FOLDER) in capsys.readouterr().out


def test_the_settings_are_shown(
    state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert policy("show") == 0
    assert "does not exist, so everything is strict" in capsys.readouterr().out
    begin(
        state,
        f'max_level = 2\nshare_max_level = 1\nallowed = ["{ONE}"]\n'
        f'[thresholds.1]\nanus = 0.2\n[guards]\nnsfw = "{ONE}"\n',
    )
    monkeypatch.setenv("EASEL_MAX_LEVEL", "1")
    assert policy("show") == 0
    shown = capsys.readouterr().out
    for line in (
        "max_level = 2",
        "  held at 1 by EASEL_MAX_LEVEL",
        "share_max_level = 1",
        "  held at 0 until knows_invitees is true or an issuer is configured",
        "knows_invitees = false",
        "threshold anus = 0.2 up to level 1",
        f"guard nsfw = {ONE}",
        f"allowed {ONE}",
    ):
        assert line in shown.splitlines()
    with (state / FILE).open("a") as file:
        file.write('[issuer]\nurl = "https://a.example"\nclient_id = "e"\nclient_secret = "hush"\n')
        file.write('claim = "c"\nvalue = true\nlevel = 1\nname = "Example"\n')
    assert policy("show") == 0
    shown = capsys.readouterr().out
    assert "issuer = Example, https://a.example, level 1" in shown
    assert "hush" not in shown
    assert "held at 0" not in shown
    begin(state, "max_levle = 2\n")
    assert policy("show") == 2
    output = capsys.readouterr()
    assert "max_level = 0" in output.out
    assert "did you mean 'max_level'?" in output.err


def test_the_flag_holds_the_level_of_what_is_built(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    add_places(parser)
    for given, level in (([], None), (["--max-level", "1"], 1)):
        assert settings_of(parser.parse_args(given), tmp_path).max_level == level
    with pytest.raises(SystemExit):
        parser.parse_args(["--max-level", "3"])
