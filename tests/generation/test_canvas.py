from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.fakes import gradient
from webui.clearance import Region
from webui.errors import BadRequestError
from webui.generation.canvas import Brought, Canvas, lay_out
from webui.generation.fills import by_opencv, from_surroundings
from webui.request import GenerationRequest

TRAINED = 256
Map = NDArray[np.float32]


def ellipse(width: int, height: int, box: tuple[int, int, int, int]) -> Image.Image:
    """A white ellipse in a box of left, top, right and bottom."""
    picture = np.zeros((height, width), np.uint8)
    centre = (box[0] + box[2]) // 2, (box[1] + box[3]) // 2
    axes = (box[2] - box[0]) // 2, (box[3] - box[1]) // 2
    return Image.fromarray(np.asarray(cv2.ellipse(picture, centre, axes, 0, 0, 360, 255, -1)))


def laid_out(init: Image.Image, mask: Image.Image | None = None, **asked: Any) -> Canvas:
    brought = {"i": Brought("init hash", init)}
    if mask is not None:
        brought["m"] = Brought("mask hash", mask)
        asked["mask"] = "m"
    request = GenerationRequest.model_validate({"init": "i"} | asked)
    return lay_out(request, brought, TRAINED)


def noise(canvas: Canvas, seed: int = 0) -> NDArray[np.uint8]:
    shape = canvas.source.paint_height, canvas.source.paint_width, 3
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def size(canvas: Canvas) -> tuple[int, int]:
    assert canvas.picture.shape == (canvas.source.height, canvas.source.width, 3)
    return canvas.source.width, canvas.source.height


@pytest.mark.parametrize(
    ("given", "asked", "made"),
    [
        ((256, 320), {}, (256, 320)),
        ((501, 300), {}, (504, 304)),
        ((4000, 2000), {}, (2048, 1024)),
        ((256, 256), {"width": 512}, (512, 512)),
        ((300, 600), {"height": 304}, (152, 304)),
        ((300, 200), {"width": 128, "height": 256}, (128, 256)),
        ((256, 256), {"outpaint": (64, 0, 32, 8)}, (352, 264)),
        ((256, 256), {"outpaint": (64, 0, 64, 0), "width": 640, "height": 512}, (640, 512)),
        ((2048, 2048), {"outpaint": (0, 0, 512, 0)}, (2048, 1536)),
    ],
)
def test_the_picture_gets_its_size(
    given: tuple[int, int], asked: dict[str, Any], made: tuple[int, int]
) -> None:
    canvas = laid_out(gradient(*given, 3), **asked)
    assert size(canvas) == made
    fits = given == made or (given == (256, 256) and asked.get("outpaint") == (64, 0, 32, 8))
    assert bool(canvas.notices) != fits


def test_another_shape_is_cut_and_not_stretched() -> None:
    init = Image.new("RGB", (400, 200), "white")
    init.paste("black", (150, 50, 250, 150))
    black = laid_out(init, width=200, height=200).picture[..., 0] < 128
    assert black.any(axis=1).sum() == pytest.approx(100, abs=2)
    assert black.any(axis=0).sum() == pytest.approx(100, abs=2)


@pytest.mark.parametrize(
    ("given", "asked", "field"),
    [
        ((2048, 40), {}, "init"),
        ((256, 256), {"outpaint": (2048, 0, 0, 0)}, "outpaint"),
        ((256, 256), {"outpaint": (128, 0, 128, 0), "width": 256}, "outpaint"),
        ((30, 2000), {"width": 512}, "init"),
    ],
)
def test_a_size_that_does_not_fit_is_said(
    given: tuple[int, int], asked: dict[str, Any], field: str
) -> None:
    with pytest.raises(BadRequestError, match="must be at least 64") as caught:
        laid_out(gradient(*given, 1), **asked)
    assert caught.value.field == field


