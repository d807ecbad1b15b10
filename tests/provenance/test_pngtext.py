from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from webui.errors import BrokenFileError
from webui.provenance.pngtext import (
    MAX_CHUNKS,
    MAX_TEXT_BYTES,
    MAX_TEXTS,
    insert_text,
    read_size,
    read_text,
    text_chunks,
)


def encoded(info: PngImagePlugin.PngInfo | None = None) -> bytes:
    ramp = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    buffer = io.BytesIO()
    Image.fromarray(ramp).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


PNG = encoded()
TEXTS = {"easel": '{"a": 1}', "parameters": "a ball\nSteps: 20"}


def chunk(kind: bytes, data: bytes) -> bytes:
    crc = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def with_chunk(kind: bytes, data: bytes) -> bytes:
    return PNG[:33] + chunk(kind, data) + PNG[33:]


def pil_text(png: bytes) -> dict[str, str]:
    with Image.open(io.BytesIO(png)) as picture:
        assert isinstance(picture, PngImagePlugin.PngImageFile)
        return {str(key): str(value) for key, value in picture.text.items()}


def kinds(png: bytes) -> list[bytes]:
    found: list[bytes] = []
    position = 8
    while position < len(png):
        (length,) = struct.unpack(">I", png[position : position + 4])
        found.append(png[position + 4 : position + 8])
        position += 12 + length
    return found


@pytest.mark.parametrize("text", ["a ball", "", "mer é\n", "海辺のボール, 1", "a" * 100_000])
def test_pil_reads_what_is_written_and_the_rest_is_untouched(text: str) -> None:
    written = insert_text(PNG, {"parameters": text, "easel": "{}"})
    assert pil_text(written) == {"parameters": text, "easel": "{}"}
    assert read_text(written) == {"parameters": text, "easel": "{}"}
    assert written[:33] == PNG[:33]
    assert written.endswith(PNG[33:])
    with Image.open(io.BytesIO(written)) as picture, Image.open(io.BytesIO(PNG)) as plain:
        assert np.array_equal(np.asarray(picture), np.asarray(plain))


@pytest.mark.parametrize("text", ["a ball", "mer é", "海"])
def test_the_chunk_is_byte_for_byte_pils(text: str) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", text)
    assert insert_text(PNG, {"parameters": text}) == encoded(info)


def test_chunks_stand_right_after_the_header_in_their_order() -> None:
    written = insert_text(PNG, {"easel": "海", "parameters": "a ball"})
    assert kinds(written)[:4] == [b"IHDR", b"iTXt", b"tEXt", b"IDAT"]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("international", [False, True])
def test_all_kinds_of_text_are_read(compressed: bool, international: bool) -> None:
    info = PngImagePlugin.PngInfo()
    if international:
        info.add_itxt("key", "海 ball", "ja", "キー", zip=compressed)
    else:
        info.add_text("key", "é ball", zip=compressed)
    assert read_text(encoded(info)) == {"key": "海 ball" if international else "é ball"}


def test_of_two_texts_with_one_keyword_the_first_counts() -> None:
    assert read_text(insert_text(with_chunk(b"tEXt", b"a\0old"), {"a": "new"})) == {"a": "new"}


def test_bytes_behind_the_end_and_bad_utf8_are_tolerated() -> None:
    assert read_text(insert_text(PNG, TEXTS) + b"more") == TEXTS
    assert read_text(with_chunk(b"iTXt", b"a\0\0\0\0\0x\xff")) == {"a": "x\ufffd"}


BOMB = zlib.compress(b"a" * 50_000_000)


