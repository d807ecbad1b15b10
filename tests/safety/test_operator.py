from __future__ import annotations

import itertools
import logging
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.safety.keeping import write_policy
from webui.levels import LEVELS
from webui.safety.operator import (
    FILE,
    IssuerPolicy,
    Policy,
    PolicyError,
    PolicyWatcher,
    highest_bound,
    parse_policy,
    read_policy,
    tightest,
)

ONE, OTHER = "1" * 64, "2" * 64
ISSUER = IssuerPolicy(
    url="https://login.example",
    client_id="easel",
    client_secret="placeholder",
    claim="of_age",
    value=True,
    level=2,
    name="Example",
)
FULL = Policy(
    max_level=2,
    share_max_level=1,
    knows_invitees=True,
    mosaic_previews=True,
    thresholds=MappingProxyType({(1, "anus"): 0.2, (2, "suggestive"): 1.0}),
    allowed=frozenset({ONE, OTHER}),
    guards=MappingProxyType({"nsfw": ONE, "face-age": OTHER}),
    issuer=ISSUER,
)
TEXT = f"""
max_level = 2
share_max_level = 1
knows_invitees = true
mosaic_previews = true
allowed = ["{ONE}", "{OTHER}"]
[thresholds.1]
anus = 0.2
[thresholds.2]
suggestive = 1
[guards]
nsfw = "{ONE}"
face-age = "{OTHER}"
[issuer]
url = "https://login.example"
client_id = "easel"
client_secret = "placeholder"
claim = "of_age"
value = true
level = 2
name = "Example"
"""
NEEDED = 'url = "https://a.example"\nclient_id = "e"\nclaim = "c"\nvalue = true\nlevel = 1\n'


def test_a_full_file_is_read(tmp_path: Path) -> None:
    assert read_policy(write_policy(tmp_path, TEXT)) == FULL


def test_without_a_file_everything_is_strict_and_nothing_is_wrong(tmp_path: Path) -> None:
    assert read_policy(tmp_path / FILE) == Policy()
    assert Policy().max_level == Policy().share_max_level == 0
    assert Policy().issuer is None


def test_an_issuer_needs_no_secret_or_name() -> None:
    found = parse_policy(f"[issuer]\n{NEEDED}".encode()).issuer
    assert found is not None
    assert (found.client_secret, found.name) == ("", "login")
    assert "placeholder" not in repr(ISSUER)


