from __future__ import annotations

from datetime import datetime
from pathlib import Path

from webui.clearance import Signed
from webui.library.gallery import Gallery

NOON = datetime(2026, 5, 4, 12, 30, 15)


def test_a_picture_is_saved_as_it_was_signed(tmp_path: Path):
    path = Gallery(tmp_path).save(Signed(b"png", "ab" * 32), seed=7, now=NOON)
    assert path == tmp_path / "2026-05-04" / "123015-7-abababab.png"
    assert path.read_bytes() == b"png"


def test_without_dates_it_lies_in_the_folder_itself(tmp_path: Path):
    path = Gallery(tmp_path, by_date=False).save(Signed(b"png", "ab" * 32), seed=7, now=NOON)
    assert path.parent == tmp_path
