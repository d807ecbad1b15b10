"""Stand-ins for the detector and placeholder word lists."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from webui.safety.detector import LABELS, Detector, Views
from webui.safety.normaliser import Normaliser
from webui.safety.policy import Cue
from webui.safety.prompts import FOLDER, Lexicon, read_terms

PLACEHOLDERS: dict[Cue, tuple[str, ...]] = {
    "sexual": ("blorpish", "quandle", "zork"),
    "nudity": ("snizzler", "plinko bandle"),
    "swimwear": ("frumpet",),
    "undress": ("deglim", "glim|glimming ... torp|torps"),
    "clothing": ("torp",),
    "youth": ("wobblekin", "=dravel"),
    "person": ("morvyn", "zandrel", "=pebble"),
}
COMMON = read_terms(FOLDER / "words" / "common.txt")


def placeholder_lexicon(benign: tuple[str, ...] = ()) -> Lexicon:
    return Lexicon(PLACEHOLDERS, benign, Normaliser.load(FOLDER / "lookalikes.txt"), common=COMMON)


class ScoreStub:
    """A detector that gives chosen scores to every view and remembers what it was shown."""

    def __init__(self, **scores: float) -> None:
        self.by_label = scores
        self.seen: list[Views] = []

    def scores(self, views: Views) -> NDArray[np.float32]:
        self.seen.append(views)
        row = [self.by_label.get(label, 0.0) for label in LABELS]
        return np.tile(np.array(row, np.float32), (len(views), 1))


class CallStub:
    """A detector that answers with whatever a function returns or raises."""

    def __init__(self, answer: Callable[[Views], NDArray[np.float32]]) -> None:
        self.answer = answer

    def scores(self, views: Views) -> NDArray[np.float32]:
        return self.answer(views)


def always_healthy(detector: Detector, lexicon: Lexicon) -> None:
    """A self-test that every stub passes."""


def picture_bytes(width: int = 64, height: int = 48, *, kind: str = "PNG") -> bytes:
    """A smooth neutral picture as a file."""
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([x * 255 // width, y * 255 // height, np.full_like(x, 128)], axis=-1)
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, format=kind)
    return buffer.getvalue()
