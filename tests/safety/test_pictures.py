from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from tests.safety.stubs import CallStub, ScoreStub, picture_bytes
from webui.clearance import Region
from webui.errors import BrokenFileError
from webui.safety.classifiers import Classifiers, PictureScores, Viewed
from webui.safety.detector import LABELS, SIDE, Views
from webui.safety.pictures import (
    FINE,
    MAX_SIDE,
    MOSAIC,
    all_views,
    decode,
    encode_jpeg,
    mosaic,
    views_with,
    whole_view,
    worst_scores,
)

NONE = Classifiers()


def saved(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return buffer.getvalue()


def rgb(width: int, height: int, colour: tuple[int, int, int] = (90, 150, 80)) -> Image.Image:
    return Image.new("RGB", (width, height), colour)


def test_the_pixels_are_those_of_the_bytes() -> None:
    pixels = decode(saved(rgb(20, 10)))
    assert pixels.shape == (10, 20, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == (90, 150, 80)).all()
    assert decode(saved(rgb(20, 10), "JPEG")).shape == (10, 20, 3)
    assert decode(saved(Image.new("L", (20, 10), 7))).tolist() == [[[7] * 3] * 20] * 10


def rotated_by_tag() -> bytes:
    tags = Image.Exif()
    tags[0x0112] = 6
    return saved(rgb(20, 10), "JPEG", exif=tags)


def with_gamma(picture: Image.Image) -> bytes:
    """Viewers that heed it show a much darker picture."""
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"gAMA", (1_000_000).to_bytes(4, "big"))
    return saved(picture, pnginfo=chunks)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no picture",
        picture_bytes()[:-40],
        picture_bytes(kind="JPEG")[: len(picture_bytes(kind="JPEG")) // 2],
        saved(rgb(20, 10), "GIF"),
        saved(rgb(20, 10), "BMP"),
        saved(Image.new("RGBA", (20, 10))),
        saved(Image.new("LA", (20, 10))),
        saved(rgb(20, 10).convert("P")),
        saved(Image.new("I;16", (20, 10))),
        saved(rgb(20, 10), transparency=(90, 150, 80)),
        saved(rgb(20, 10), save_all=True, append_images=[rgb(20, 10, (0, 0, 0))]),
        rotated_by_tag(),
        saved(rgb(MAX_SIDE + 1, 1)),
        saved(rgb(20, 10), icc_profile=b"any"),
        with_gamma(rgb(20, 10)),
    ],
    ids=[
        "empty", "text", "cut PNG", "cut JPEG", "GIF", "BMP", "alpha", "grey alpha", "palette",
        "16 bits", "transparent colour", "animated", "rotated by a tag", "too large",
        "colour profile", "gamma",
    ],
)  # fmt: skip
def test_what_could_show_more_than_its_pixels_is_not_read(data: bytes) -> None:
    with pytest.raises(BrokenFileError):
        decode(data)


def half_and_half(width: int, height: int) -> NDArray[np.uint8]:
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2] = (200, 100, 0)
    return picture


def test_a_small_picture_has_four_views() -> None:
    whole, turned, inverted, swapped = all_views(half_and_half(256, 256)).squares()
    assert whole[10, 10].tolist() == [200, 100, 0]
    assert turned[10, 10].tolist() == [0, 0, 0]
    assert turned[-10, -10].tolist() == [200, 100, 0]
    assert inverted[10, 10].tolist() == [55, 155, 255]
    assert swapped[10, 10].tolist() == [0, 100, 200]


