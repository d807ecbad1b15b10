from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webui.comparison import apply, differences
from webui.errors import BadRequestError, NotFoundError, StorageError
from webui.generation.families import SD1
from webui.generation.samplers import check_sampler
from webui.generation.sampling import sampling_of
from webui.library import presets
from webui.library.presetfile import Draft, make_draft
from webui.library.presets import NameTakenError, PresetShelf, file_name
from webui.request import GenerationRequest
from webui.safety.prompts import Lexicon
from webui.settings import ROOT

SHIPPED = sorted((ROOT / "presets").glob("*.json"))
REQUEST = {"steps": 30}


@pytest.fixture
def shelf(tmp_path: Path) -> PresetShelf:
    put(tmp_path / "shipped" / "wide.json", name="Wide", request={"width": 1216})
    return PresetShelf(tmp_path / "shipped", tmp_path / "mine")


def put(path: Path, *, name: str, request: dict[str, Any] = REQUEST) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"schema": 1, "name": name, "about": "", "request": request}))


def names(shelf: PresetShelf) -> list[str]:
    return [preset.name for preset in shelf.listing().presets]


def full(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_both_folders_are_listed_by_name(shelf: PresetShelf):
    shelf.store("a sketch", "Quick.", REQUEST, replace=False)
    listing = shelf.listing()
    assert [(p.name, p.own) for p in listing.presets] == [("a sketch", True), ("Wide", False)]
    assert listing.presets[0].about == "Quick."
    assert listing.presets[0].request == REQUEST
    assert listing.broken == ()


def test_missing_folders_hold_nothing_and_are_not_made(tmp_path: Path):
    listing = PresetShelf(tmp_path / "a", tmp_path / "b").listing()
    assert (listing.presets, listing.broken) == ((), ())
    assert list(tmp_path.iterdir()) == []


def test_what_is_broken_is_listed_with_its_reason_and_harms_nothing(tmp_path: Path):
    mine = tmp_path / "mine"
    put(mine / "good.json", name="Good")
    put(mine / "same.json", name="GOOD")
    put(mine / "unknown.json", name="Unknown", request={"stepz": 3})
    (mine / "deep.json").write_text("[" * 10_000)
    (mine / "large.json").write_bytes(b" " * 300_000)
    (mine / "folder.json").mkdir()
    (mine / "gone.json").symlink_to(mine / "nowhere")
    os.mkfifo(mine / "pipe.json")
    (mine / "notes.txt").write_text("no preset")
    (mine / "._good.json").write_bytes(b"\x00")
    listing = PresetShelf(tmp_path / "shipped", mine).listing()
    assert [preset.name for preset in listing.presets] == ["Good"]
    assert {file.file: file.reason for file in listing.broken} == {
        "mine/deep.json": "It is nested too deeply for a preset.",
        "mine/folder.json": "It is not a file.",
        "mine/gone.json": "It cannot be read: No such file or directory.",
        "mine/large.json": "It is larger than the 256 KiB a preset may have.",
        "mine/pipe.json": "It is not a file.",
        "mine/same.json": "good.json has the same name, 'Good': give it another one.",
        "mine/unknown.json": "Unknown key 'stepz': did you mean 'steps'?",
    }


def test_a_folder_that_cannot_be_read_is_listed(tmp_path: Path):
    (tmp_path / "mine").write_text("not a folder")
    (broken,) = PresetShelf(tmp_path / "shipped", tmp_path / "mine").listing().broken
    assert broken.reason == "It cannot be read: Not a directory."


def test_a_file_name_of_any_bytes_can_be_shown(tmp_path: Path):
    put(tmp_path / "good.json", name="Good")
    os.rename(tmp_path / "good.json", os.fsencode(tmp_path) + b"/\xff.json")
    (tmp_path / "bad\udcfe.json").write_text("{")
    listing = PresetShelf(tmp_path / "shipped", tmp_path).listing()
    assert listing.presets[0].id.encode()
    assert listing.broken[0].file.encode()


def test_a_change_on_disk_is_seen_and_nothing_else_is_read_again(
    shelf: PresetShelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("one", "two"):
        put(tmp_path / "mine" / f"{name}.json", name=name)
    assert names(shelf) == ["one", "two", "Wide"]
    read: list[bytes] = []
    original = presets.read_draft

    def counted(data: bytes) -> Draft:
        read.append(data)
        return original(data)

    monkeypatch.setattr(presets, "read_draft", counted)
    put(tmp_path / "mine" / "two.json", name="changed")
    put(tmp_path / "mine" / "three.json", name="three")
    assert names(shelf) == ["changed", "one", "three", "Wide"]
    assert len(read) == 2
    (tmp_path / "mine" / "one.json").unlink()
    assert names(shelf) == ["changed", "three", "Wide"]
    assert len(read) == 2


def test_a_name_is_taken_over_only_when_asked(shelf: PresetShelf, tmp_path: Path):
    first = shelf.store("Mine", "", REQUEST, replace=False)
    with pytest.raises(NameTakenError, match="There is a preset named 'Mine'") as caught:
        shelf.store("mine", "", {"steps": 5}, replace=False)
    assert caught.value.field == "name"
    assert shelf.find(first.id).request == REQUEST
    again = shelf.store("mine", "", {"steps": 5}, replace=True)
    assert again.id == first.id
    assert shelf.find(first.id) == again
    assert len(list((tmp_path / "mine").iterdir())) == 1


@pytest.mark.parametrize("replace", [False, True])
def test_a_shipped_name_cannot_be_taken_over(shelf: PresetShelf, replace: bool):
    with pytest.raises(BadRequestError, match="comes with Easel: choose another name"):
        shelf.store("wide", "", REQUEST, replace=replace)


def test_a_wrong_request_is_not_saved(shelf: PresetShelf, tmp_path: Path):
    with pytest.raises(BadRequestError, match="did you mean 'steps'"):
        shelf.store("Mine", "", {"stepz": 1}, replace=False)
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("Portrait photo", "portrait-photo.json"),
        ("../../etc/passwd", "etc-passwd.json"),
        ("C:\\\\x", "c-x.json"),
        ("..", "preset.json"),
        ("***", "preset.json"),
        ("CON", "preset-con.json"),
        ("lpt1", "preset-lpt1.json"),
        ("nul.json", "nul-json.json"),
        ("Über Öl", "uber-ol.json"),
        ("\u5915\u713c\u3051", "xishaoke.json"),
        ("x" * 80, "x" * 60 + ".json"),
    ],
)
def test_a_file_is_named_after_the_preset(name: str, file: str):
    assert file_name(name) == file


