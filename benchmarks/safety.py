"""The guards (`benchmarks.prompts`, `benchmarks.guarding`) and the marks of pictures: what the
watermark survives, what it costs, and what the file grows by.

The pictures are the scenes the embedded model was trained on, drawn, at the size it paints.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from math import comb, log10
from random import Random
from statistics import median
from time import perf_counter
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks import guarding, prompts
from benchmarks.figures import Figure, Limit, seconds
from benchmarks.recipes import fresh_requests
from benchmarks.workbench import Workbench
from webui.clearance import Cleared
from webui.generation.finishing import to_png
from webui.postcard.scenes import draw_scene, random_scene
from webui.provenance import c2pa, watermark
from webui.provenance.c2pa import Signer
from webui.provenance.certificate import new_identity
from webui.provenance.recipe import Recipe
from webui.provenance.sign import sign
from webui.provenance.watermark import ACCEPTED_BITS, BITS

Pixels = NDArray[np.uint8]

ASKED_READ = Limit(99, most=False)
ASKED_PSNR = Limit(38, most=False)
ASKED_TRUSTED = Limit(100, most=False)
ASKED_GROWTH = Limit(40)
ASKED_CHANCE = Limit(1e-5)
TURNS = 8


def run(bench: Workbench) -> list[Figure]:
    """Marks, changes, reads and signs pictures, reads as many that are not marked, and prompts."""
    count = bench.effort.marked
    plain = [scene(seed) for seed in range(count)]
    began = perf_counter()
    marked = [watermark.embed(picture) for picture in plain]
    each = (perf_counter() - began) / count
    qualities = [psnr(*pair) for pair in zip(plain, marked, strict=True)]
    drawn = f"{count} drawn scenes, 256 px"
    return [
        Figure(
            f"watermark, {drawn}: PSNR, median",
            median(qualities),
            "dB",
            f"least {min(qualities):.1f} dB; {each * 1000:.0f} ms a picture",
            ASKED_PSNR,
            {"psnr": qualities},
        ),
        *(_survival(name, change, marked, drawn) for name, change in CHANGES.items()),
        *_false_alarms(plain, drawn),
        *_signing(plain, marked, drawn),
        *prompts.run(bench),
        *guarding.run(bench),
    ]


def scene(seed: int) -> Pixels:
    """A drawn picture of 256 x 256 pixels."""
    return np.asarray(draw_scene(random_scene(Random(seed))).image, np.uint8)


def psnr(first: Pixels, second: Pixels) -> float:
    """In dB."""
    return 10 * log10(255**2 / float(np.square(first.astype(np.float64) - second).mean()))


def _survival(
    name: str, change: Callable[[Pixels], Pixels], marked: list[Pixels], drawn: str
) -> Figure:
    bits = [watermark.read(change(picture)).bits for picture in marked]
    share = 100 * sum(each >= ACCEPTED_BITS for each in bits) / len(bits)
    return Figure(
        f"watermark, {drawn}: read after {name}",
        share,
        "%",
        f"bits of {BITS}: median {median(bits):.0f}, least {min(bits)}",
        ASKED_READ if name in ASKED else None,
        {"bits": bits},
    )


def _false_alarms(plain: list[Pixels], drawn: str) -> list[Figure]:
    bits = [watermark.read(picture).bits for picture in plain]
    alarms = sum(each >= ACCEPTED_BITS for each in bits)
    by_chance = TURNS * sum(comb(BITS, each) for each in range(ACCEPTED_BITS, BITS + 1)) / 2**BITS
    return [
        Figure(
            f"watermark, {drawn}, unmarked: taken for marked",
            100 * alarms / len(bits),
            "%",
            f"most bits that agreed: {max(bits)} of {BITS}, {ACCEPTED_BITS} are asked for",
            Limit(0),
            {"bits": bits},
        ),
        Figure(
            "watermark: chance that an unmarked picture is taken for marked",
            f"{by_chance:.0e}",
            "",
            f"{BITS} fair coins, {TURNS} turns and flips",
            ASKED_CHANCE,
        ),
    ]


def _signing(plain: list[Pixels], marked: list[Pixels], drawn: str) -> list[Figure]:
    identity = new_identity()
    signer = Signer(identity)
    requests = fresh_requests("postcard", side=256, steps=20, sampler="DPM++ 2M")
    times: list[float] = []
    texts: list[float] = []
    pixels: list[float] = []
    trusted = 0
    for before, picture, request in zip(plain, marked, requests, strict=False):
        png = to_png(picture)
        recipe = Recipe(
            request, "ab" * 32, {"easel": "0.1.0"}, "cpu", "float32", "nchw", "sdpa", tainted=False
        )
        began = perf_counter()
        signed = sign(Cleared(png, 0), recipe, signer)
        times.append(perf_counter() - began)
        texts.append((len(signed.data) - len(png)) / 1000)
        pixels.append((len(png) - len(to_png(before))) / 1000)
        trusted += c2pa.read(signed.data, "image/png", identity.trust).state == "own"
    return [
        Figure(
            f"Content Credentials, {drawn}: trusted by this installation",
            100 * trusted / len(times),
            "%",
            f"{len(times)} files",
            ASKED_TRUSTED,
        ),
        Figure(
            f"Content Credentials, XMP and recipe, {drawn}: growth of the file, median",
            median(texts),
            "kB",
            f"most {max(texts):.1f} kB; by the watermark's grain {median(pixels):.1f} kB more",
            ASKED_GROWTH,
            {"texts": texts, "pixels": pixels},
        ),
        seconds(f"recipe, XMP and Content Credentials, {drawn}: signed", times),
    ]


def _saved_as(kind: str, quality: int) -> Callable[[Pixels], Pixels]:
    def change(picture: Pixels) -> Pixels:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, kind, quality=quality)
        return np.asarray(Image.open(file).convert("RGB"), np.uint8)

    return change


def _scaled(factor: float) -> Callable[[Pixels], Pixels]:
    def change(picture: Pixels) -> Pixels:
        size = round(picture.shape[1] * factor), round(picture.shape[0] * factor)
        return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS), np.uint8)

    return change


def _blurred(picture: Pixels) -> Pixels:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 1.5), np.uint8)


def _brighter(picture: Pixels) -> Pixels:
    return np.clip(picture * 1.15, 0, 255).astype(np.uint8)


ASKED = frozenset({"JPEG 50", "half size", "blur of 1.5 pixels"})
"""What must be survived; the rest is told."""

CHANGES: Mapping[str, Callable[[Pixels], Pixels]] = MappingProxyType(
    {
        "JPEG 50": _saved_as("JPEG", 50),
        "half size": _scaled(0.5),
        "blur of 1.5 pixels": _blurred,
        "JPEG 30": _saved_as("JPEG", 30),
        "WebP 90": _saved_as("WEBP", 90),
        "WebP 80": _saved_as("WEBP", 80),
        "half size and JPEG 75": lambda picture: _saved_as("JPEG", 75)(_scaled(0.5)(picture)),
        "15 % more brightness": _brighter,
        "a flip": lambda picture: picture[:, ::-1].copy(),
        "a turn by 90 degrees": lambda picture: np.rot90(picture).copy(),
    }
)
