"""The history as its callers use it, over real files."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.library.pictures import NOON, Reader, write_picture
from webui.errors import BadRequestError, NotFoundError
from webui.library import history_sync
from webui.library.history import History
from webui.library.history_database import INDEX
from webui.library.history_index import Page
from webui.library.history_query import MAX_WORDS, HistoryQuery
from webui.library.history_sync import Indexed

DAY = "2026-05-04"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures, the newest first: hill, lake, bare (which has no recipe)."""
    outputs = tmp_path / "outputs"
    write_picture(
        outputs / DAY / "hill.png",
        {
            "prompt": "a green Hill at sunset",
            "negative_prompt": "fog",
            "model": "postcard",
            "seed": 7,
            "steps": 20,
            "cfg": 5.0,
            "loras": [{"name": "ink", "weight": 0.5, "enabled": True}],
        },
        made=NOON,
    )
    write_picture(
        outputs / "2026-04-30" / "lake.png",
        {"prompt": "a lake at night", "model": "other", "seed": 8, "steps": 4},
        size=(32, 80),
        made=datetime(2026, 4, 30, 23, 59, 59),
    )
    write_picture(outputs / "bare.png", made=datetime(2026, 4, 1, 8))
    return outputs


@pytest.fixture
def history(folder: Path) -> Iterator[History]:
    with closing(opened(folder)) as history:
        yield history


def opened(folder: Path, read: Callable[[Path], Indexed] | None = None) -> History:
    """A history that has gone through its folder."""
    history = History(folder, read or Reader())
    index_all(history)
    return history


def index_all(history: History) -> None:
    history.start()
    assert history.wait(30)


def refreshed(history: History) -> None:
    """Refreshes and waits for the whole of it, however slow the machine is."""
    history.refresh()
    assert history.wait(30)


def names(page: Page) -> list[str]:
    return [picture.name for picture in page.pictures]


def found(history: History, **query: Any) -> list[str]:
    page = history.search(HistoryQuery(**query))
    assert page.total == len(page.pictures)
    return names(page)


def ids(history: History, *wanted: str, trash: bool = False) -> list[str]:
    pictures = history.search(HistoryQuery(trash=trash)).pictures
    by_name = {picture.name: picture.id for picture in pictures}
    return [by_name[name] for name in wanted]


def test_everything_in_the_files_is_found_newest_first(history: History):
    hill, lake, bare = history.search(HistoryQuery()).pictures
    assert (hill.name, hill.folder, hill.made) == ("hill.png", DAY, "2026-05-04T12:00:00.000000")
    assert (hill.prompt, hill.negative_prompt) == ("a green Hill at sunset", "fog")
    assert (hill.model, hill.seed, hill.broken) == ("postcard", 7, None)
    assert (lake.width, lake.height, lake.negative_prompt) == (32, 80, None)
    assert (bare.prompt, bare.model, bare.seed) == (None, None, None)


def test_the_recipe_comes_back_as_it_was_read(history: History):
    hill, bare = ids(history, "hill.png", "bare.png")
    request = history.request(hill)
    assert request is not None
    assert request["loras"] == [{"name": "ink", "weight": 0.5, "enabled": True}]
    assert (request["prompt"], request["cfg"]) == ("a green Hill at sunset", 5.0)
    assert history.request(bare) is None


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ("", ["hill.png", "lake.png", "bare.png"]),
        ("  at  ", ["hill.png", "lake.png"]),
        ("SUNSET hill", ["hill.png"]),
        ("hill night", []),
        ("BARE", ["bare.png"]),
        ("%", []),
        ("_", []),
        ('" OR 1=1 --', []),
        ("hil*", []),
        ("hill\0", []),
        ("\ud800", []),
    ],
)
def test_all_words_must_be_there_and_none_is_syntax(
    history: History, search: str, expected: list[str]
):
    assert found(history, search=search) == expected


@pytest.mark.parametrize(
    ("prompt", "search"),
    [
        ("ein STRASSENFEST", "straßenfest"),
        ("Ägäis", "ägäis"),
        ("cafe\u0301", "CAFÉ"),
        ("山の上の湖", "上の湖"),
        ("100% _wild_ 'quoted'", "100% _WILD_"),
        ("a 🏔 view", "🏔"),
    ],
)
def test_words_of_any_script_are_found(tmp_path: Path, prompt: str, search: str):
    write_picture(tmp_path / "a.png", {"prompt": prompt})
    write_picture(tmp_path / "b.png", {"prompt": "something else"})
    with closing(opened(tmp_path)) as history:
        assert found(history, search=search) == ["a.png"]


