from __future__ import annotations

import io
import json
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.provenance.containers import UNICODE, jpeg_with, picture, tiff, webp_with
from tests.provenance.scenes import marked, scene
from tests.work import lines_run
from webui.clearance import Cleared
from webui.errors import BadRequestError, BrokenFileError, NotFoundError
from webui.interchange.infotext import write_infotext
from webui.provenance.c2pa import Signer
from webui.provenance.exif import MAKE, MAKER_NOTE, MODEL, USER_COMMENT
from webui.provenance.pngtext import insert_text
from webui.provenance.recipe import KEY, Recipe
from webui.provenance.recover import recover, recover_text
from webui.provenance.sign import sign
from webui.request import GenerationRequest, parse_request

PNG = picture("PNG")
REQUEST = GenerationRequest(
    prompt="a ball by the 海", width=256, height=320, seed=7, steps=9, model="sea", clip_skip=2
)
INFOTEXT = write_infotext(REQUEST, model_hash="0123456789", version="x 1")


def recipe(**changes: Any) -> str:
    whole = Recipe(
        REQUEST, "ab" * 32, {"easel": "1"}, "cpu", "float32", "nchw", "sdpa", tainted=False
    ).to_json()
    return json.dumps(json.loads(whole) | changes)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(texts: dict[str, str]) -> bytes:
    return insert_text(PNG, texts)


def test_our_own_picture_gives_the_very_same_request(signer: Signer) -> None:
    whole = Recipe(
        REQUEST, "ab" * 32, {"easel": "1"}, "cpu", "float32", "nchw", "sdpa", tainted=False
    )
    signed = sign(Cleared(marked(scene(1)), 0), whole, signer)
    found = recover(signed.data)
    assert parse_request(found.request) == REQUEST
    assert (found.source, found.report, found.model_hash) == ("easel", (), "ab" * 32)
    assert (found.width, found.height) == (256, 256)


def test_a_file_that_stands_anywhere_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png_with({KEY: recipe()}))
    with path.open("rb") as file:
        file.seek(50)
        assert parse_request(recover(file).request) == REQUEST


def test_the_infotext_counts_where_our_own_is_missing() -> None:
    found = recover(png_with({"parameters": INFOTEXT}))
    assert parse_request(found.request) == REQUEST
    assert (found.source, found.report, found.model_hash) == ("a1111", (), "0123456789")
    assert recover(png_with({"parameters": INFOTEXT, KEY: recipe()})).source == "easel"


@pytest.mark.parametrize("wrap", [jpeg_with, webp_with])
@pytest.mark.parametrize(
    "comment",
    [
        UNICODE + INFOTEXT.encode("utf-16-be"),
        UNICODE + INFOTEXT.encode("utf-16-le"),
        b"ASCII\0\0\0" + INFOTEXT.encode(),
        INFOTEXT.encode(),
    ],
)
def test_jpeg_and_webp(comment: bytes, wrap: Callable[[bytes], bytes]) -> None:
    found = recover(wrap(tiff({USER_COMMENT: comment})))
    assert parse_request(found.request) == REQUEST
    assert (found.source, found.width, found.height) == ("a1111", 24, 16)


def test_a_pasted_text() -> None:
    found = recover_text(INFOTEXT)
    assert parse_request(found.request) == REQUEST
    assert (found.width, found.height) == (None, None)
    with pytest.raises(NotFoundError, match="SwarmUI"):
        recover_text('{"sui_image_params": {"prompt": "a ball"}}')


def changed(**values: Any) -> dict[str, Any]:
    return REQUEST.model_dump(mode="json") | values


@pytest.mark.parametrize(
    ("changes", "lost", "says"),
    [
        ({"schema": 2}, set[str](), "another version of Easel"),
        ({"level": 2}, set[str](), "filter level"),
        ({"request": changed(level=2)}, set[str](), "filter level"),
        ({"request": changed(glow=2)}, set[str](), "left out: glow."),
        ({"request": changed(steps=900)}, {"steps"}, "at most 150"),
        ({"request": changed(prompt=None)}, {"prompt"}, "prompt"),
        ({"request": changed(seed=10**4000)}, {"seed"}, "seed"),
    ],
)
def test_what_is_valid_is_kept_and_the_rest_said(
    changes: dict[str, Any], lost: set[str], says: str
) -> None:
    found = recover(png_with({KEY: recipe(**changes)}))
    expected = {k: v for k, v in REQUEST.model_dump(mode="json").items() if k not in lost}
    assert found.request == expected
    assert len(found.report) == 1
    assert says in found.report[0]
    assert len(found.report[0]) < 500


@pytest.mark.parametrize("sha256", [None, 5, "x", "ab" * 500_000, {"a": 1}])
def test_a_hash_that_is_none_is_not_passed_on(sha256: object) -> None:
    found = recover(png_with({KEY: recipe(model={"name": "sea", "sha256": sha256})}))
    assert found.model_hash is None