@pytest.mark.parametrize("url", ["http://localhost:9000", "http://127.0.0.1", "http://[::1]:1"])
def test_an_issuer_on_this_machine_needs_no_encryption(url: str) -> None:
    text = NEEDED.replace("https://a.example", url)
    found = parse_policy(f"[issuer]\n{text}".encode()).issuer
    assert found is not None
    assert found.url == url


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "The file is empty."),
        (" \n", "The file is empty."),
        ("max_level = ", "This is no TOML: "),
        ("a = " + "[" * 100_000, "This is no TOML: it is nested too deeply."),
        ("max_level = 1\nmax_level = 2", "This is no TOML: "),
        ("max_levle = 1", "Unknown key 'max_levle': did you mean 'max_level'?"),
        ("max_level = true", "max_level is True: it must be 0, 1 or 2."),
        ('max_level = "2"', "max_level is '2': it must be 0, 1 or 2."),
        ("max_level = 2.0", "max_level is 2.0: it must be 0, 1 or 2."),
        ("max_level = 3", "max_level is 3: it must be 0, 1 or 2."),
        ("max_level = -1", "max_level is -1: it must be 0, 1 or 2."),
        ("max_level = [2]", "max_level is [2]: it must be 0, 1 or 2."),
        ("share_max_level = true", "share_max_level is True: it must be 0, 1 or 2."),
        ("knows_invitees = 1", "knows_invitees is 1: it must be true or false."),
        ('mosaic_previews = "no"', "mosaic_previews is 'no': it must be true or false."),
        ('allowed = "all"', "allowed is 'all': it must be a list."),
        ("allowed = [1]", "allowed has 1: it must be a SHA-256 in 64 small hex digits."),
        (f'allowed = ["{"A" * 64}"]', "it must be a SHA-256 in 64 small hex digits."),
        (f'allowed = ["{"a" * 65}"]', "it must be a SHA-256 in 64 small hex digits."),
        ("thresholds = 1", "thresholds is 1: it must be a table."),
        ("[thresholds.3]", "Unknown level in thresholds '3': known are '0', '1', '2'."),
        ("[thresholds]\n1 = 2", "1 is 2: it must be a table."),
        ("[thresholds.0]\nanos = 0.1", "Unknown threshold 'anos': did you mean 'anus'?"),
        (
            "[thresholds.0]\nanus = 0.16",
            "The threshold anus of level 0 is 0.16: it can only be tightened, so it must be a"
            " number from 0 to 0.15.",
        ),
        ("[thresholds.2]\nsuggestive = 1.1", "so it must be a number from 0 to 1."),
        ("[thresholds.0]\nanus = nan", "so it must be a number from 0 to 0.15."),
        ("[thresholds.0]\nanus = -0.1", "so it must be a number from 0 to 0.15."),
        ("[thresholds.0]\nanus = false", "so it must be a number from 0 to 0.15."),
        ('[thresholds.0]\nanus = "0"', "so it must be a number from 0 to 0.15."),
        ("guards = []", "guards is []: it must be a table."),
        (f'[guards]\nnfsw = "{ONE}"', "Unknown guard 'nfsw': did you mean 'nsfw'?"),
        (f'[guards]\ndetector = "{ONE}"', "Unknown guard 'detector'"),
        ("[guards]\nnsfw = 1", "guards.nsfw has 1: it must be a SHA-256"),
        ("issuer = 1", "issuer is 1: it must be a table."),
        ("[issuer]", "issuer has no url."),
        (f"[issuer]\n{NEEDED}secret = 1", "Unknown key in issuer 'secret': did you mean"),
        (f"[issuer]\n{NEEDED.replace('1', 'true')}", "level is True: it must be 0, 1 or 2."),
        (f"[issuer]\n{NEEDED.replace('true', '[true]')}", "The issuer's value is [True]"),
        (f"[issuer]\n{NEEDED.replace('true', '1.0')}", "The issuer's value is 1.0"),
        (f"[issuer]\n{NEEDED.replace('https', 'http')}", "it must begin with https://."),
        (f"[issuer]\n{NEEDED.replace('https://a.example', 'https://[')}", "begin with https://"),
        (f"[issuer]\n{NEEDED.replace('https://a.example', 'https:')}", "begin with https://"),
        (f"[issuer]\n{NEEDED.replace(chr(34) + 'e' + chr(34), '7')}", "client_id is 7: it must"),
        (f"[issuer]\n{NEEDED}name = 7", "name is 7: it must be text."),
    ],
)
def test_what_cannot_be_used_is_told_and_everything_is_strict(
    tmp_path: Path, text: str, sentence: str
) -> None:
    path = write_policy(tmp_path, text)
    with pytest.raises(PolicyError) as told:
        parse_policy(text.encode())
    assert sentence in told.value.message
    policy = read_policy(path)
    assert policy == Policy(mosaic_previews=True, trouble=f"{path}: {told.value.message}")


@pytest.mark.parametrize("key", ["url", "client_id", "claim", "value", "level"])
def test_an_issuer_must_be_whole(key: str) -> None:
    lines = [line for line in NEEDED.splitlines() if not line.startswith(f"{key} ")]
    with pytest.raises(PolicyError, match=f"issuer has no {key}"):
        parse_policy("\n".join(["[issuer]", *lines]).encode())


def test_bytes_that_are_no_text_are_told() -> None:
    with pytest.raises(PolicyError, match="This is no TOML"):
        parse_policy(b"\xff")


def test_a_file_that_others_could_have_written_is_not_followed(tmp_path: Path) -> None:
    policy = read_policy(write_policy(tmp_path, TEXT, 0o620))
    assert policy == Policy(mosaic_previews=True, trouble=policy.trouble)
    assert "could have been written by others" in str(policy.trouble)


def test_the_digest_tells_every_setting_apart() -> None:
    others = [
        replace(FULL, max_level=1),
        replace(FULL, share_max_level=2),
        replace(FULL, knows_invitees=False),
        replace(FULL, mosaic_previews=False),
        replace(FULL, thresholds=MappingProxyType({(1, "anus"): 0.1})),
        replace(FULL, allowed=frozenset({ONE})),
        replace(FULL, guards=MappingProxyType({"nsfw": OTHER})),
        replace(FULL, issuer=None),
        replace(FULL, issuer=replace(ISSUER, client_secret="another")),
        replace(FULL, issuer=replace(ISSUER, value=1)),
        replace(FULL, trouble="something"),
    ]
    assert len({policy.digest for policy in (FULL, *others)}) == len(others) + 1
    assert parse_policy(TEXT.encode()).digest == FULL.digest