def test_a_mask_that_covers_nothing_or_another_shape_is_said() -> None:
    init = gradient(256, 256, 1)
    dark = Image.new("L", (256, 256), 100)
    for mask, asked in (
        (Image.new("L", (256, 256)), {}),
        (dark, {}),
        (ellipse(256, 256, (90, 90, 110, 110)), {"mask_grow": -20}),
    ):
        with pytest.raises(BadRequestError, match="mask is empty") as caught:
            laid_out(init, mask, **asked)
        assert caught.value.field == "mask"
    assert laid_out(init, dark, soft_mask=True).mask is not None
    with pytest.raises(BadRequestError, match="must have the same shape"):
        laid_out(init, Image.new("L", (256, 128), 255))
    assert laid_out(init, Image.new("L", (128, 128), 255)).mask is not None


CASES: list[tuple[tuple[int, int], tuple[int, int, int, int], dict[str, Any]]] = [
    ((256, 256), (60, 60, 180, 200), {}),
    ((256, 256), (60, 60, 180, 200), {"mask_blur": 0}),
    ((256, 256), (60, 60, 180, 200), {"mask_blur": 12}),
    ((256, 256), (60, 60, 180, 200), {"mask_blur": 64}),
    ((256, 256), (60, 60, 180, 200), {"mask_grow": 16}),
    ((256, 256), (60, 60, 180, 200), {"mask_grow": -16}),
    ((256, 256), (60, 60, 180, 200), {"inpaint_area": "masked"}),
    ((256, 256), (60, 60, 180, 200), {"inpaint_area": "masked", "inpaint_padding": 0}),
    ((512, 256), (400, 20, 500, 60), {"inpaint_area": "masked"}),
    ((512, 256), (0, 0, 512, 10), {"inpaint_area": "masked"}),
    ((256, 768), (10, 10, 40, 740), {"inpaint_area": "masked", "mask_blur": 9}),
    ((1024, 768), (10, 10, 900, 700), {"inpaint_area": "masked"}),
    ((300, 401), (10, 10, 90, 90), {}),
    ((300, 401), (10, 10, 90, 90), {"inpaint_area": "masked", "width": 512, "height": 512}),
    ((256, 256), (0, 0, 256, 256), {"mask_blur": 3}),
    ((256, 256), (250, 250, 256, 256), {"inpaint_area": "masked"}),
    ((256, 256), (60, 60, 180, 200), {"inpaint_fill": "blur"}),
    ((256, 256), (60, 60, 180, 200), {"inpaint_fill": "colour", "inpaint_area": "masked"}),
    ((256, 256), (60, 60, 180, 200), {"outpaint": (64, 0, 0, 32)}),
    ((256, 256), (60, 60, 180, 200), {"outpaint": (8, 16, 24, 0), "inpaint_area": "masked"}),
    ((256, 256), (60, 60, 180, 200), {"soft_mask": True}),
    ((256, 256), (60, 60, 180, 200), {"soft_mask": True, "inpaint_area": "masked"}),
]


@pytest.mark.parametrize(("given", "box", "asked"), CASES)
def test_outside_the_mask_every_pixel_stays_exactly_as_it_was(
    given: tuple[int, int], box: tuple[int, int, int, int], asked: dict[str, Any]
) -> None:
    canvas = laid_out(gradient(*given, 5), ellipse(*given, box), **asked)
    before = canvas.picture.copy()
    after = canvas.finished(noise(canvas))
    assert canvas.mask is not None
    near = int(2.5 * asked.get("mask_blur", 4) + 0.5)
    side = 2 * near + 1
    disk = np.ones((side, side), np.uint8)
    reached = np.asarray(cv2.dilate((canvas.mask > 0).astype(np.uint8), disk)) > 0
    assert (after[~reached] == before[~reached]).all()
    assert (canvas.picture == before).all()
    inside = np.asarray(cv2.erode((canvas.mask >= 1).astype(np.uint8), disk)) > 0
    if inside.any():
        assert (after[inside] != before[inside]).mean() > 0.9
    changed = canvas.changed
    assert changed is not None
    outside = np.ones(before.shape[:2], bool)
    outside[changed.top : changed.bottom, changed.left : changed.right] = False
    assert (after[outside] == before[outside]).all()


