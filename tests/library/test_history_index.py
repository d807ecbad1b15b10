"""The index's file: lost, damaged, of another version, not writable."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from webui.library import history_index
from webui.library.history_database import DAMAGED, INDEX
from webui.library.history_index import VERSION, HistoryIndex, Picture
from webui.library.history_query import Condition, HistoryQuery


def picture(name: str, *, made: str = "2026-05-04T12:00:00.000000") -> Picture:
    return Picture(
        id=f"{sum(name.encode()):024x}",
        folder="a",
        name=name,
        mtime_ns=1,
        size=2,
        made=made,
        trashed=None,
        width=3,
        height=4,
        prompt="a hill",
        negative_prompt=None,
        model="postcard",
        seed=5,
        embeddings=None,
        settings="{}",
        broken=None,
    )


def connection_of(index: HistoryIndex) -> sqlite3.Connection:
    return index._database._connection  # pyright: ignore[reportPrivateUsage]


def names(index: HistoryIndex) -> list[str]:
    page = index.search(HistoryQuery(), cursor=None, limit=10)
    return [found.name for found in page.pictures]


def test_rows_come_back_as_they_were_put(tmp_path: Path):
    with closing(HistoryIndex(tmp_path)) as index:
        index.put([picture("a.png")])
        assert index.search(HistoryQuery(), cursor=None, limit=1).pictures == (picture("a.png"),)
        assert index.stamps("a") == {"a.png": (1, 2)}
        assert (index.folders(), index.ids()) == ({"a"}, {picture("a.png").id})
    with closing(HistoryIndex(tmp_path)) as index:
        assert (names(index), index.notice) == (["a.png"], None)


def test_more_ids_than_fit_one_statement(tmp_path: Path):
    with closing(HistoryIndex(tmp_path)) as index:
        index.put([picture("a.png")])
        ids = [f"{number:024x}" for number in range(100_000, 101_500)]
        assert list(index.find([*ids, picture("a.png").id])) == [picture("a.png").id]


@pytest.mark.parametrize("damage", ["no database", "overwritten", "cut off"])
def test_a_damaged_file_is_set_aside_and_begun_anew(tmp_path: Path, damage: str):
    path = tmp_path / INDEX
    with closing(HistoryIndex(tmp_path)) as index:
        index.put([picture(f"{number}.png") for number in range(200)])
    data = path.read_bytes()
    damaged = {
        "no database": b"no database at all" * 100,
        "overwritten": data[:4096] + b"\xff" * (len(data) - 4096),
        "cut off": data[: len(data) // 2],
    }[damage]
    path.write_bytes(damaged)
    with closing(HistoryIndex(tmp_path)) as index:
        assert (names(index), index.notice) == ([], None)
        index.put([picture("new.png")])
    assert (tmp_path / DAMAGED).read_bytes() == damaged
    with closing(HistoryIndex(tmp_path)) as index:
        assert names(index) == ["new.png"]


def test_damage_that_shows_while_running_is_set_aside_too(tmp_path: Path):
    with closing(HistoryIndex(tmp_path)) as index:
        index.put([picture(f"{number}.png") for number in range(2000)])
        generation = index.generation
        # What is cached and what waits in the log must not hide the damage.
        connection_of(index).execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection_of(index).execute("PRAGMA shrink_memory")
        path = tmp_path / INDEX
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (path.stat().st_size - 4096))
        assert names(index) == []
        assert index.generation > generation
        assert index.notice is None
        index.put([picture("new.png")])
        assert names(index) == ["new.png"]


@pytest.mark.parametrize(
    "change",
    [f"PRAGMA user_version = {VERSION + 1}", "ALTER TABLE pictures DROP COLUMN seed"],
)
def test_an_index_of_another_schema_is_made_anew(tmp_path: Path, change: str):
    with closing(HistoryIndex(tmp_path)) as index:
        index.put([picture("a.png")])
    with closing(sqlite3.connect(tmp_path / INDEX)) as connection:
        connection.execute(change)
        connection.commit()
    with closing(HistoryIndex(tmp_path)) as index:
        assert names(index) == []
        index.put([picture("b.png")])
        assert (names(index), index.notice) == (["b.png"], None)


def test_without_a_file_it_is_kept_in_memory_and_says_so(tmp_path: Path):
    (tmp_path / INDEX).mkdir()
    with closing(HistoryIndex(tmp_path)) as index:
        index.put([picture("a.png")])
        assert names(index) == ["a.png"]
        assert index.notice is not None
        assert index.notice.startswith(f"The history cannot be kept in {tmp_path}")
        assert index.is_there()
        assert names(index) == ["a.png"]


@pytest.mark.parametrize(
    ("pragma", "sentence"),
    [("max_page_count = 1", "The disk is full"), ("query_only = 1", "cannot be kept")],
)
def test_a_file_that_cannot_be_written_any_more_loses_nothing(
    tmp_path: Path, pragma: str, sentence: str
):
    with closing(HistoryIndex(tmp_path)) as index:
        index.put([picture(f"{number}.png") for number in range(5)])
        generation = index.generation
        connection_of(index).execute(f"PRAGMA {pragma}")
        index.put([picture(f"b{number}.png") for number in range(5, 5000)])
        assert index.notice is not None
        assert sentence in index.notice
        assert index.search(HistoryQuery(), cursor=None, limit=1).total > 5
        assert index.find([picture("1.png").id])
        assert index.generation == generation


def test_a_deleted_file_is_noticed_and_begun_anew(tmp_path: Path):
    with closing(HistoryIndex(tmp_path)) as index:
        index.put([picture("a.png")])
        generation = index.generation
        for name in os.listdir(tmp_path):
            (tmp_path / name).unlink()
        assert index.is_there()
        assert index.generation > generation
        index.put([picture("b.png")])
    with closing(HistoryIndex(tmp_path)) as index:
        assert names(index) == ["b.png"]


def test_a_mistake_of_ours_is_no_reason_to_give_up_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def mistaken(query: HistoryQuery) -> Condition:
        return "no_such_column", ()

    monkeypatch.setattr(history_index, "conditions", mistaken)
    with closing(HistoryIndex(tmp_path)) as index:
        with pytest.raises(sqlite3.OperationalError):
            names(index)
        assert index.notice is None


def test_a_copy_outside_the_trash_wins_over_the_one_in_it(tmp_path: Path):
    trashed = replace(picture("a.png"), folder=".trash/a", trashed="2026")
    with closing(HistoryIndex(tmp_path)) as index:
        for order in ([trashed, picture("a.png")], [picture("a.png"), trashed]):
            index.put(order)
            assert index.trashed() == []
            assert names(index) == ["a.png"]