VARIANTS = (
    FULL,
    Policy(),
    replace(FULL, max_level=1, knows_invitees=False),
    replace(FULL, share_max_level=2, mosaic_previews=False),
    replace(FULL, thresholds=MappingProxyType({(1, "anus"): 0.1, (0, "anus"): 0.1})),
    replace(FULL, allowed=frozenset({OTHER}), guards=MappingProxyType({"nsfw": OTHER})),
    replace(FULL, issuer=replace(ISSUER, level=1)),
)


def test_the_tightest_of_two_allows_nothing_that_one_of_them_does_not() -> None:
    for one, other in itertools.product(VARIANTS, repeat=2):
        both = tightest(one, other)
        assert both == tightest(other, one) == tightest(both, one)
        for each in (one, other):
            assert both.max_level <= each.max_level
            assert both.share_max_level <= each.share_max_level
            assert both.knows_invitees <= each.knows_invitees
            assert both.mosaic_previews >= each.mosaic_previews
            assert both.allowed <= each.allowed
            assert both.guards.items() <= each.guards.items()
            assert both.issuer in (None, each.issuer)
            for at, value in each.thresholds.items():
                assert both.thresholds[at] <= value
    for one in VARIANTS:
        assert tightest(one, one) == one


@pytest.mark.parametrize(
    ("said", "bound"),
    [
        (None, 2),
        ("0", 0),
        ("1", 1),
        ("2", 2),
        ("3", 0),
        ("", 0),
        (" 2", 0),
        ("2.0", 0),
        ("True", 0),
        ("off", 0),
    ],
)
def test_the_environment_can_only_lower(said: str | None, bound: int) -> None:
    environment = {} if said is None else {"EASEL_MAX_LEVEL": said}
    assert highest_bound(environment) == bound
    for flag in LEVELS:
        assert highest_bound(environment, flag) == min(bound, flag)


def test_a_running_server_follows_what_is_tighter_at_once(tmp_path: Path) -> None:
    watcher = PolicyWatcher(write_policy(tmp_path, TEXT).parent / FILE)
    assert watcher.policy() == FULL
    write_policy(tmp_path, TEXT.replace("max_level = 2", "max_level = 1"))
    assert watcher.policy().max_level == 1
    (tmp_path / FILE).unlink()
    assert watcher.policy().max_level == 0
    assert watcher.policy().trouble is None


def test_a_running_server_does_not_follow_what_is_looser(tmp_path: Path) -> None:
    path = write_policy(tmp_path, "max_level = 1\n")
    watcher = PolicyWatcher(path)
    write_policy(tmp_path, TEXT)
    found = watcher.policy()
    assert found == replace(
        FULL,
        max_level=1,
        share_max_level=0,
        knows_invitees=False,
        allowed=frozenset(),
        guards=MappingProxyType({}),
        issuer=None,
    )
    assert PolicyWatcher(path).policy() == FULL, "a restart follows it"


def test_what_was_lowered_stays_low_until_a_restart(tmp_path: Path) -> None:
    path = write_policy(tmp_path, "max_level = 2\n")
    watcher = PolicyWatcher(path)
    for level, expected in ((1, 1), (2, 1), (0, 0), (2, 0)):
        write_policy(tmp_path, f"max_level = {level}\n")
        assert watcher.policy().max_level == expected


def test_a_file_that_cannot_be_relied_on_is_strict_while_it_lasts_and_loosens_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_policy(tmp_path, TEXT)
    watcher = PolicyWatcher(path)
    with caplog.at_level(logging.WARNING):
        path.chmod(0o666)
        found = watcher.policy()
    assert found.trouble is not None
    assert found.trouble in caplog.text
    assert found == Policy(mosaic_previews=True, thresholds=FULL.thresholds, trouble=found.trouble)
    path.chmod(0o600)
    assert watcher.policy() == FULL


def test_a_server_that_starts_with_a_bad_file_stays_strict_when_it_is_mended(
    tmp_path: Path,
) -> None:
    watcher = PolicyWatcher(write_policy(tmp_path, "max_level = 9\n"))
    assert watcher.policy().trouble is not None
    assert watcher.policy().max_level == 0
    write_policy(tmp_path, TEXT)
    assert watcher.policy().max_level == 0
    assert watcher.policy().trouble is None


def test_a_file_that_is_not_touched_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = PolicyWatcher(write_policy(tmp_path, TEXT))

    def read(path: Path) -> Policy:
        pytest.fail("read again")

    monkeypatch.setattr("webui.safety.operator.read_policy", read)
    assert watcher.policy() is watcher.policy()


def test_the_bound_lowers_and_never_raises(tmp_path: Path) -> None:
    path = write_policy(tmp_path, "max_level = 1\n")
    assert [PolicyWatcher(path, bound=n).policy().max_level for n in LEVELS] == [0, 1, 1]
