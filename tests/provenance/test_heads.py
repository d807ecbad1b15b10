from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.provenance.containers import jpeg_with, picture, tiff, webp_with
from webui.errors import BrokenFileError
from webui.provenance.exif import USER_COMMENT
from webui.provenance.heads import MAX_EXIF_BYTES, MAX_PARTS, jpeg_head, webp_head

EXIF = tiff({USER_COMMENT: b"a ball"})
JPEG, WEBP = jpeg_with(EXIF), webp_with(EXIF)


def test_the_files_are_real_ones() -> None:
    for data in (JPEG, WEBP, webp_with(EXIF, lossless=True)):
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            assert image.size == (24, 16)
            assert image.getexif().get_ifd(0x8769)[USER_COMMENT] == b"a ball"


@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg(progressive: bool) -> None:
    buffer = io.BytesIO()
    Image.new("L", (30, 20)).save(buffer, "JPEG", progressive=progressive, comment=b"x")
    head = jpeg_head(buffer)
    assert (head.width, head.height, head.exif) == (30, 20, b"")
    head = jpeg_head(io.BytesIO(JPEG))
    assert (head.width, head.height, head.exif) == (24, 16, b"Exif\0\0" + EXIF)


def test_jpeg_with_other_segments_and_fill_bytes() -> None:
    xmp = b"\xff\xff\xff\xe1\0\x0ahttp://x"
    head = jpeg_head(io.BytesIO(JPEG[:2] + xmp + JPEG[2:]))
    assert (head.width, head.exif[:4]) == (24, b"Exif")


@pytest.mark.parametrize("lossless", [False, True])
def test_webp(lossless: bool) -> None:
    plain = webp_head(io.BytesIO(picture("WEBP", lossless=lossless)))
    assert (plain.width, plain.height, plain.exif) == (24, 16, b"")
    extended = webp_head(io.BytesIO(webp_with(EXIF, lossless=lossless) + b"more"))
    assert (extended.width, extended.height, extended.exif) == (24, 16, EXIF)


def riff(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (JPEG[:3], "cut off"),
        (JPEG[:100], "cut off"),
        (b"\xff\xd8\xff\xd9", "no pixels"),
        (b"\xff\xd8\xff\xc0\0\x09\x08\0\0\0\x08\x01\0\xff\xda", "no pixels"),
        (b"\xff\xd8\xff\xc0\0\x02\xff\xda", "no pixels"),
        (b"\xff\xd8\xff\xe0\0\x01", "damaged"),
        (b"\xff\xd8\xff\xe0\0\x02text", "damaged"),
        (b"\xff\xd8" + b"\xff" * 100_000, "damaged"),
        (b"\xff\xd8" + b"\xff\xe0\0\x02" * (MAX_PARTS + 1), "more than 10,000"),
    ],
)
def test_a_broken_jpeg(data: bytes, says: str) -> None:
    with pytest.raises(BrokenFileError, match=says):
        jpeg_head(io.BytesIO(data))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (WEBP[:6], "cut off"),
        (WEBP[:25], "cut off"),
        (WEBP[:60], "cut off"),
        (WEBP[:-8], "cut off"),
        (riff(), "no pixels"),
        (riff(struct.pack("<4sI", b"VP8 ", 10) + b"\0" * 10), "no pixels"),
        (riff(struct.pack("<4sI", b"VP8L", 2) + b"\0" * 2), "cut off"),
        (riff(struct.pack("<4sI", b"EXIF", MAX_EXIF_BYTES + 1)), "longer than"),
        (riff(struct.pack("<4sI", b"none", 0) * (MAX_PARTS + 1)), "more than 10,000"),
    ],
)
def test_a_broken_webp(data: bytes, says: str) -> None:
    with pytest.raises(BrokenFileError, match=says):
        webp_head(io.BytesIO(data))


@given(st.binary(max_size=40), st.integers(2, len(WEBP)))
def test_any_data_are_read_or_refused(data: bytes, at: int) -> None:
    for good, read in ((JPEG, jpeg_head), (WEBP, webp_head)):
        try:
            head = read(io.BytesIO(good[:at] + data + good[at + len(data) :]))
        except BrokenFileError:
            continue
        assert head.width > 0
        assert head.height > 0