def test_the_init_itself_is_what_stays_where_it_fits() -> None:
    init = gradient(256, 320, 5)
    pixels = np.asarray(init)
    plain = laid_out(init, ellipse(256, 320, (60, 60, 90, 90)))
    assert (plain.picture == pixels).all()
    grown = laid_out(init, outpaint=(16, 8, 24, 32))
    assert (grown.picture[8:328, 16:272] == pixels).all()
    after = grown.finished(noise(grown))
    assert (after[18 + 8 : -32 - 10, 26 + 16 : -24 - 10] == pixels[18:-10, 26:-10]).all()


def test_without_a_mask_all_is_painted_anew() -> None:
    canvas = laid_out(gradient(256, 256, 5))
    assert canvas.mask is None
    assert canvas.changed is None
    painted = noise(canvas)
    assert (canvas.finished(painted) == painted).all()


@pytest.mark.parametrize(
    ("given", "box"),
    [
        ((1024, 1024), (500, 500, 560, 560)),
        ((1024, 1024), (0, 0, 40, 400)),
        ((512, 512), (480, 20, 512, 500)),
        ((2048, 512), (100, 100, 1900, 140)),
    ],
)
def test_an_area_holds_the_mask_with_padding_at_the_trained_size(
    given: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    mask = ellipse(*given, box)
    canvas = laid_out(gradient(*given, 5), mask, inpaint_area="masked", inpaint_padding=24)
    area, source = canvas.source.area, canvas.source
    left, top, right, bottom = mask.getbbox() or (0, 0, 0, 0)
    assert area.left <= max(0, left - 24)
    assert area.top <= max(0, top - 24)
    assert area.right >= min(given[0], right + 24)
    assert area.bottom >= min(given[1], bottom + 24)
    across, down = area.right - area.left, area.bottom - area.top
    assert max(across, down) <= 2 * min(across, down) + 16 or min(across, down) == min(given)
    assert source.paint_width % 8 == source.paint_height % 8 == 0
    painted = source.paint_width * source.paint_height
    assert painted >= 0.9 * TRAINED**2
    assert painted == pytest.approx(max(TRAINED**2, across * down), rel=0.1)
    assert source.paint_width / source.paint_height == pytest.approx(across / down, rel=0.06)


def test_a_large_area_is_worked_on_at_its_full_resolution() -> None:
    init = gradient(1024, 768, 5)
    canvas = laid_out(init, ellipse(1024, 768, (100, 100, 900, 700)), inpaint_area="masked")
    area = canvas.source.area
    worked = canvas.worked(canvas.picture)
    assert (worked == canvas.picture[area.top : area.bottom, area.left : area.right]).all()


def test_blur_changes_nothing_that_is_denoised() -> None:
    mask = ellipse(256, 256, (60, 60, 180, 200))
    few, many = (laid_out(gradient(256, 256, 5), mask, mask_blur=b) for b in (1, 10))
    assert (few.source, few.cover) == (many.source, many.cover)
    soft = laid_out(gradient(256, 256, 5), mask, mask_blur=10, soft_mask=True)
    assert soft.cover != laid_out(gradient(256, 256, 5), mask, soft_mask=True).cover


def test_the_blur_goes_over_evenly() -> None:
    mask = Image.new("L", (256, 256))
    mask.paste(255, (128, 0, 256, 256))
    alpha = laid_out(gradient(256, 256, 5), mask, mask_blur=8).alpha
    assert alpha is not None
    row = alpha[128]
    assert (np.diff(row) >= 0).all()
    assert (row[:107] == 0).all()
    assert (row[149:] > 0.999).all()
    assert row[127] == pytest.approx(0.5, abs=0.05)


def test_growing_and_shrinking_move_the_border() -> None:
    mask = ellipse(256, 256, (80, 80, 180, 180))
    sizes: list[int] = []
    for grow in (-20, 0, 20):
        shares = laid_out(gradient(256, 256, 5), mask, mask_grow=grow).mask
        assert shares is not None
        sizes.append(int(shares.any(axis=0).sum()))
    assert sizes == [pytest.approx(expected, abs=2) for expected in (61, 101, 141)]


def striped() -> tuple[NDArray[np.uint8], Map]:
    """Orange above, blue below, with a hole of green in the middle."""
    picture = np.zeros((256, 256, 3), np.uint8)
    picture[:128], picture[128:] = (230, 120, 20), (20, 80, 200)
    hole = np.zeros((256, 256), np.float32)
    hole[96:160, 96:160] = 1
    picture[hole > 0] = (0, 255, 0)
    return picture, hole


@pytest.mark.parametrize("fill", [from_surroundings, by_opencv])
def test_a_hole_is_filled_with_the_colours_around_it(fill: Any) -> None:
    picture, hole = striped()
    filled = fill(picture, hole)
    assert (filled[hole == 0] == picture[hole == 0]).all()
    inside = filled[96:160, 96:160].astype(int)
    assert np.abs(inside[:6].mean((0, 1)) - (230, 120, 20)).max() < 45
    assert np.abs(inside[-6:].mean((0, 1)) - (20, 80, 200)).max() < 45
    assert (inside[..., 1] < 200).all()


@pytest.mark.parametrize("fill", [from_surroundings, by_opencv])
@pytest.mark.parametrize("share", [0, 1])
def test_nothing_and_all_to_fill_leave_the_picture(fill: Any, share: int) -> None:
    picture, _ = striped()
    assert (fill(picture, np.full((256, 256), share, np.float32)) == picture).all()


def test_a_very_large_hole_is_filled_in_moderate_time() -> None:
    picture = np.asarray(gradient(1024, 1024, 3))
    hole = np.ones((1024, 1024), np.float32)
    hole[500:524, 500:524] = 0
    for fill in (from_surroundings, by_opencv):
        filled = fill(picture, hole)
        assert (filled[500:524, 500:524] == picture[500:524, 500:524]).all()


@pytest.mark.parametrize(
    ("fill", "differs"), [("original", False), ("blur", True), ("colour", True), ("noise", False)]
)
def test_the_fill_is_put_under_the_mask_and_nowhere_else(fill: str, differs: bool) -> None:
    picture, hole = striped()
    mask = Image.fromarray((hole * 255).astype(np.uint8))
    canvas = laid_out(Image.fromarray(picture), mask, inpaint_fill=fill)
    assert (canvas.picture == picture).all()
    assert (canvas.start[hole == 0] == picture[hole == 0]).all()
    assert bool((canvas.start[hole > 0] != picture[hole > 0]).any()) == differs


def test_margins_are_painted_whole_and_start_from_their_surroundings() -> None:
    picture = np.zeros((128, 128, 3), np.uint8)
    picture[:, :64], picture[:, 64:] = (230, 120, 20), (20, 80, 200)
    canvas = laid_out(Image.fromarray(picture), outpaint=(64, 0, 64, 0), mask_grow=-8)
    assert canvas.mask is not None
    assert canvas.alpha is not None
    for shares in (canvas.mask, canvas.alpha):
        assert (shares[:, :64] == 1).all()
        assert (shares[:, -64:] == 1).all()
        assert (shares[:, 80:-80] == 0).all()
    assert np.abs(canvas.start[:, :64].astype(int) - (230, 120, 20)).max() < 60
    assert np.abs(canvas.start[:, -64:].astype(int) - (20, 80, 200)).max() < 60
    assert canvas.source.area == Region(0, 0, 256, 128)
