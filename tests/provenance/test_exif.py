from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.provenance.containers import UNICODE, tiff
from webui.errors import BrokenFileError
from webui.provenance.exif import MAKE, MAKER_NOTE, MODEL, USER_COMMENT, read_tags

TEXT = "a ball by the 海\nSteps: 20, Sampler: Euler"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("head", [b"", b"Exif\0\0"])
@pytest.mark.parametrize(
    "comment",
    [
        UNICODE + TEXT.encode("utf-16-be"),
        UNICODE + TEXT.encode("utf-16-le"),
        UNICODE + TEXT.encode("utf-16"),
        UNICODE + "\ufeff".encode("utf-16-be") + TEXT.encode("utf-16-be"),
        UNICODE + TEXT.encode("utf-16-be") + b"\0\0",
        b"ASCII\0\0\0" + TEXT.encode(),
        b"\0" * 8 + TEXT.encode(),
        TEXT.encode(),
    ],
)
def test_every_spelling_of_a_comment(comment: bytes, head: bytes, order: str) -> None:
    exif = tiff({USER_COMMENT: comment}, order="<" if order == "<" else ">")
    assert read_tags(head + exif) == {USER_COMMENT: TEXT}


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_text_without_ascii_is_in_the_order_of_the_file(order: str) -> None:
    text = "海辺"
    little = order == "<"
    comment = UNICODE + text.encode("utf-16-le" if little else "utf-16-be")
    exif = tiff({USER_COMMENT: comment}, order="<" if little else ">")
    assert read_tags(exif) == {USER_COMMENT: text}


def test_texts_of_both_directories() -> None:
    exif = tiff({MAKER_NOTE: b"a1111"}, {MODEL: b'prompt:{"1": 2}\0', MAKE: b"x"})
    assert read_tags(exif) == {MAKER_NOTE: "a1111", MODEL: 'prompt:{"1": 2}', MAKE: "x"}


def test_what_pil_writes_is_read() -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[USER_COMMENT] = UNICODE + TEXT.encode("utf-16-be")
    exif[MAKE] = "maker"
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG", exif=exif)
    assert read_tags(exif.tobytes()) == {MAKE: "maker", USER_COMMENT: TEXT}


def test_directories_that_lead_in_circles_are_read_once() -> None:
    loop = b"MM" + struct.pack(">HIHHHIII", 42, 8, 1, 0x8769, 4, 1, 8, 8)
    assert read_tags(loop) == {}


GOOD = tiff({USER_COMMENT: TEXT.encode()})


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"MM",
        b"XX" + GOOD[2:],
        b"II" + GOOD[2:],
        GOOD[:20],
        GOOD[:-1],
        b"MM" + struct.pack(">HI", 42, 4_000_000_000),
        b"MM" + struct.pack(">HIH", 42, 8, 65535) + b"\0" * 100,
        b"MM" + struct.pack(">HIHHHIII", 42, 8, 1, 0x8769, 4, 1, 10**9, 0),
        b"MM" + struct.pack(">HIHHHIII", 42, 8, 1, MAKE, 2, 2**32 - 1, 8, 0),
    ],
)
def test_damaged_data_are_refused(exif: bytes) -> None:
    with pytest.raises(BrokenFileError, match="EXIF data are damaged"):
        read_tags(exif)


@given(st.binary(max_size=80), st.integers(0, len(GOOD)))
def test_any_data_are_read_or_refused(data: bytes, at: int) -> None:
    try:
        found = read_tags(GOOD[:at] + data + GOOD[at + len(data) :])
    except BrokenFileError:
        found = {}
    assert all(len(text) <= len(GOOD) + 80 for text in found.values())