def test_too_many_words_are_one_sentence(history: History):
    words = " ".join(map(str, range(MAX_WORDS + 1)))
    with pytest.raises(BadRequestError, match="at most 50"):
        history.search(HistoryQuery(search=words))
    assert found(history, search="hill " * 1000) == ["hill.png"]


def test_by_model_and_by_days_both_included(history: History):
    assert found(history, model="other") == ["lake.png"]
    assert found(history, model="OTHER") == []
    assert found(history, first_day=date(2026, 4, 30)) == ["hill.png", "lake.png"]
    assert found(history, last_day=date(2026, 4, 30)) == ["lake.png", "bare.png"]
    assert found(history, last_day=date(2026, 4, 29)) == ["bare.png"]
    assert found(history, first_day=date(2026, 4, 2), last_day=date(2026, 5, 3)) == ["lake.png"]
    assert found(history, last_day=date.max) == ["hill.png", "lake.png", "bare.png"]


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ({}, ["hill.png", "lake.png"]),
        ({"steps": 20}, ["hill.png"]),
        ({"steps": 20, "cfg": 5}, ["hill.png"]),
        ({"steps": 20, "cfg": 5.5}, []),
        ({"model": "other", "steps": 4}, ["lake.png"]),
        ({"prompt": "a {prompt} at {prompt}"}, ["hill.png", "lake.png"]),
        ({"prompt": "a {prompt} night"}, ["lake.png"]),
        ({"prompt": "{prompt} sunset"}, ["hill.png"]),
        ({"prompt": "a lake{prompt}"}, ["lake.png"]),
        ({"prompt": "a lake at night{prompt}night"}, []),
        ({"prompt": "a lake"}, []),
        ({"prompt": "a lake at night"}, ["lake.png"]),
        ({"negative_prompt": "{prompt}og"}, ["hill.png"]),
        ({"count": 4, "batch": 2, "width": None, "seed": None}, ["hill.png", "lake.png"]),
        ({"seed": 8}, ["lake.png"]),
        ({"init": None}, ["hill.png", "lake.png"]),
        ({"loras": [{"name": "ink", "enabled": True}]}, ["hill.png"]),
        ({"loras": [{"name": "ink", "weight": 1.0}]}, []),
        ({"loras": []}, []),
    ],
)
def test_a_preset_matches_what_it_names(
    history: History, preset: dict[str, Any], expected: list[str]
):
    assert found(history, matches=preset) == expected


def test_a_preset_with_a_strange_name_is_an_error_and_harms_nothing(history: History):
    with pytest.raises(BadRequestError, match="no setting"):
        history.search(HistoryQuery(matches={'a"b': 1}))
    assert history.notice is None


def test_what_there_is_to_filter_by(history: History):
    history.trash(ids(history, "bare.png"))
    write_picture(history.folder / "also.png", {"model": "other"}, made=NOON)
    refreshed(history)
    assert history.models() == [("other", 2), ("postcard", 1)]
    assert history.months() == [("2026-05", 2), ("2026-04", 1)]


