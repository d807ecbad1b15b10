from __future__ import annotations

import hashlib
import io
import os
import struct
import time
import zlib
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile

from webui.errors import BrokenFileError, NotFoundError
from webui.library.uploads import MAX_FILE_BYTES, MAX_PIXELS, Kind, Uploads
from webui.request import MAX_SIDE

RED, BLUE, WHITE = (220, 30, 40), (20, 40, 210), (255, 255, 255)


@pytest.fixture
def shelf(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path / "uploads")


def halves(mode: str = "RGB", size: tuple[int, int] = (32, 16)) -> Image.Image:
    """Red on the left, blue on the right."""
    picture = Image.new("RGB", size, RED)
    picture.paste(BLUE, (size[0] // 2, 0, *size))
    return picture.quantize(8) if mode == "P" else picture.convert(mode)


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def taken(shelf: Uploads, data: bytes, kind: Kind = "picture") -> NDArray[np.int16]:
    upload = shelf.take(data, kind=kind)
    with Image.open(io.BytesIO(shelf.read(upload.id))) as picture:
        assert picture.mode == ("L" if kind == "mask" else "RGB")
        assert picture.size == (upload.width, upload.height)
        assert picture.info == {}
        return np.asarray(picture).astype(np.int16)


def near(pixel: NDArray[np.int16], colour: tuple[int, ...], within: int = 3) -> bool:
    return bool((np.abs(pixel - np.array(colour)) <= within).all())


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of_16_bits(pixels: NDArray[np.uint16], colour_type: int) -> bytes:
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
def test_every_format_comes_out_right(shelf: Uploads, kind: str) -> None:
    pixels = taken(shelf, encoded(halves(), kind, **({"quality": 95} if kind != "PNG" else {})))
    assert near(pixels[8, 4], RED, 8)
    assert near(pixels[8, 28], BLUE, 8)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        *(("RGB", "PNG"), ("RGBA", "PNG"), ("P", "PNG"), ("YCbCr", "JPEG"), ("CMYK", "JPEG")),
        *(("RGB", "TIFF"), ("RGBA", "TIFF"), ("P", "TIFF"), ("CMYK", "TIFF"), ("P", "BMP")),
    ],
)
def test_every_colour_mode_comes_out_right(shelf: Uploads, mode: str, kind: str) -> None:
    pixels = taken(shelf, encoded(halves(mode), kind))
    assert near(pixels[8, 4], RED, 10)
    assert near(pixels[8, 28], BLUE, 10)


def test_black_and_white_comes_out_right(shelf: Uploads) -> None:
    picture = Image.new("1", (16, 16), 0)
    picture.paste(1, (8, 0, 16, 16))
    pixels = taken(shelf, encoded(picture))
    assert near(pixels[8, 2], (0, 0, 0))
    assert near(pixels[8, 12], WHITE)


def test_grey_of_16_bits_keeps_its_brightness(shelf: Uploads) -> None:
    ramp = np.linspace(0, 65_535, 64).astype(np.uint16)
    picture = np.tile(ramp, (8, 1))
    for data in (png_of_16_bits(picture, 0), encoded(Image.fromarray(picture), "TIFF")):
        pixels = taken(shelf, data)
        assert (np.abs(pixels[4, :, 0] - np.linspace(0, 255, 64)) <= 1).all()


def test_colour_of_16_bits_keeps_its_brightness(shelf: Uploads) -> None:
    picture = np.zeros((8, 8, 3), np.uint16)
    picture[:] = [value * 257 for value in RED]
    assert near(taken(shelf, png_of_16_bits(picture, 2))[4, 4], RED)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_what_is_transparent_lies_on_white(shelf: Uploads, kind: str) -> None:
    picture = halves("RGBA")
    picture.putalpha(Image.linear_gradient("L").rotate(90).resize(picture.size))
    clear = Image.new("RGBA", (8, 8), (*RED, 0))
    picture.paste(clear, (0, 0))
    options = {"lossless": True} if kind == "WEBP" else {}
    assert near(taken(shelf, encoded(picture, kind, **options))[4, 4], WHITE)


