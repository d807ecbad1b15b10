from __future__ import annotations

import os
import time
from datetime import datetime
from pathlib import Path

from webui.clearance import Signed
from webui.library.gallery import Drafts, Gallery

NOON = datetime(2026, 5, 4, 12, 30, 15)


def test_a_picture_is_saved_as_it_was_signed(tmp_path: Path):
    path = Gallery(tmp_path).save(Signed(b"png", "ab" * 32), seed=7, now=NOON)
    assert path == tmp_path / "2026-05-04" / "123015-7-abababab.png"
    assert path.read_bytes() == b"png"


def test_without_dates_it_lies_in_the_folder_itself(tmp_path: Path):
    path = Gallery(tmp_path, by_date=False).save(Signed(b"png", "ab" * 32), seed=7, now=NOON)
    assert path.parent == tmp_path


def test_drafts_are_removed_when_they_are_too_many_the_oldest_first(tmp_path: Path):
    drafts = Drafts(tmp_path, most=2)
    now = time.time()
    paths = [
        drafts.save(Signed(b"png", f"{n:064}"), seed=n, now=NOON.replace(second=n))
        for n in range(2)
    ]
    for age, path in enumerate(reversed(paths), start=1):
        os.utime(path, (now - age, now - age))
    paths.append(drafts.save(Signed(b"png", "ab" * 32), seed=3, now=NOON))
    assert [path.exists() for path in paths] == [False, True, True]


def test_drafts_of_long_ago_are_removed_and_nothing_else(tmp_path: Path):
    drafts = Drafts(tmp_path, max_age=60)
    old = drafts.save(Signed(b"png", "ab" * 32), seed=1, now=NOON)
    (tmp_path / "notes.txt").write_text("kept")
    for file in tmp_path.iterdir():
        os.utime(file, (1e9, 1e9))
    new = drafts.save(Signed(b"png", "cd" * 32), seed=2, now=NOON)
    assert {file.name for file in tmp_path.iterdir()} == {"notes.txt", new.name}
    assert not old.exists()


def test_drafts_that_were_never_made_are_no_problem(tmp_path: Path):
    Drafts(tmp_path / "none").tidy()
    assert not (tmp_path / "none").exists()