def test_pages_hold_every_picture_once_though_more_come_meanwhile(tmp_path: Path):
    for number in range(11):
        # Several of the same moment, too.
        made = NOON + timedelta(seconds=number // 3)
        write_picture(tmp_path / f"{number:02}.png", made=made)
    with closing(opened(tmp_path)) as history:
        page = history.search(HistoryQuery(), limit=4)
        seen = names(page)
        history.add(write_picture(tmp_path / "new.png", made=NOON + timedelta(days=1)))
        while page.cursor is not None:
            page = history.search(HistoryQuery(), cursor=page.cursor, limit=4)
            assert page.total == 12
            seen += names(page)
        assert sorted(seen) == [f"{number:02}.png" for number in range(11)]
        assert seen[0] in ("09.png", "10.png")
        assert history.search(HistoryQuery(), limit=12).cursor is None


@pytest.mark.parametrize("cursor", ["", "x", "ä_b"])
def test_a_cursor_that_is_none_of_ours(history: History, cursor: str):
    with pytest.raises(BadRequestError, match="place in the history"):
        history.search(HistoryQuery(), cursor=cursor)


def test_what_others_add_change_and_remove_is_picked_up(folder: Path):
    reader = Reader()
    with closing(opened(folder, reader)) as history:
        reader.names.clear()
        write_picture(folder / "new" / "deep" / "new.png", {"prompt": "new"}, made=NOON)
        (folder / "bare.png").unlink()
        shutil.rmtree(folder / "2026-04-30")
        replaced = write_picture(folder / DAY / "other.tmp.png", {"prompt": "changed"}, made=NOON)
        before = ids(history, "hill.png")
        os.replace(replaced, folder / DAY / "hill.png")
        refreshed(history)
        assert sorted(found(history)) == ["hill.png", "new.png"]
        assert found(history, search="changed") == ["hill.png"]
        assert ids(history, "hill.png") != before
        assert sorted(reader.names) == ["hill.png", "new.png"]


def test_an_unchanged_folder_is_not_gone_through_again(folder: Path):
    for path in (folder, *folder.iterdir()):
        os.utime(path, (0, 0))
    reader = Reader()
    with closing(opened(folder, reader)) as history:
        # The index itself has been put there.
        os.utime(folder, (0, 0))
        refreshed(history)
        reader.names.clear()
        (folder / "sly.png").write_bytes((folder / "bare.png").read_bytes())
        os.utime(folder, (0, 0))
        refreshed(history)
        assert reader.names == []
        os.utime(folder)
        refreshed(history)
        assert reader.names == ["sly.png"]


def test_a_second_start_reads_no_file_again(folder: Path):
    opened(folder).close()
    reader = Reader()
    with closing(opened(folder, reader)) as history:
        assert reader.names == []
        assert len(found(history)) == 3


def test_a_file_that_cannot_be_read_is_shown_by_name_and_read_once(folder: Path):
    (folder / "strange.png").write_bytes(b"GIF89a")
    reader = Reader()
    with closing(opened(folder, reader)) as history:
        (strange,) = history.search(HistoryQuery(search="strange")).pictures
        assert strange.broken == "strange.png is not a picture."
        assert len(found(history)) == 4
        reader.names.clear()
        index_all(history)
        assert reader.names == []


def test_no_error_of_the_reader_hides_the_other_files(folder: Path):
    def read(path: Path) -> Indexed:
        if path.name == "hill.png":
            raise AssertionError
        if path.name == "lake.png":
            raise PermissionError(13, "Permission denied")
        return Indexed(1, 1, {"seed": float("nan"), "prompt": "x"})

    with closing(opened(folder, read)) as history:
        reasons = {p.name: p.broken for p in history.search(HistoryQuery()).pictures}
    assert reasons["hill.png"] == "hill.png cannot be read (AssertionError)."
    assert reasons["lake.png"] == "lake.png cannot be read: Permission denied."
    assert reasons["bare.png"] == "The recipe in bare.png is too long or damaged."


def test_values_that_sqlite_cannot_hold_harm_nothing(tmp_path: Path):
    write_picture(tmp_path / "a.png", {"prompt": "\ud800 half", "seed": 2**64, "model": 5})
    with closing(opened(tmp_path)) as history:
        (picture,) = history.search(HistoryQuery(search="half")).pictures
        assert (picture.seed, picture.model) == (None, None)
        assert history.request(picture.id) == {"prompt": "? half", "seed": 2**64, "model": 5}


UNUSUAL = ["with space.png", "ünï-山.PNG", "quote'\"; --.jpeg", "[a]*?.webp", "x" * 200 + ".png"]


def test_unusual_names(tmp_path: Path):
    for name in UNUSUAL:
        write_picture(tmp_path / "földer 山" / name, {"prompt": "odd"})
    with closing(opened(tmp_path)) as history:
        assert sorted(found(history, search="odd")) == sorted(UNUSUAL)
        outcome = history.trash(ids(history, *UNUSUAL))
        assert (len(outcome.done), outcome.problems) == (5, ())
        history.restore(outcome.done)
        assert sorted(os.listdir(tmp_path / "földer 山")) == sorted(UNUSUAL)


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_name_that_is_no_text(tmp_path: Path):
    try:
        write_picture(tmp_path / os.fsdecode(b"raw-\xff.png"), {"prompt": "raw"})
    except OSError:
        pytest.skip("this file system takes text only")
    with closing(opened(tmp_path)) as history:
        (picture,) = history.search(HistoryQuery(search="raw")).pictures
        assert history.file(picture.id).is_file()
        assert history.trash([picture.id]).done == (picture.id,)


def test_hidden_folders_other_files_and_links_are_left_out(folder: Path, tmp_path: Path):
    outside = write_picture(tmp_path / "outside" / "secret.png")
    write_picture(folder / ".hidden" / "hidden.png")
    write_picture(folder / ".dot.png")
    (folder / "notes.txt").write_text("no picture")
    (folder / "link.png").symlink_to(outside)
    (folder / "linked").symlink_to(outside.parent)
    with closing(opened(folder)) as history:
        assert found(history) == ["hill.png", "lake.png", "bare.png"]


def test_a_file_replaced_by_a_link_is_not_served(folder: Path, tmp_path: Path):
    outside = write_picture(tmp_path / "outside" / "hill.png")
    with closing(opened(folder)) as history:
        hill, lake = ids(history, "hill.png", "lake.png")
        (folder / DAY / "hill.png").unlink()
        (folder / DAY / "hill.png").symlink_to(outside)
        shutil.rmtree(folder / "2026-04-30")
        write_picture(tmp_path / "elsewhere" / "lake.png")
        (folder / "2026-04-30").symlink_to(tmp_path / "elsewhere")
        for id in (hill, lake):
            with pytest.raises(NotFoundError):
                history.file(id)
            with pytest.raises(NotFoundError):
                history.thumbnail(id)
        assert len(history.trash([hill, lake]).problems) == 2
        refreshed(history)
        assert found(history) == ["bare.png"]
    assert outside.is_file()


def test_a_copied_picture_keeps_the_time_in_its_name(tmp_path: Path):
    write_picture(tmp_path / DAY / "093000-7-abababab.png", made=datetime(2027, 1, 1))
    write_picture(tmp_path / DAY / "993000-7-abababab.png", made=datetime(2027, 1, 1))
    with closing(opened(tmp_path)) as history:
        made = {p.name: p.made[:16] for p in history.search(HistoryQuery()).pictures}
    assert made["093000-7-abababab.png"] == "2026-05-04T09:30"
    assert made["993000-7-abababab.png"] == "2027-01-01T00:00"


def test_an_added_picture_is_found_at_once_with_its_thumbnail(folder: Path):
    with closing(History(folder, Reader())) as history:
        id = history.add(write_picture(folder / DAY / "new.png", {"prompt": "new"}))
        assert id is not None
        assert found(history) == ["new.png"]
        assert (folder / ".thumbnails" / f"{id}.webp").is_file()
        assert history.thumbnail_of(folder / DAY / "new.png") == history.thumbnail(id)
        # Going through the folder finds the same picture, not another one.
        index_all(history)
        assert len(found(history)) == 4
        assert ids(history, "new.png") == [id]


def test_only_pictures_of_the_folder_are_added(folder: Path, tmp_path: Path):
    with closing(History(folder, Reader())) as history:
        with pytest.raises(BadRequestError, match="is not in"):
            history.add(write_picture(tmp_path / "outside.png"))
        assert history.add(folder / "gone.png") is None
        assert found(history) == []


def test_a_picture_that_is_gone_is_one_sentence(history: History, folder: Path):
    (id,) = ids(history, "hill.png")
    shutil.rmtree(folder / DAY)
    with pytest.raises(NotFoundError, match=r"hill\.png is not in its folder"):
        history.file(id)
    with pytest.raises(NotFoundError, match="not in the history"):
        history.file("0" * 24)
    with pytest.raises(NotFoundError, match="not in the history"):
        history.request("../../etc/passwd")


def test_thumbnails_of_pictures_that_are_gone_are_removed(history: History, folder: Path):
    hill, lake = ids(history, "hill.png", "lake.png")
    history.thumbnail(hill)
    history.thumbnail(lake)
    shutil.rmtree(folder / DAY)
    refreshed(history)
    assert os.listdir(folder / ".thumbnails") == [f"{lake}.webp"]


def test_trash_undo_and_trash_again(history: History, folder: Path):
    hill, lake = ids(history, "hill.png", "lake.png")
    assert history.trash([hill, lake, hill]).done == (hill, lake)
    assert found(history) == ["bare.png"]
    assert found(history, trash=True) == ["hill.png", "lake.png"]
    assert (folder / ".trash" / DAY / "hill.png").is_file()
    assert history.file(hill).is_file()
    assert history.trash([hill]).problems == ()
    assert history.restore([hill]).done == (hill,)
    assert (folder / DAY / "hill.png").is_file()
    assert found(history) == ["hill.png", "bare.png"]
    refreshed(history)
    assert found(history) == ["hill.png", "bare.png"]
    assert ids(history, "hill.png") == [hill]


def test_the_trash_outlives_the_index(history: History, folder: Path):
    (hill,) = ids(history, "hill.png")
    history.trash([hill])
    history.close()
    (folder / INDEX).unlink()
    with closing(opened(folder)) as again:
        assert found(again) == ["lake.png", "bare.png"]
        assert ids(again, "hill.png", trash=True) == [hill]
        again.restore([hill])
        assert (folder / DAY / "hill.png").is_file()


def test_the_rest_of_a_selection_is_done(history: History, folder: Path):
    hill, lake, bare = ids(history, "hill.png", "lake.png", "bare.png")
    (folder / "2026-04-30" / "lake.png").unlink()
    outcome = history.trash([hill, lake, "f" * 24, "../bare.png", bare])
    assert outcome.done == (hill, bare)
    assert outcome.problems == (
        "lake.png is not in its folder any more.",
        "A picture of the selection is not known any more.",
        "A picture of the selection is not known any more.",
    )
    assert found(history) == []


def test_a_folder_that_cannot_be_written_is_one_sentence_a_picture(
    history: History, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    rename = os.rename

    def some(source: Path, target: Path) -> None:
        if source.name == "hill.png":
            raise PermissionError(13, "Permission denied")
        rename(source, target)

    monkeypatch.setattr(os, "rename", some)
    hill, lake = ids(history, "hill.png", "lake.png")
    outcome = history.trash([hill, lake])
    assert outcome.done == (lake,)
    assert outcome.problems == ("hill.png could not be moved: Permission denied.",)
    assert found(history) == ["hill.png", "bare.png"]


def test_emptying_deletes_for_good(history: History, folder: Path):
    hill, lake, bare = ids(history, "hill.png", "lake.png", "bare.png")
    for id in (hill, lake, bare):
        history.thumbnail(id)
    history.trash([hill, lake])
    assert sorted(history.empty_trash().done) == sorted([hill, lake])
    assert found(history, trash=True) == []
    assert os.listdir(folder / ".thumbnails") == [f"{bare}.webp"]
    assert not (folder / ".trash").exists()
    assert len(history.restore([hill]).problems) == 1
    refreshed(history)
    assert found(history) == ["bare.png"]


def test_a_vanished_folder_loses_nothing_and_comes_back(folder: Path):
    with closing(opened(folder)) as history:
        (hill,) = ids(history, "hill.png")
        folder.rename(folder.with_name("away"))
        refreshed(history)
        assert found(history, search="hill") == ["hill.png"]
        assert history.notice is not None
        assert "is not there" in history.notice
        with pytest.raises(NotFoundError):
            history.file(hill)
        for outcome in (history.trash([hill]), history.restore([hill]), history.empty_trash()):
            assert outcome.done == ()
            assert len(outcome.problems) == 1
        folder.with_name("away").rename(folder)
        refreshed(history)
        assert (history.notice, len(found(history))) == (None, 3)
        assert history.file(hill).is_file()


def test_a_deleted_folder_that_is_made_anew_is_indexed_anew(folder: Path):
    with closing(opened(folder)) as history:
        shutil.rmtree(folder)
        refreshed(history)
        assert history.notice is not None
        write_picture(folder / "first.png", {"prompt": "first"})
        refreshed(history)
        assert (history.notice, found(history)) == (None, ["first.png"])
        assert (folder / INDEX).is_file()


def test_a_folder_that_is_a_file_is_one_sentence(tmp_path: Path):
    (tmp_path / "outputs").write_text("no folder")
    with closing(opened(tmp_path / "outputs")) as history:
        assert found(history) == []
        assert history.notice is not None
        assert "outputs" in history.notice


def test_searching_works_while_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(history_sync, "BATCH", 2)
    for number in range(3):
        write_picture(tmp_path / f"{number}.png", made=NOON + timedelta(days=number))
    reached, go_on = threading.Event(), threading.Event()
    read = Reader()

    def slow(path: Path) -> Indexed:
        if path.name == "0.png":
            reached.set()
            assert go_on.wait(30)
        return read(path)

    with closing(History(tmp_path, slow)) as history:
        assert history.progress is None
        history.start()
        assert reached.wait(30)
        assert history.progress == (2, 3)
        assert found(history) == ["2.png", "1.png"]
        made = NOON + timedelta(hours=1)
        added = history.add(write_picture(tmp_path / "new.png", made=made))
        assert ids(history, "new.png") == [added]
        assert not history.wait(0)
        go_on.set()
        assert history.wait(30)
        assert history.progress is None
        assert found(history) == ["2.png", "1.png", "new.png", "0.png"]


def test_adding_and_searching_from_many_threads(tmp_path: Path):
    with closing(History(tmp_path, Reader())) as history:
        missed: list[int] = []

        def add(first: int) -> None:
            for number in range(first, first + 10):
                history.add(write_picture(tmp_path / f"{number}.png", {"prompt": "many"}))
                page = history.search(HistoryQuery(search="many"), limit=100)
                if f"{number}.png" not in names(page):
                    missed.append(number)
                history.refresh()

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(add, range(0, 40, 10)))
        refreshed(history)
        assert missed == []
        assert len(found(history)) == 40


def test_a_file_that_changes_while_it_is_read_is_kept_as_it_is_now(tmp_path: Path):
    path = write_picture(tmp_path / "a.png", {"prompt": "early"}, made=NOON)
    write_picture(tmp_path / "b.png", {"prompt": "early"}, made=NOON)
    read = Reader()

    def overtaken(at: Path) -> Indexed:
        early = read(at)
        if early.request == {"prompt": "early"}:
            write_picture(at, {"prompt": "late"}, made=NOON + timedelta(days=1))
            if at == path:
                history.add(at)
        return early

    with closing(History(tmp_path, overtaken)) as history:
        index_all(history)
        assert found(history) == ["a.png"]
        assert found(history, search="late") == ["a.png"]
        refreshed(history)
        assert sorted(found(history, search="late")) == ["a.png", "b.png"]


def test_closing_ends_the_reading(tmp_path: Path):
    for number in range(50):
        write_picture(tmp_path / f"{number}.png")
    reader = Reader()
    reached = threading.Event()

    def read(path: Path) -> Indexed:
        reached.set()
        threading.Event().wait(0.2)
        return reader(path)

    history = History(tmp_path, read)
    history.start()
    assert reached.wait(30)
    history.close()
    assert len(reader.names) < 50


def test_uses_are_counted_with_the_newest_picture_of_each(history: History, folder: Path) -> None:
    later = {
        "model": "postcard",
        "loras": [{"name": "ink", "enabled": False}, {"name": "paper"}],
        "controls": [{"model": "edges"}, {"model": None}],
        "vae": "clear",
    }
    made = datetime(2026, 5, 6)
    write_picture(folder / "late.png", later, made=made, embeddings=("fog", "sub/mist"))
    late = history.add(folder / "late.png")
    hill = history.search(HistoryQuery("hill")).pictures[0].id
    models = history.uses("model")
    assert {name: use.count for name, use in models.items()} == {"postcard": 2, "other": 1}
    assert models["postcard"].newest == late
    loras = history.uses("lora")
    # What is switched off was not used.
    assert {name: (use.count, use.newest) for name, use in loras.items()} == {
        "ink": (1, hill),
        "paper": (1, late),
    }
    assert [*history.uses("controlnet")] == ["edges"]
    assert {name: use.newest for name, use in history.uses("vae").items()} == {"clear": late}
    assert sorted(history.uses("embedding")) == ["fog", "sub/mist"]
    assert history.search(HistoryQuery(vae="clear")).pictures[0].id == late
    assert history.search(HistoryQuery(embedding="fog")).pictures[0].id == late
    assert history.search(HistoryQuery(embedding="fo")).total == 0
    assert history.search(HistoryQuery(lora="ink")).total == 1
    assert history.search(HistoryQuery(lora="ink'")).total == 0
    assert history.search(HistoryQuery(controlnet="edges")).pictures[0].id == late
    history.trash([hill])
    assert "ink" not in history.uses("lora")
