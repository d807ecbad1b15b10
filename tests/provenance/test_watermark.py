from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Mapping
from statistics import mean, median, stdev

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFilter

from tests.provenance.scenes import Pixels, opened, saved_as, scene
from webui.provenance import watermark
from webui.provenance.watermark import ACCEPTED_BITS, BITS, PARTIAL_PSNR, embed, read

DRAWN = tuple(scene(seed) for seed in range(8))
MARKED = tuple(embed(picture) for picture in DRAWN)


def psnr(first: Pixels, second: Pixels) -> float:
    error = float(np.square(first.astype(np.float64) - second).mean())
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def scaled(factor: float) -> Callable[[Pixels], Pixels]:
    def change(picture: Pixels) -> Pixels:
        size = round(picture.shape[1] * factor), round(picture.shape[0] * factor)
        return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS), np.uint8)

    return change


def blurred(picture: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(1.5)), np.uint8)


def brighter(picture: Pixels) -> Pixels:
    return np.clip(picture * 1.15, 0, 255).astype(np.uint8)


def noisy(picture: Pixels) -> Pixels:
    noise = np.random.default_rng(0).normal(0, 8, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


CHANGES: Mapping[str, Callable[[Pixels], Pixels]] = {
    "JPEG 50": lambda picture: opened(saved_as("JPEG", picture, 50)),
    "JPEG 30": lambda picture: opened(saved_as("JPEG", picture, 30)),
    "WebP 90": lambda picture: opened(saved_as("WEBP", picture, 90)),
    "half size": scaled(0.5),
    "enlarged": scaled(1.7),
    "blur": blurred,
    "brighter": brighter,
    "noise": noisy,
    "flipped": lambda picture: picture[:, ::-1].copy(),
    "upside down": lambda picture: picture[::-1].copy(),
    "turned": lambda picture: np.rot90(picture).copy(),
    "turned and flipped": lambda picture: np.rot90(picture)[:, ::-1].copy(),
    "stretched": lambda picture: np.asarray(cv2.resize(picture, (400, 256)), np.uint8),
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_mark_survives(name: str) -> None:
    bits = [read(CHANGES[name](picture)).bits for picture in MARKED]
    assert min(bits) >= ACCEPTED_BITS


def test_the_mark_is_not_seen() -> None:
    qualities = [psnr(*pair) for pair in zip(DRAWN, MARKED, strict=True)]
    assert min(qualities) > 38
    assert median(qualities) > 40


def test_unmarked_pictures_are_not_taken_for_marked() -> None:
    """The bits of an unmarked picture are tosses of a coin: 32 of 64 agree, give or take 4."""
    drawn = [scene(seed) for seed in range(100, 400)]
    bits = [each for picture in drawn for each in _bits_in_each_turn(picture)]
    assert max(read(picture).bits for picture in drawn) < ACCEPTED_BITS
    assert mean(bits) == pytest.approx(BITS / 2, abs=0.5)
    assert stdev(bits) == pytest.approx(4, abs=0.25)
    expected = sum(math.comb(BITS, each) for each in range(42, BITS + 1)) / 2**BITS * len(bits)
    assert sum(each >= 42 for each in bits) == pytest.approx(expected, rel=0.8)


def _bits_in_each_turn(picture: Pixels) -> list[int]:
    spectrum = watermark._spectrum(watermark._grey(picture))  # pyright: ignore[reportPrivateUsage]
    turned = watermark._turned_sums(spectrum)  # pyright: ignore[reportPrivateUsage]
    return [int((sums > 0).sum()) for sums in turned]


def test_chance_agrees_in_one_of_twelve_million() -> None:
    at_least = sum(math.comb(BITS, bits) for bits in range(ACCEPTED_BITS, BITS + 1)) / 2**BITS
    assert 8 * at_least < 1e-7


@pytest.mark.parametrize("level", [0, 7, 128, 255])
def test_plain_pictures_can_be_marked_and_are_not_taken_for_marked(level: int) -> None:
    plain = np.full((128, 192, 3), level, np.uint8)
    assert not read(plain).present
    marked = embed(plain)
    assert read(marked).bits == BITS
    assert psnr(plain, marked) > 38


@pytest.mark.parametrize(("width", "height"), [(64, 64), (64, 1024), (768, 512), (1024, 1024)])
def test_every_size_can_be_marked(width: int, height: int) -> None:
    picture = np.asarray(
        cv2.resize(DRAWN[0], (width, height), interpolation=cv2.INTER_CUBIC), np.uint8
    )
    marked = embed(picture)
    assert marked.shape == picture.shape
    assert marked.dtype == np.uint8
    assert read(marked).bits >= 60


def test_noise_is_marked_too() -> None:
    noise = np.random.default_rng(3).integers(0, 256, (256, 256, 3)).astype(np.uint8)
    assert not read(noise).present
    assert read(embed(noise)).bits >= 60


def test_the_same_picture_is_marked_the_same() -> None:
    assert np.array_equal(embed(DRAWN[0]), MARKED[0])


def test_a_second_mark_changes_little() -> None:
    assert psnr(embed(MARKED[0]), MARKED[0]) > 45


def test_the_pattern_is_what_it_was() -> None:
    """Pictures that are marked today must be read by every later version."""
    pattern = watermark._pattern()  # pyright: ignore[reportPrivateUsage]
    digest = hashlib.sha256()
    for numbers in (pattern.rows, pattern.columns, np.sign(pattern.weights), pattern.message):
        digest.update(numbers.astype("<i4").tobytes())
    assert digest.hexdigest().startswith("a9f7edceefc4480c")


def part(share: float, *, side: int = 256) -> np.ndarray:
    edge = round(side * math.sqrt(share))
    where = np.zeros((side, side), np.float32)
    low = (side - edge) // 2
    where[low : low + edge, low : low + edge] = 1
    return where


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.8])
def test_outside_the_painted_part_every_pixel_stays(share: float) -> None:
    where = part(share)
    marked = embed(DRAWN[1], where)
    assert np.array_equal(marked[where == 0], DRAWN[1][where == 0])
    changed = marked[where > 0].astype(np.float64) - DRAWN[1][where > 0]
    assert 10 * math.log10(255**2 / max(1e-9, np.square(changed).mean())) >= PARTIAL_PSNR


def test_half_a_picture_holds_the_mark() -> None:
    for picture in DRAWN:
        assert read(opened(saved_as("JPEG", embed(picture, part(0.6)), 50))).present


def test_a_part_that_is_too_small_is_left_alone() -> None:
    assert np.array_equal(embed(DRAWN[1], part(0.01)), DRAWN[1])
    assert np.array_equal(embed(DRAWN[1], part(0)), DRAWN[1])


def test_a_soft_edge_is_marked_softly() -> None:
    where = np.tile(np.linspace(0, 1, 256, dtype=np.float32), (256, 1))
    changes = np.abs(embed(DRAWN[2], where).astype(np.float64) - DRAWN[2])
    assert changes[:, :64].mean() < changes[:, 192:].mean() / 2


def test_grey_files_are_read() -> None:
    file = io.BytesIO()
    Image.fromarray(MARKED[0]).convert("L").save(file, "PNG")
    assert read(opened(file.getvalue())).present