@given(st.text(min_size=1, max_size=80))
def test_every_name_gives_a_file_name_that_is_valid_everywhere(name: str):
    file = file_name(name)
    assert file.isascii()
    assert len(file) <= 72
    assert not set(file) & set('/\\\\:*?"<>| ')
    assert file.endswith(".json")
    assert not file.startswith((".", "-"))


def test_names_that_give_the_same_file_name_get_two_files(shelf: PresetShelf, tmp_path: Path):
    for name in ("a b", "a-b", "a_b"):
        shelf.store(name, "", REQUEST, replace=False)
    files = sorted(path.name for path in (tmp_path / "mine").iterdir())
    assert files == ["a-b-2.json", "a-b-3.json", "a-b.json"]
    assert names(shelf) == ["a b", "a-b", "a_b", "Wide"]


def test_a_broken_file_is_never_written_over(shelf: PresetShelf, tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "Mine.JSON").write_text("{")
    shelf.store("Mine", "", REQUEST, replace=False)
    assert (tmp_path / "mine" / "Mine.JSON").read_text() == "{"
    assert names(shelf) == ["Mine", "Wide"]


def test_what_is_deleted_can_be_saved_again(shelf: PresetShelf):
    saved = shelf.store("Mine", "A sentence.", REQUEST, replace=False)
    deleted = shelf.delete(saved.id)
    assert names(shelf) == ["Wide"]
    assert shelf.store(deleted.name, deleted.about, deleted.request, replace=False) == saved