@pytest.mark.parametrize(
    ("png", "says"),
    [
        (b"", "not a PNG"),
        (b"\xff\xd8\xff\xe0" + b"0" * 100, "not a PNG"),
        (PNG[:8], "cut off"),
        (PNG[:40], "cut off"),
        (PNG[:-12], "cut off"),
        (with_chunk(b"tEXt", b"no name"), "no name"),
        (with_chunk(b"tEXt", b"\0text"), "no name"),
        (with_chunk(b"iTXt", b"a\0"), "damaged"),
        (with_chunk(b"iTXt", b"a\0\0\0en"), "damaged"),
        (with_chunk(b"iTXt", b"a\0\2\0\0\0x"), "damaged"),
        (with_chunk(b"zTXt", b"a\0\0not zlib"), "damaged"),
        (with_chunk(b"zTXt", b"a\0\0" + zlib.compress(b"text")[:-5]), "damaged"),
        (with_chunk(b"zTXt", b"a\0\1" + zlib.compress(b"text")), "unknown way"),
        (with_chunk(b"zTXt", b"a\0\0" + BOMB), "longer than"),
        (with_chunk(b"iTXt", b"a\0\1\0\0\0" + BOMB), "longer than"),
        (with_chunk(b"tEXt", b"a\0" + b"b" * (MAX_TEXT_BYTES + 1)), "longer than"),
        (with_chunk(b"tEXt", b"a" * 80 + b"\0text"), "no name"),
        (PNG[:33] + chunk(b"tEXt", b"a\0b") * (MAX_TEXTS + 1) + PNG[33:], "more than 64"),
        (PNG[:33] + chunk(b"none", b"") * MAX_CHUNKS + PNG[33:], "more than 100,000 parts"),
        (insert_text(PNG, TEXTS).replace(b"a ball", b"a bell"), "damaged"),
    ],
)
def test_what_is_broken_or_too_much_is_refused(png: bytes, says: str) -> None:
    with pytest.raises(BrokenFileError, match=says):
        read_text(png)


def test_only_png_files_take_text() -> None:
    for data in (b"", b"GIF89a" + b"0" * 60, PNG[:20]):
        with pytest.raises(BrokenFileError):
            insert_text(data, TEXTS)


@pytest.mark.parametrize("keyword", ["", "a" * 80, "a\0b"])
def test_a_keyword_that_png_forbids_is_a_programming_error(keyword: str) -> None:
    with pytest.raises(ValueError, match="not a PNG keyword"):
        insert_text(PNG, {keyword: "text"})


@given(st.dictionaries(st.sampled_from(["easel", "parameters", "é"]), st.text()))
def test_every_text_comes_back(texts: dict[str, str]) -> None:
    assert read_text(insert_text(PNG, texts)) == texts


@given(st.binary(max_size=200), st.sampled_from([b"tEXt", b"zTXt", b"iTXt"]))
def test_any_text_chunk_is_read_or_refused(data: bytes, kind: bytes) -> None:
    try:
        found = read_text(with_chunk(kind, data))
    except BrokenFileError:
        found = {"": ""}
    assert len(found) == 1


class Watched(io.BytesIO):
    """A file that counts the bytes read from it."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


def test_a_file_is_read_without_its_pixels() -> None:
    pixels = chunk(b"IDAT", b"0" * 1_000_000) * 20
    file = Watched(insert_text(PNG[:33] + pixels + PNG[33:], TEXTS))
    file.seek(100)
    assert read_text(file) == TEXTS
    assert file.count < 1000


def test_texts_are_read_only_when_asked_for() -> None:
    file = Watched(with_chunk(b"tEXt", b"big\0" + b"a" * 500_000))
    (found,) = text_chunks(file)
    assert found.keyword == "big"
    assert file.count < 1000
    assert len(found.read()) == 500_000


def test_what_stands_before_the_break_is_given_first() -> None:
    chunks = text_chunks(insert_text(PNG, TEXTS)[:-12])
    assert next(chunks).read() == TEXTS["easel"]
    assert next(chunks).read() == TEXTS["parameters"]
    with pytest.raises(BrokenFileError, match="cut off"):
        next(chunks)


def header(width: int, height: int) -> bytes:
    return PNG[:8] + chunk(b"IHDR", struct.pack(">II5B", width, height, 8, 2, 0, 0, 0))


def test_the_size_is_read_from_the_header_alone() -> None:
    assert read_size(PNG) == (16, 16)
    assert read_size(io.BytesIO(header(30_000, 40_000))) == (30_000, 40_000)


@pytest.mark.parametrize(
    ("png", "says"),
    [
        (b"", "not a PNG"),
        (PNG[:30], "cut off"),
        (header(0, 5), "no pixels"),
        (header(5, 0), "no pixels"),
        (PNG[:20] + b"9" + PNG[21:], "header is damaged"),
        (PNG[:8] + chunk(b"IDAT", b"0" * 13), "header is damaged"),
    ],
)
def test_a_header_that_is_none_is_refused(png: bytes, says: str) -> None:
    with pytest.raises(BrokenFileError, match=says):
        read_size(png)