DEEP = '{"request": ' + "[" * 10_000 + "]" * 10_000 + "}"
RATHER_DEEP = '{"request": {"prompt": ' + "[" * 900 + "]" * 900 + ', "steps": 3}}'
HUGE_NUMBER = '{"request": {"seed": ' + "9" * 100_000 + "}}"


@pytest.mark.parametrize(
    "text", ["", "no JSON", "[]", "3", "{}", '{"request": 3}', "{'a': 1}", DEEP, HUGE_NUMBER]
)
def test_a_damaged_recipe(text: str) -> None:
    with pytest.raises(BrokenFileError, match=r"^The picture's recipe is damaged: [^.]*\.$"):
        recover(png_with({KEY: text}))
    found = recover(png_with({KEY: text, "parameters": INFOTEXT}))
    assert parse_request(found.request) == REQUEST
    assert found.source == "a1111"
    assert len(found.report) == 1
    assert "damaged" in found.report[0]


def test_a_deep_value_is_left_out() -> None:
    found = recover(png_with({KEY: RATHER_DEEP}))
    assert found.request == {"steps": 3}
    assert len(found.report[0]) < 500


@pytest.mark.parametrize(
    "data",
    [
        PNG,
        picture("JPEG"),
        picture("WEBP"),
        png_with({"parameters": " "}),
        png_with({"Title": "a ball", "Software": "x"}),
        jpeg_with(tiff({USER_COMMENT: b"ASCII\0\0\0Screenshot"}, {MAKE: b"maker"})),
        jpeg_with(tiff({USER_COMMENT: b" " * 50})),
    ],
)
def test_a_picture_without_a_recipe(data: bytes) -> None:
    with pytest.raises(NotFoundError, match=r"^This picture carries no recipe\.$"):
        recover(data)


SWARM = json.dumps({"sui_image_params": {"prompt": "a ball"}}, indent=1)
FOOOCUS = json.dumps({"metadata_scheme": "fooocus", "prompt": "a ball"})


@pytest.mark.parametrize(
    ("data", "tool"),
    [
        (png_with({"prompt": "{}", "workflow": "{}"}), "ComfyUI"),
        (png_with({"workflow": "{" + " " * 3_000_000 + "}"}), "ComfyUI"),
        (webp_with(tiff({}, {MODEL: b'prompt:{"1": {}}', MAKE: b"workflow:{}"})), "ComfyUI"),
        (png_with({"invokeai_metadata": "{}"}), "InvokeAI"),
        (png_with({"parameters": SWARM}), "SwarmUI"),
        (jpeg_with(tiff({USER_COMMENT: UNICODE + SWARM.encode("utf-16-be")})), "SwarmUI"),
        (png_with({"parameters": '{"prompt": ""}', "fooocus_scheme": "fooocus"}), "Fooocus"),
        (png_with({"fooocus_scheme": "fooocus", "parameters": FOOOCUS}), "Fooocus"),
        (jpeg_with(tiff({USER_COMMENT: FOOOCUS.encode(), MAKER_NOTE: b"fooocus"})), "Fooocus"),
    ],
)
def test_pictures_of_tools_that_are_not_read_yet(data: bytes, tool: str) -> None:
    with pytest.raises(NotFoundError) as error:
        recover(data)
    assert error.value.message == (
        f"This picture was made by {tool}, whose recipes are not read yet."
    )


@pytest.mark.parametrize(
    "data",
    [
        png_with({"parameters": INFOTEXT, "fooocus_scheme": "a1111"}),
        png_with({"prompt": "{}", "workflow": "{}", "parameters": INFOTEXT}),
        jpeg_with(tiff({USER_COMMENT: INFOTEXT.encode(), MAKER_NOTE: b"a1111"})),
    ],
)
def test_infotext_is_read_whoever_wrote_it(data: bytes) -> None:
    assert parse_request(recover(data).request) == REQUEST


def test_a_prompt_in_braces_is_no_json() -> None:
    found = recover(png_with({"parameters": "{red|blue} ball\nSteps: 3, Seed: 1, Size: 64x64"}))
    assert found.request["prompt"] == "{red|blue} ball"


OURS = png_with({KEY: recipe(), "parameters": INFOTEXT})


def test_what_stands_before_the_break_is_not_lost() -> None:
    assert parse_request(recover(OURS[:-100]).request) == REQUEST
    found = recover(png_with({"parameters": INFOTEXT})[:-12])
    assert parse_request(found.request) == REQUEST
    assert found.report == ("The picture's text cannot be read: it is cut off.",)


def test_a_damaged_text_does_not_spoil_the_other() -> None:
    found = recover(OURS.replace(b'"schema": 1', b'"schema": 9'))
    assert parse_request(found.request) == REQUEST
    assert found.source == "a1111"
    assert found.report == ("The picture's text cannot be read: a text in it is damaged.",)


