from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from webui.errors import BadRequestError, StorageError
from webui.library.notes import (
    MAX_NOTE,
    Notes,
    picture_of,
    read_notes,
    set_note,
    set_picture,
    write_notes,
)

CIVITAI = {
    "id": 7,
    "modelId": 3,
    "baseModel": "SD 1.5",
    "trainedWords": ["paper cut", "fold"],
    "model": {"name": "Paper"},
}
A1111 = {
    "notes": "soft at 0.6",
    "activation text": "paper, ink",
    "sd version": "SD1",
    "description": "about it",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "paper.v2.safetensors"
    file.write_bytes(b"")
    return file


def beside(file: Path, ending: str, content: Any) -> None:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    file.with_name(f"{file.stem}.{ending}").write_bytes(data)


def test_nothing_beside_says_nothing(file: Path) -> None:
    assert read_notes(file) == Notes()
    assert picture_of(file) is None


def test_what_the_civitai_helpers_keep_is_read(file: Path) -> None:
    beside(file, "civitai.info", CIVITAI)
    assert read_notes(file) == Notes(
        page="https://civitai.com/models/3?modelVersionId=7",
        words=("paper cut", "fold"),
        base="SD 1.5",
        title="Paper",
    )


def test_what_a1111_keeps_is_read(file: Path) -> None:
    beside(file, "json", A1111)
    assert read_notes(file) == Notes(note="soft at 0.6", words=("paper", "ink"), base="SD1")


def test_own_words_come_first_and_others_stay_as_they_are(file: Path) -> None:
    beside(file, "json", A1111)
    beside(file, "civitai.info", CIVITAI)
    before = file.with_name("paper.v2.json").read_bytes()
    write_notes(file, Notes(licence="MIT", page="https://example.com/paper"))
    assert set_note(file, "  mine \n").note == "mine"
    notes = read_notes(file)
    assert (notes.note, notes.licence, notes.page) == ("mine", "MIT", "https://example.com/paper")
    assert (notes.words, notes.base) == (("paper cut", "fold"), "SD 1.5")
    assert file.with_name("paper.v2.json").read_bytes() == before
    own = json.loads(file.with_name("paper.v2.easel.json").read_bytes())
    assert own == {"note": "mine", "licence": "MIT", "page": "https://example.com/paper"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"note": "' + b"x" * 2**20 + b'"}',
        b'{"note": 7, "page": "javascript:alert(1)", "words": [1, {}], "base": []}',
    ],
)
def test_what_is_damaged_counts_as_missing(file: Path, content: bytes) -> None:
    for ending in ("easel.json", "json", "civitai.info"):
        beside(file, ending, content)
    assert read_notes(file) == Notes()


def test_a_note_has_an_end(file: Path) -> None:
    with pytest.raises(BadRequestError, match="characters"):
        set_note(file, "x" * (MAX_NOTE + 1))


def test_a_note_that_cannot_be_kept_is_said(file: Path) -> None:
    file.with_name("paper.v2.easel.json").mkdir()
    with pytest.raises(StorageError):
        set_note(file, "mine")


def test_the_chosen_picture_comes_before_the_one_beside(file: Path) -> None:
    beside(file, "png", b"other")
    assert str(picture_of(file)).endswith("paper.v2.png")
    beside(file, "preview.png", b"nearer")
    assert str(picture_of(file)).endswith("paper.v2.preview.png")
    set_picture(file, b"chosen")
    chosen = picture_of(file)
    assert chosen is not None
    assert chosen.read_bytes() == b"chosen"
    set_picture(file, None)
    set_picture(file, None)
    assert str(picture_of(file)).endswith("paper.v2.preview.png")


def test_of_a_folder_they_lie_in_it(tmp_path: Path) -> None:
    set_note(tmp_path, "mine")
    set_picture(tmp_path, b"chosen")
    assert {path.name for path in tmp_path.iterdir()} == {"easel.json", "easel.webp"}
    assert read_notes(tmp_path).note == "mine"


def test_a_link_is_no_picture(file: Path, tmp_path: Path) -> None:
    file.with_name("paper.v2.png").symlink_to("/etc/hostname")
    assert picture_of(file) is None