def test_what_is_shipped_or_gone_cannot_be_deleted(shelf: PresetShelf):
    (shipped,) = shelf.listing().presets
    with pytest.raises(BadRequestError, match="comes with Easel and stays"):
        shelf.delete(shipped.id)
    assert names(shelf) == ["Wide"]
    with pytest.raises(NotFoundError):
        shelf.delete("../shipped/wide")


def test_what_is_exported_is_imported_under_a_numbered_name(shelf: PresetShelf):
    (wide,) = shelf.listing().presets
    data = shelf.export(wide.id)
    copies = [shelf.import_file(data, "wide.json") for _ in range(2)]
    assert [copy.name for copy in copies] == ["Wide (2)", "Wide (3)"]
    assert all(copy.own and copy.request == wide.request for copy in copies)
    assert names(shelf) == ["Wide", "Wide (2)", "Wide (3)"]


def test_a_numbered_name_is_not_too_long(shelf: PresetShelf):
    drafts = [make_draft("x" * 80, "", REQUEST)] * 12
    assert {len(preset.name) for preset in shelf.add(drafts)} == {80}
    assert shelf.listing().broken == ()


def test_an_import_that_is_no_preset_is_named(shelf: PresetShelf, tmp_path: Path):
    with pytest.raises(BadRequestError, match=r"^other\.json: It is not valid JSON"):
        shelf.import_file(b"GIF89a", "other.json")
    with pytest.raises(BadRequestError, match=r"^a b\.json: It is not valid JSON"):
        shelf.import_file(b"GIF89a", "a\nb.json")
    assert not (tmp_path / "mine").exists()


def test_a_full_disk_changes_nothing(
    shelf: PresetShelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    saved = shelf.store("Mine", "", REQUEST, replace=False)
    before = (tmp_path / "mine" / saved.file).read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="The disk is full"):
        shelf.store("Mine", "", {"steps": 5}, replace=True)
    assert os.listdir(tmp_path / "mine") == [saved.file]
    assert (tmp_path / "mine" / saved.file).read_bytes() == before


def test_several_are_added_all_or_none(
    shelf: PresetShelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    left = [2]
    original = os.fsync

    def full_later(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            full(descriptor)
        original(descriptor)

    monkeypatch.setattr(os, "fsync", full_later)
    with pytest.raises(StorageError):
        shelf.add([make_draft(name, "", REQUEST) for name in "abc"])
    assert os.listdir(tmp_path / "mine") == []


def test_the_own_folder_has_a_bound(
    shelf: PresetShelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(presets, "MAX_OWN", 2)
    with pytest.raises(BadRequestError, match="2 presets of your own at most"):
        shelf.add([make_draft(name, "", REQUEST) for name in "abc"])
    shelf.add([make_draft(name, "", REQUEST) for name in "ab"])
    with pytest.raises(BadRequestError, match="delete some first"):
        shelf.store("c", "", REQUEST, replace=False)
    assert shelf.store("a", "", {"steps": 5}, replace=True).request == {"steps": 5}


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path):
    (tmp_path / "mine").write_text("not a folder")
    with pytest.raises(StorageError, match="could not be saved"):
        PresetShelf(tmp_path, tmp_path / "mine").store("Mine", "", REQUEST, replace=False)


def test_at_least_ten_presets_are_shipped_and_none_is_broken():
    listing = PresetShelf(ROOT / "presets", ROOT / "presets" / "nobody").listing()
    assert listing.broken == ()
    assert len(listing.presets) == len(SHIPPED) >= 10


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return Lexicon.load()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_preset_says_what_it_is_for_and_can_be_run(path: Path, lexicon: Lexicon):
    shelf = PresetShelf(ROOT / "presets", ROOT / "presets" / "nobody")
    (preset,) = (one for one in shelf.listing().presets if one.file == path.name)
    assert preset.file == file_name(preset.name)
    assert preset.about.endswith(".")
    now = GenerationRequest(prompt="a harbour", steps=21, cfg=4, width=64, height=64, batch=2)
    then = apply(now, preset.request, preset.request)
    assert differences(now, preset.request)
    assert "a harbour" in then.prompt
    run = sampling_of(then, SD1.own)
    check_sampler(run.sampler, run.schedule, run.steps)
    assert lexicon.cues(f"{then.prompt}, {then.negative_prompt}") == frozenset()
