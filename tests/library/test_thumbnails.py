from __future__ import annotations

import io
import os
import struct
import threading
import zlib
from pathlib import Path

import pytest
from PIL import Image

from tests.library.pictures import write_picture
from webui.errors import BrokenFileError, StorageError
from webui.library import thumbnails as module
from webui.library.thumbnails import SIDE, Thumbnails


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=["WEBP"])


def header_only(path: Path, width: int, height: int) -> Path:
    """A PNG file that promises a lot: a header and the beginning of some pixels."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(100_000))),
        (b"IEND", b""),
    ]
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )
    )
    return path


@pytest.mark.parametrize(
    ("size", "small"),
    [
        ((640, 480), (320, 240)),
        ((480, 960), (160, 320)),
        ((64, 48), (64, 48)),
        ((5000, 2), (320, 1)),
    ],
)
def test_a_thumbnail_is_a_webp_of_at_most_320_pixels(
    tmp_path: Path, size: tuple[int, int], small: tuple[int, int]
):
    source = write_picture(tmp_path / "a.png", size=size)
    with opened(Thumbnails(tmp_path / "t").get("a", source)) as picture:
        assert picture.size == small
        assert max(picture.size) <= SIDE
        red, green, blue = picture.convert("RGB").resize((1, 1)).getpixel((0, 0))  # pyright: ignore[reportGeneralTypeIssues, reportUnknownVariableType]
        assert all(abs(channel - 120) < 4 for channel in (red, green, blue))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"])
@pytest.mark.parametrize("large", [False, True])
def test_every_kind_of_pixel(
    tmp_path: Path, mode: str, large: bool, monkeypatch: pytest.MonkeyPatch
):
    if large:
        monkeypatch.setattr(module, "_LARGE_PIXELS", 1000)
    grey = Image.new("L", (2000, 1000), 200)
    if mode == "I;16":
        picture = Image.new("I;16", grey.size, 200 * 256)
    elif mode == "1":
        picture = Image.new("1", grey.size, 1)
    else:
        picture = grey.convert("RGB").convert(mode)
    if "A" in mode:
        picture.putalpha(100)
    kind = "JPEG" if mode == "CMYK" else "PNG"
    source = tmp_path / f"a.{kind.lower()}"
    picture.save(source, kind)
    with opened(Thumbnails(tmp_path / "t").get("a", source)) as small:
        assert small.size == (320, 160)
        assert small.has_transparency_data == ("A" in mode)
        expected = 255 if mode == "1" else 200
        assert abs(small.convert("L").resize((1, 1)).tobytes()[0] - expected) <= 4


def test_it_lies_as_the_camera_held_it_and_keeps_no_data(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "words"
    Image.new("RGB", (400, 200)).save(tmp_path / "a.jpg", exif=exif)
    data = Thumbnails(tmp_path / "t").get("a", tmp_path / "a.jpg")
    with opened(data) as picture:
        assert picture.size == (160, 320)
    assert b"words" not in data
    assert b"EXIF" not in data


def test_it_is_made_once_though_many_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = write_picture(tmp_path / "a.png", size=(400, 400))
    made: list[Path] = []
    make = Thumbnails._make  # pyright: ignore[reportPrivateUsage]

    def counted(self: Thumbnails, path: Path) -> bytes:
        made.append(path)
        return make(self, path)

    monkeypatch.setattr(Thumbnails, "_make", counted)
    thumbnails = Thumbnails(tmp_path / "t")
    results: list[bytes] = []
    barrier = threading.Barrier(8)

    def ask() -> None:
        barrier.wait()
        results.append(thumbnails.get("a", source))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len(results) == 8
    assert len(set(results)) == 1
    Thumbnails(tmp_path / "t").get("a", source)
    assert len(made) == 1
    assert os.listdir(tmp_path / "t") == ["a.webp"]


@pytest.mark.parametrize("side", [6_400, 12_000, 30_000])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bomb_is_refused_by_its_header(
    tmp_path: Path, side: int, monkeypatch: pytest.MonkeyPatch
):
    def decoded(self: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded)
    source = header_only(tmp_path / "bomb.png", side, side)
    with pytest.raises(BrokenFileError, match=r"bomb\.png has too many pixels"):
        Thumbnails(tmp_path / "t").get("a", source)


def test_the_largest_allowed_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = write_picture(tmp_path / "a.png", size=(100, 50))
    monkeypatch.setattr(module, "MAX_BYTES", 100 * 50 * 4)
    assert Thumbnails(tmp_path / "t").get("a", source)
    monkeypatch.setattr(module, "MAX_BYTES", 100 * 50 * 4 - 1)
    with pytest.raises(BrokenFileError):
        Thumbnails(tmp_path / "t").get("b", source)


@pytest.mark.parametrize("kind", [b"zTXt", b"abCd", b"iCCP"])
@pytest.mark.parametrize("parts", [1, 100])
def test_what_pillow_would_keep_beside_the_pixels_is_bounded(
    tmp_path: Path, kind: bytes, parts: int
):
    source = write_picture(tmp_path / "a.png", size=(64, 48))
    plain = source.read_bytes()
    for size, fits in ((7 * 1024**2, True), (9 * 1024**2, False)):
        data = b"name\0\0" + bytes(size // parts)
        check = struct.pack(">I", zlib.crc32(kind + data))
        part = struct.pack(">I", len(data)) + kind + data + check
        source.write_bytes(plain[:33] + part * parts + plain[33:])
        if fits:
            assert Thumbnails(tmp_path / "t").get("a", source)
        else:
            with pytest.raises(BrokenFileError, match=r"a\.png holds too much to be shown small\."):
                Thumbnails(tmp_path / "t").get("b", source)


def test_a_large_file_of_another_format_is_refused_by_its_size(tmp_path: Path):
    source = tmp_path / "a.jpg"
    Image.new("RGB", (64, 48)).save(source)
    assert Thumbnails(tmp_path / "t").get("a", source)
    os.truncate(source, 65 * 1024**2)
    with pytest.raises(BrokenFileError, match=r"a\.jpg holds too much to be shown small\."):
        Thumbnails(tmp_path / "t").get("b", source)


def test_damaged_files_are_one_sentence(tmp_path: Path):
    whole = write_picture(tmp_path / "whole.png", size=(300, 300))
    Image.effect_noise((300, 300), 50).save(whole)
    data = whole.read_bytes()
    files = {
        "truncated.png": data[: len(data) // 2],
        "flipped.png": data[:2000] + b"\xff" * 500 + data[2500:],
        "empty.png": b"",
        "gif.png": b"GIF89a" + bytes(100),
        "svg.png": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "promises.png": header_only(tmp_path / "p.png", 500, 500).read_bytes(),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BrokenFileError, match=name.replace(".", r"\.")) as caught:
            Thumbnails(tmp_path / "t").get(name, tmp_path / name)
        assert caught.value.message.count(". ") == 0
    assert not (tmp_path / "t").exists()


def test_one_that_cannot_be_kept_is_shown_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(path: Path, data: bytes) -> None:
        raise StorageError("The disk is full.")

    monkeypatch.setattr(module, "write_atomically", full)
    source = write_picture(tmp_path / "a.png")
    assert Thumbnails(tmp_path / "t").get("a", source)


def test_a_folder_that_leads_elsewhere_is_neither_read_nor_written(tmp_path: Path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "a.webp").write_bytes(b"planted")
    (tmp_path / "t").symlink_to(elsewhere)
    thumbnails = Thumbnails(tmp_path / "t")
    assert thumbnails.get("a", write_picture(tmp_path / "a.png")) != b"planted"
    thumbnails.get("b", tmp_path / "a.png")
    thumbnails.tidy(set)
    assert os.listdir(elsewhere) == ["a.webp"]


def test_tidying_removes_all_but_the_named(tmp_path: Path):
    thumbnails = Thumbnails(tmp_path / "t")
    source = write_picture(tmp_path / "a.png")
    for name in "abc":
        thumbnails.get(name, source)
    (tmp_path / "t" / "notes.txt").write_text("not ours")
    thumbnails.tidy(lambda: {"b"})
    assert sorted(os.listdir(tmp_path / "t")) == ["b.webp", "notes.txt"]