def test_the_turned_view_of_a_wide_picture_keeps_its_content_at_the_top() -> None:
    _, turned, inverted, _ = all_views(half_and_half(640, 320)).squares()
    assert turned[SIDE // 2 - 5, 10].tolist() == [200, 100, 0]
    assert not turned[SIDE // 2 :].any()
    assert not inverted[SIDE // 2 :].any()


@pytest.mark.parametrize(
    ("width", "height"), [(641, 64), (1024, 1024), (2048, 64), (704, 1408), (2048, 2048), (1, 900)]
)
def test_every_pixel_of_a_large_picture_is_in_a_tile_at_half_size_or_more(
    width: int, height: int
) -> None:
    cell = 8
    y, x = np.mgrid[0:height, 0:width] // cell
    picture = np.stack([x, y, np.full_like(x, 255)], axis=-1).astype(np.uint8)
    tiles = all_views(picture).squares()[4:]
    cells = tiles[tiles[..., 2] == 255][:, :2]
    seen = np.zeros((y.max() + 1, x.max() + 1), int)
    np.add.at(seen, (cells[:, 1], cells[:, 0]), 1)
    full = seen[: max(1, height // cell), : max(1, width // cell)]
    assert (full >= min(cell, width) * min(cell, height) / 5).all()
    assert (seen > 0).all()


def test_no_pixel_is_skipped_when_a_picture_is_reduced() -> None:
    picture = np.zeros((640, 640, 3), np.uint8)
    picture[::2, ::2] = 255
    assert 50 < whole_view(picture).squares().mean() < 80
    picture = np.roll(picture, 1, axis=(0, 1))
    assert 50 < whole_view(picture).squares().mean() < 80


def test_the_whole_view_is_the_first_of_all() -> None:
    picture = half_and_half(300, 200)
    assert (whole_view(picture).squares()[0] == all_views(picture).squares()[0]).all()
    assert whole_view(picture).squares().shape == (1, SIDE, SIDE, 3)


def test_the_worst_view_counts() -> None:
    def last_view_only(views: Views) -> NDArray[np.float32]:
        scores = np.zeros((len(views), len(LABELS)), np.float32)
        scores[-1, LABELS.index("MALE_GENITALIA_EXPOSED")] = 0.5
        scores[0, LABELS.index("BUTTOCKS_EXPOSED")] = 0.25
        scores[1, LABELS.index("ANUS_EXPOSED")] = 0.125
        scores[:, LABELS.index("FACE_FEMALE")] = 0.9
        return scores

    scores = worst_scores(CallStub(last_view_only), NONE, all_views(half_and_half(64, 64)))
    assert (scores.genitalia, scores.bust_or_buttocks, scores.anus) == (0.5, 0.25, 0.125)


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        ("FEMALE_GENITALIA_EXPOSED", "genitalia"),
        ("MALE_GENITALIA_EXPOSED", "genitalia"),
        ("ANUS_EXPOSED", "anus"),
        ("FEMALE_BREAST_EXPOSED", "bust_or_buttocks"),
        ("BUTTOCKS_EXPOSED", "bust_or_buttocks"),
    ],
)
@pytest.mark.parametrize(
    ("score", "counts_as"), [(0.5, 0.5), (float("nan"), 1.0), (-0.1, 1.0), (1.5, 1.0)]
)
def test_each_label_counts_and_an_impossible_score_is_one(
    label: str, kind: str, score: float, counts_as: float
) -> None:
    scores = worst_scores(ScoreStub(**{label: score}), NONE, whole_view(half_and_half(64, 64)))
    values = {name: getattr(scores, name) for name in ("genitalia", "anus", "bust_or_buttocks")}
    assert values == dict.fromkeys(values, 0.0) | {kind: counts_as}


@pytest.mark.parametrize("shape", [(0, 18), (3, 18), (4, 17), (4, 18, 1), (18,), ()])
def test_missing_scores_count_as_one(shape: tuple[int, ...]) -> None:
    stub = CallStub(lambda views: np.zeros(shape, np.float32))
    scores = worst_scores(stub, NONE, all_views(half_and_half(64, 64)))
    assert (scores.genitalia, scores.anus, scores.bust_or_buttocks) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(("width", "height"), [(64, 48), (96, 96), (5, 3), (320, 40)])
def test_a_mosaic_has_at_most_144_colours_and_the_size_of_the_picture(
    width: int, height: int
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    coarse = mosaic(noise)
    assert coarse.shape == noise.shape
    assert len({tuple(colour) for colour in coarse.reshape(-1, 3).tolist()}) <= MOSAIC**2


def test_a_jpeg_shows_the_picture() -> None:
    picture = half_and_half(64, 64)
    again = decode(encode_jpeg(picture))
    assert np.abs(again.astype(int) - picture).mean() < 5


@pytest.mark.parametrize(
    ("region", "size", "seen"),
    [
        (Region(100, 100, 300, 200), (512, 512), (200, 160)),
        (Region(200, 200, 210, 210), (512, 512), (160, 160)),
        (Region(500, 0, 512, 8), (512, 512), (160, 160)),
        (Region(0, 0, 512, 512), (512, 512), (512, 512)),
        (Region(-50, -50, 9000, 9000), (512, 256), (512, 256)),
        (Region(10, 10, 12, 12), (40, 512), (40, 160)),
        (Region(90, 90, 10, 10), (512, 512), (160, 160)),
    ],
)
def test_a_region_is_seen_whole_and_large_enough(
    region: Region, size: tuple[int, int], seen: tuple[int, int]
) -> None:
    pixels = np.asarray(rgb(*size)).copy()
    whole, views = all_views(pixels).squares(), views_with(region)(pixels).squares()
    assert len(views) == len(whole) + 4
    assert (views[: len(whole)] == whole).all()
    shown = views[len(whole)].any(axis=2)
    height, width = shown.any(axis=1).sum(), shown.any(axis=0).sum()
    assert max(width, height) == SIDE
    assert width / height == pytest.approx(seen[0] / seen[1], abs=0.02)


def test_a_small_region_is_inside_what_is_seen() -> None:
    pixels = np.zeros((512, 512, 3), np.uint8)
    pixels[3:9, 500:511] = 255
    view = views_with(Region(500, 3, 511, 9))(pixels).squares()[-4]
    assert (view > 250).all(axis=2).sum() == pytest.approx(11 * 6 * (SIDE / 160) ** 2, rel=0.3)


def test_classifiers_see_every_view_in_its_shape_and_no_larger_than_they_read() -> None:
    pixels = np.asarray(rgb(1024, 768)).copy()
    views = views_with(Region(0, 0, 200, 100))(pixels)
    pieces = views.pieces()
    assert len(pieces) == len(views.squares())
    assert {max(piece.shape) for piece in pieces} == {FINE, 200}
    whole, turned, inverted, swapped = (piece[0, 0].tolist() for piece in pieces[:4])
    assert (whole, turned) == ([90, 150, 80], [90, 150, 80])
    assert (inverted, swapped) == ([165, 105, 175], [80, 150, 90])
    assert pieces[0].shape == (384, 512, 3)


def test_portraits_are_the_natural_views_and_the_faces_in_them() -> None:
    pixels = np.zeros((1280, 640, 3), np.uint8)
    pixels[400:480, 200:280] = 255

    def find(squares: Views) -> list[list[Region]]:
        # The whole picture is seen at a quarter, so the white square lies here.
        return [[Region(50, 100, 70, 120)], *([] for _ in squares[1:])]

    views = all_views(pixels)
    portraits = views.portraits(find)
    tiles = len(views.parts) - 1
    assert len(portraits) == 2 + tiles + 1
    assert portraits[-1].shape == (120, 120, 3)
    assert portraits[-1].mean() == pytest.approx(255 * (80 / 120) ** 2)


@pytest.mark.parametrize(
    "region", [Region(-20, -20, 30, 30), Region(300, 300, 400, 400), Region(-9, -9, -5, -5)]
)
def test_a_face_at_or_past_the_border_still_is_a_picture(region: Region) -> None:
    portraits = whole_view(np.asarray(rgb(100, 50))).portraits(lambda squares: [[region]])
    assert portraits[-1].size > 0


def test_what_the_classifiers_saw_is_part_of_the_scores() -> None:
    class Sees(Classifiers):
        def see(self, views: Viewed) -> PictureScores:
            assert len(views.pieces()) == 4
            return PictureScores(explicit=0.1, nudity=0.2, suggestive=0.3, young=0.4)

    scores = worst_scores(ScoreStub(), Sees(), all_views(half_and_half(64, 64)))
    assert (scores.explicit, scores.nudity) == (0.1, 0.2)
    assert (scores.suggestive, scores.young) == (0.3, 0.4)