BOMB = zlib.compress(b"a" * 90_000_000, 1)
SIZE = struct.pack(">II5B", 30_000, 30_000, 1, 0, 0, 0, 0)
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "The file is empty"),
        (b"GIF89a" + b"\0" * 50, "no picture of the kinds"),
        (SVG, "no picture of the kinds"),
        (b"RIFF\0\0\0\0WAVE", "no picture of the kinds"),
        (PNG[:8], "cut off"),
        (PNG[:60], "cut off"),
        (PNG[:8] + chunk(b"IHDR", struct.pack(">II5B", 0, 0, 8, 2, 0, 0, 0)), "no pixels"),
        (PNG[:33] + chunk(b"zTXt", b"parameters\0\0" + BOMB) + PNG[33:], "longer than"),
        (PNG[:33] + chunk(b"iTXt", b"easel\0\1\0\0\0" + BOMB) + PNG[33:], "longer than"),
        (OURS.replace(b"Steps", b"steps").replace(b"schema", b"schemb"), "damaged"),
        (jpeg_with(b"MM\0\x2a\xff\xff\xff\xff"), "EXIF data are damaged"),
        (jpeg_with(tiff({USER_COMMENT: INFOTEXT.encode()}))[:60], "cut off"),
        (webp_with(tiff({USER_COMMENT: INFOTEXT.encode()}))[:-9], "cut off"),
    ],
)
def test_bad_files_are_refused_in_one_sentence(data: bytes, says: str) -> None:
    with pytest.raises(BrokenFileError, match=says) as error:
        recover(data)
    assert error.value.message.count(". ") == 0
    assert len(error.value.message) < 150


def test_a_text_that_is_too_long_for_infotext_is_refused() -> None:
    comment = UNICODE + ("a" * 1_100_000).encode("utf-16-be")
    with pytest.raises(BadRequestError, match="longer than"):
        recover(webp_with(tiff({USER_COMMENT: comment})))


class Counted(io.FileIO):
    """A file that counts the bytes that are read of it."""

    count = 0

    def readinto(self, buffer: Any, /) -> int:
        read = super().readinto(buffer)
        self.count += read
        return read


def spent(file: Path, read: Callable[[io.BufferedReader], object]) -> tuple[int, int]:
    """Bytes that were read, and bytes of memory at the peak."""
    tracemalloc.start()
    try:
        with Counted(file) as raw:
            read(io.BufferedReader(raw))
            return raw.count, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("keyword", [b"parameters", b"easel", b"other"])
def test_of_90_mb_of_text_next_to_nothing_is_read(tmp_path: Path, keyword: bytes) -> None:
    file = tmp_path / "large.png"
    with file.open("wb") as large:
        large.write(PNG[:33] + struct.pack(">I4s", 90_000_000, b"zTXt") + keyword + b"\0\0")
        large.seek(33 + 8 + 90_000_000)
        large.write(b"\0\0\0\0" + PNG[33:])

    def refused(opened: io.BufferedReader) -> None:
        with pytest.raises(BadRequestError, match="no recipe" if keyword == b"other" else "longer"):
            recover(opened)

    count, peak = spent(file, refused)
    assert count < 100_000
    assert peak < 8_000_000


def test_a_picture_of_900_megapixels_is_not_decoded(tmp_path: Path) -> None:
    file = tmp_path / "wide.png"
    head = insert_text(PNG[:8] + chunk(b"IHDR", SIZE), {KEY: recipe()})
    file.write_bytes(head + chunk(b"IDAT", zlib.compress(bytes(30_000_000), 1)) + PNG[-12:])

    def read(opened: io.BufferedReader) -> None:
        found = recover(opened)
        assert (found.width, found.height) == (30_000, 30_000)
        assert parse_request(found.request) == REQUEST

    count, peak = spent(file, read)
    assert count < min(100_000, file.stat().st_size)
    assert peak < 8_000_000


def test_our_own_picture_is_read_with_little_work() -> None:
    recover(OURS)
    assert lines_run(lambda: recover(OURS)) < 700


@given(st.binary(max_size=60), st.integers(0, 300))
def test_any_file_is_read_or_refused(data: bytes, at: int) -> None:
    jpeg = jpeg_with(tiff({USER_COMMENT: INFOTEXT.encode()}))
    for good in (OURS, jpeg):
        try:
            found = recover(good[:at] + data + good[at + len(data) :])
        except BadRequestError:
            continue
        assert parse_request(found.request)


def test_of_two_texts_of_one_name_the_first_counts() -> None:
    second = png_with({"parameters": "another"})
    found = recover(insert_text(second, {"parameters": INFOTEXT}))
    assert parse_request(found.request) == REQUEST
