from __future__ import annotations

import hashlib
import io
import os
import stat
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from webui.errors import StorageError
from webui.library.origins import OUTSIDE, Origin, Origins
from webui.library.uploads import Uploads

OWN = Origin(tainted=False, has_credentials=True)
FOREIGN = Origin(tainted=True, has_credentials=True)
BARE_OWN = Origin(tainted=False, has_credentials=False)


def file(colour: int = 90, text: str = "") -> bytes:
    """A grey picture's file; a text changes it and no pixel."""
    said = PngImagePlugin.PngInfo()
    said.add_text("Comment", text)
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (colour, colour, colour)).save(buffer, "PNG", pnginfo=said)
    return buffer.getvalue()


class Shelf:
    """Uploads whose judge says what it is told to."""

    def __init__(self, folder: Path) -> None:
        self.says = OWN
        self.asked: list[bytes] = []
        self.folder = folder / "uploads"
        self.uploads = Uploads(self.folder, judge=self._judge)

    def _judge(self, data: bytes) -> Origin:
        self.asked.append(data)
        return self.says

    def record(self, name: str) -> Path:
        return self.folder / f"{name}.origin"


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


FILE, SAME_PIXELS = file(), file(text="again")


def test_a_picture_is_judged_once_by_its_file_as_it_came(shelf: Shelf) -> None:
    taken = shelf.uploads.take(FILE)
    assert shelf.asked == [FILE]
    for _ in range(2):
        assert shelf.uploads.origin(taken.id) == OWN
        assert shelf.uploads.original(taken.id) == FILE
    assert shelf.asked == [FILE]


def test_it_is_known_by_its_files_own_hash_too_and_after_a_restart(shelf: Shelf) -> None:
    shelf.uploads.take(FILE)
    again = Uploads(shelf.folder)
    assert again.origin(hashlib.sha256(FILE).hexdigest()) == OWN
    assert again.original(hashlib.sha256(FILE).hexdigest()) == FILE


def test_without_a_judge_every_picture_is_from_outside(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path / "uploads")
    taken = uploads.take(FILE)
    assert uploads.origin(taken.id) == OUTSIDE
    assert uploads.original(taken.id) == uploads.read(taken.id)
    assert not (tmp_path / "uploads.key").exists()


def test_nothing_is_known_of_what_is_not_here(shelf: Shelf) -> None:
    for name in ("0" * 64, "/etc/hostname", ""):
        assert shelf.uploads.origin(name) == OUTSIDE


def test_a_mask_is_from_outside_whatever_its_file_says(shelf: Shelf) -> None:
    mask = shelf.uploads.take(FILE, kind="mask")
    assert shelf.asked == []
    assert shelf.uploads.origin(mask.id) == OUTSIDE


def test_credentials_are_kept_with_the_file(shelf: Shelf) -> None:
    shelf.says = FOREIGN
    taken = shelf.uploads.take(FILE)
    assert shelf.uploads.origin(taken.id) == FOREIGN
    assert shelf.uploads.original(taken.id) == FILE
    shelf.says = BARE_OWN
    other = shelf.uploads.take(file(91))
    assert shelf.uploads.origin(other.id) == BARE_OWN
    assert shelf.uploads.original(other.id) == shelf.uploads.read(other.id)


def test_the_same_pixels_count_as_what_is_best_known_of_them(shelf: Shelf) -> None:
    for says, expected in ((OUTSIDE, OUTSIDE), (FOREIGN, FOREIGN), (OWN, OWN), (FOREIGN, OWN)):
        shelf.says = says
        name = shelf.uploads.take(SAME_PIXELS if says == FOREIGN else FILE).id
        assert shelf.uploads.origin(name) == expected
    assert shelf.uploads.original(name) == FILE


def test_a_verdict_counts_for_its_own_picture_alone(shelf: Shelf) -> None:
    own = shelf.uploads.take(FILE).id
    shelf.says = OUTSIDE
    other = shelf.uploads.take(file(7)).id
    shelf.record(other).write_bytes(shelf.record(own).read_bytes())
    assert shelf.uploads.origin(other) == OUTSIDE


@pytest.mark.parametrize("damage", [b"", b"{}", b"false"])
def test_a_verdict_that_was_changed_is_none(shelf: Shelf, damage: bytes) -> None:
    shelf.says = FOREIGN
    name = shelf.uploads.take(FILE).id
    record = shelf.record(name)
    said = record.read_bytes()
    record.write_bytes(damage or said.replace(b'"tainted":true', b'"tainted":false'))
    assert shelf.uploads.origin(name) == OUTSIDE
    assert shelf.uploads.original(name) == shelf.uploads.read(name)


def test_a_verdict_sealed_elsewhere_is_none(shelf: Shelf, tmp_path: Path) -> None:
    elsewhere = Shelf(tmp_path / "elsewhere")
    name = elsewhere.uploads.take(FILE).id
    shelf.says = OUTSIDE
    shelf.uploads.take(FILE)
    shelf.record(name).write_bytes(elsewhere.record(name).read_bytes())
    assert shelf.uploads.origin(name) == OUTSIDE


def test_a_damaged_key_leaves_no_verdict(shelf: Shelf) -> None:
    name = shelf.uploads.take(FILE).id
    shelf.folder.with_name("uploads.key").write_bytes(b"short")
    assert shelf.uploads.origin(name) == OUTSIDE
    with pytest.raises(StorageError):
        Origins(shelf.folder).keep(name, OWN, FILE)


def test_an_original_that_was_changed_or_lost_is_not_handed_out(shelf: Shelf) -> None:
    name = shelf.uploads.take(FILE).id
    original = shelf.folder / f"{name}.original"
    original.write_bytes(FILE + b"more")
    assert shelf.uploads.original(name) == shelf.uploads.read(name)
    original.unlink()
    assert shelf.uploads.original(name) == shelf.uploads.read(name)


def test_what_is_kept_is_private_and_stays_while_it_is_used(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    name = shelf.uploads.take(FILE).id
    files = [shelf.record(name), shelf.folder / f"{name}.original"]
    for path in (*files, shelf.folder.with_name("uploads.key")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for path in files:
        os.utime(path, (0, 0))
    assert shelf.uploads.origin(name) == OWN
    shelf.uploads.take(file(3))
    assert all(path.exists() for path in files)
    for path in files:
        os.utime(path, (0, 0))
    shelf.uploads.take(file(4))
    assert not any(path.exists() for path in files)
    assert shelf.uploads.origin(name) == OUTSIDE
