from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from webui.errors import BadRequestError, NotFoundError, StorageError
from webui.library.wordlists import MAX_LINES, NAMES, WordList, WordLists
from webui.safety.prompts import Lexicon
from webui.settings import ROOT


@pytest.fixture
def lists(tmp_path: Path) -> WordLists:
    (tmp_path / "shipped").mkdir()
    for name in NAMES:
        (tmp_path / "shipped" / f"{name}.txt").write_text(f"# {name}\n\n  a {name}  \nanother")
    return WordLists(tmp_path / "shipped", tmp_path / "mine")


def get(lists: WordLists, name: str) -> WordList:
    (found,) = (one for one in lists.lists() if one.name == name)
    return found


def write_own(folder: Path, data: bytes) -> None:
    folder.mkdir()
    (folder / "film.txt").write_bytes(data)


def test_comments_and_empty_lines_are_no_phrases(lists: WordLists):
    assert [one.name for one in lists.lists()] == list(NAMES)
    assert get(lists, "film") == WordList("film", ("a film", "another"), own=False)


def test_the_users_list_stands_for_the_shipped_one_until_it_is_reset(
    lists: WordLists, tmp_path: Path
):
    saved = lists.store("film", [" grainy ", "", "soft"])
    assert saved == WordList("film", ("grainy", "soft"), own=True) == get(lists, "film")
    assert get(lists, "style").own is False
    assert lists.reset("film") == WordList("film", ("a film", "another"), own=False)
    assert os.listdir(tmp_path / "mine") == []
    assert lists.reset("film").own is False


def test_an_empty_list_is_the_users_too(lists: WordLists):
    lists.store("film", [])
    assert get(lists, "film") == WordList("film", (), own=True)


def test_a_file_edited_by_hand_is_seen_at_once(lists: WordLists, tmp_path: Path):
    write_own(tmp_path / "mine", "one\r\n# no\r\nzwei \u00e4\r\n".encode("utf-8-sig"))
    assert get(lists, "film").phrases == ("one", "zwei \u00e4")


@pytest.mark.parametrize("text", ["<img src=x onerror=alert(1)>", "${alert(1)}", "`x`", "a, b: c"])
def test_text_stays_text_byte_for_byte(lists: WordLists, text: str):
    lists.store("film", [text])
    assert get(lists, "film").phrases == (text,)


def test_as_many_phrases_as_fit_can_be_read_again(lists: WordLists):
    phrases = tuple(f"phrase {number}" for number in range(MAX_LINES))
    lists.store("film", phrases)
    assert get(lists, "film") == WordList("film", phrases, own=True)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff\xfea\x00", "film.txt is not a text file in UTF-8."),
        (b"GIF89a\x00\x01", "Line 1 is not a line of plain text."),
        (b"a\n" * 501, "A list may have at most 500 lines, not 501."),
        (b"a\n" + b"b" * 201, "Line 2 is 201 characters long: at most 200 fit."),
        (b"a" * 70_000, "film.txt is larger than 64 KiB."),
    ],
)
def test_a_broken_list_says_why_and_the_shipped_one_is_used(
    lists: WordLists, tmp_path: Path, data: bytes, reason: str
):
    write_own(tmp_path / "mine", data)
    assert get(lists, "film") == WordList("film", ("a film", "another"), own=True, broken=reason)
    assert all(one.broken is None for one in lists.lists() if one.name != "film")
    assert lists.reset("film").broken is None


def test_a_pipe_or_folder_in_its_place_is_broken(lists: WordLists, tmp_path: Path):
    (tmp_path / "mine" / "film.txt").mkdir(parents=True)
    os.mkfifo(tmp_path / "mine" / "style.txt")
    assert get(lists, "film").broken == "film.txt is not a file."
    assert get(lists, "style").broken == "style.txt is not a file."


def test_a_missing_or_broken_shipped_list_is_said(tmp_path: Path):
    (tmp_path / "film.txt").write_bytes(b"\xff")
    lists = WordLists(tmp_path, tmp_path / "mine")
    assert get(lists, "film").broken == "film.txt is not a text file in UTF-8."
    assert get(lists, "style").broken == "style.txt is missing: install Easel anew."


@pytest.mark.parametrize(
    ("phrases", "sentence"),
    [
        (["# not a comment"], "cannot begin with '#'"),
        (["a\nb"], "Line 1 is not a line of plain text"),
        (["a", "\ud800"], "Line 2 is not a line of plain text"),
        (["a" * 201], "201 characters long"),
        (["a"] * 501, "at most 500 lines"),
        (["\u5915" * 150] * 200, "at most 64 KiB"),
    ],
)
def test_what_cannot_be_read_again_is_not_saved(
    lists: WordLists, tmp_path: Path, phrases: list[str], sentence: str
):
    with pytest.raises(BadRequestError, match=sentence):
        lists.store("film", phrases)
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("name", ["flim", "../film", "film.txt", ""])
def test_there_are_no_other_lists(lists: WordLists, name: str):
    with pytest.raises(NotFoundError, match="Unknown word list"):
        lists.store(name, ["a"])
    with pytest.raises(NotFoundError):
        lists.reset(name)


def test_a_full_disk_is_one_sentence_and_the_list_stays(
    lists: WordLists, monkeypatch: pytest.MonkeyPatch
):
    lists.store("film", ["older"])

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="The disk is full"):
        lists.store("film", ["newer"])
    assert get(lists, "film").phrases == ("older",)


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_list_is_whole_and_harmless(name: str):
    shipped = get(WordLists(ROOT / "presets" / "words", ROOT / "presets" / "nobody"), name)
    assert shipped.broken is None
    assert 15 <= len(shipped.phrases) <= 30
    assert len(set(shipped.phrases)) == len(shipped.phrases)
    assert Lexicon.load().cues(", ".join(shipped.phrases)) <= {"clothing"}