def test_a_transparent_colour_of_a_palette_lies_on_white(shelf: Uploads) -> None:
    picture = halves("P")
    red = picture.getpixel((2, 2))
    pixels = taken(shelf, encoded(picture, transparency=red))
    assert near(pixels[8, 4], WHITE)
    assert near(pixels[8, 28], BLUE)


@pytest.mark.parametrize(
    ("orientation", "red_at"), [(1, "left"), (3, "right"), (6, "top"), (8, "bottom")]
)
def test_the_camera_s_rotation_is_applied(shelf: Uploads, orientation: int, red_at: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = taken(shelf, encoded(halves(), "JPEG", quality=95, exif=exif))
    height, width = pixels.shape[:2]
    assert (width, height) == ((32, 16) if orientation in (1, 3) else (16, 32))
    spots = {
        "left": (height // 2, 2),
        "right": (height // 2, width - 3),
        "top": (2, width // 2),
        "bottom": (height - 3, width // 2),
    }
    assert near(pixels[spots[red_at]], RED, 10)


def test_a_colour_profile_is_turned_into_srgb(shelf: Uploads) -> None:
    srgb = ImageCms.ImageCmsProfile(cast(Any, ImageCms).createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"----").replace(b"bXYZ", b"rXYZ").replace(b"----", b"bXYZ")
    assert near(taken(shelf, encoded(halves(), icc_profile=srgb))[8, 4], RED)
    assert near(taken(shelf, encoded(halves(), icc_profile=swapped))[8, 4], RED[::-1])
    assert near(taken(shelf, encoded(halves(), icc_profile=b"no profile"))[8, 4], RED)


def test_a_mask_is_its_brightness_or_its_transparency(shelf: Uploads) -> None:
    bright = Image.new("RGB", (16, 16), "black")
    bright.paste("white", (8, 0, 16, 16))
    assert taken(shelf, encoded(bright), "mask")[8, [2, 12]].tolist() == [0, 255]
    painted = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    painted.paste((0, 0, 0, 255), (8, 0, 16, 16))
    assert taken(shelf, encoded(painted), "mask")[8, [2, 12]].tolist() == [0, 255]
    opaque = bright.convert("RGBA")
    assert taken(shelf, encoded(opaque), "mask")[8, [2, 12]].tolist() == [0, 255]


def test_the_same_picture_has_the_same_id_and_its_file_names_it_too(shelf: Uploads) -> None:
    data = encoded(halves(), "BMP")
    first, second = shelf.take(data), shelf.take(encoded(halves(), "TIFF"))
    assert first == second
    assert first.id == hashlib.sha256(first.path.read_bytes()).hexdigest()
    assert shelf.find(hashlib.sha256(data).hexdigest()) == first
    assert shelf.take(first.path.read_bytes()) == first


def test_a_very_large_picture_is_shrunk_to_the_largest_that_can_be_made(shelf: Uploads) -> None:
    upload = shelf.take(encoded(halves(size=(5000, 2500)), "JPEG"))
    assert (upload.width, upload.height) == (MAX_SIDE, MAX_SIDE // 2)


def test_a_phones_file_of_several_pictures_gives_the_first(shelf: Uploads) -> None:
    data = encoded(halves(), "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    assert near(taken(shelf, data)[8, 4], RED, 10)


def animated(kind: str) -> bytes:
    more = [Image.new("RGB", (32, 16), colour) for colour in ("green", "grey")]
    return encoded(halves(), kind, save_all=True, append_images=more)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "no picture that can be read"),
        (b"a text", "no picture that can be read"),
        (encoded(halves(), "GIF"), "no picture that can be read"),
        (encoded(halves(), "PPM"), "no picture that can be read"),
        (b"x" * (MAX_FILE_BYTES + 1), "larger than 25 MB"),
        (encoded(halves(size=(200, 200)), "JPEG")[:-300], "damaged"),
        (encoded(halves(size=(200, 200)))[:200], "damaged"),
        (encoded(Image.new("1", (10_000, MAX_PIXELS // 10_000 + 1))), "more than 40 megapixels"),
        (encoded(Image.new("1", (20_000, 20_000))), "more than 40 megapixels"),
        (encoded(Image.new("F", (8, 8)), "TIFF"), "kind that is not read"),
        (encoded(Image.new("LAB", (8, 8)), "TIFF"), "kind that is not read"),
        (animated("WEBP"), "animated or has several pages"),
        (animated("PNG"), "animated or has several pages"),
        (animated("TIFF"), "animated or has several pages"),
    ],
)
def test_what_is_not_taken_is_said_in_one_sentence(
    shelf: Uploads, tmp_path: Path, data: bytes, sentence: str
) -> None:
    with pytest.raises(BrokenFileError, match=sentence) as caught:
        shelf.take(data)
    assert caught.value.message.count("\n") == 0
    assert list(tmp_path.rglob("*.png")) == []


def test_a_large_picture_is_refused_before_it_is_decoded(
    shelf: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The second is one that Pillow itself does not open.
    large = [encoded(Image.new("1", (side, side))) for side in (7_000, 14_000)]
    decoded: list[tuple[int, int]] = []
    true = ImageFile.ImageFile.load

    def load(self: ImageFile.ImageFile) -> Any:
        decoded.append(self.size)
        return true(self)

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    for data in large:
        with pytest.raises(BrokenFileError, match="megapixels"):
            shelf.take(data)
    assert decoded == []
    shelf.take(solid(7))
    assert set(decoded) == {(16, 16)}


@pytest.mark.parametrize("name", ["", "../secret", "/etc/hostname", "0" * 63, "A" * 64, "0" * 64])
def test_only_an_id_finds_a_picture(shelf: Uploads, name: str) -> None:
    with pytest.raises(NotFoundError):
        shelf.read(name)


def test_a_file_that_was_changed_is_not_given_out(shelf: Uploads) -> None:
    upload = shelf.take(encoded(halves()))
    upload.path.write_bytes(encoded(Image.new("RGB", (32, 16))))
    with pytest.raises(NotFoundError):
        shelf.read(upload.id)


def solid(shade: int) -> bytes:
    return encoded(Image.new("RGB", (16, 16), (shade, shade, shade)))


def aged(shelf: Uploads, shade: int, seconds: float) -> str:
    upload = shelf.take(solid(shade))
    then = time.time() - seconds
    for path in upload.path.parent.iterdir():
        if path.stem == upload.id:
            os.utime(path, (then, then))
    return upload.id


def kept(shelf: Uploads, name: str) -> bool:
    try:
        shelf.find(name)
    except NotFoundError:
        return False
    return True


def test_old_pictures_go_but_those_in_use_stay(tmp_path: Path) -> None:
    used: set[str] = set()
    shelf = Uploads(tmp_path, in_use=lambda: used, max_age=3600)
    old, waiting, young = aged(shelf, 1, 7200), aged(shelf, 2, 1), aged(shelf, 3, 60)
    os.utime(tmp_path / f"{waiting}.png", (0, 0))
    used.add(waiting)
    shelf.take(solid(4))
    assert [kept(shelf, name) for name in (old, waiting, young)] == [False, True, True]


def test_the_folder_stays_within_its_bound(tmp_path: Path) -> None:
    size = len(Uploads(tmp_path / "x").take(solid(0)).path.read_bytes())
    shelf = Uploads(tmp_path / "y", max_bytes=3 * (size + 64))
    names = [aged(shelf, shade, 100 - shade) for shade in range(6)]
    assert not kept(shelf, names[0])
    assert kept(shelf, names[-1])
    total = sum(path.stat().st_size for path in (tmp_path / "y").iterdir())
    assert total <= 3 * (size + 64)


def test_using_a_picture_keeps_it_young(tmp_path: Path) -> None:
    shelf = Uploads(tmp_path, max_age=3600)
    name = aged(shelf, 1, 7200)
    shelf.read(name)
    shelf.take(solid(2))
    assert kept(shelf, name)


def test_what_a_killed_process_was_writing_goes_too(tmp_path: Path) -> None:
    shelf = Uploads(tmp_path, max_age=3600)
    leftover = tmp_path / ".writing-abc"
    leftover.write_bytes(b"half")
    os.utime(leftover, (0, 0))
    shelf.take(solid(1))
    assert not leftover.exists()
