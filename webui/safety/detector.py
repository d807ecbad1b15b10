"""The picture detector: NudeNet's ONNX file, run directly on the CPU.

The package's own wrapper is not used: it answers "nothing found" for arrays it cannot read,
swaps red and blue of the files it opens, and hides an exposed label behind a covered one that
scores higher at the same place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from webui.clearance import Region
from webui.errors import GuardError

Views = NDArray[np.uint8]
"""Pictures for the detector: (views, `SIDE`, `SIDE`, 3), uint8, RGB."""

SIDE = 320
"""Pixels of each side of a view, the size the detector was trained at."""

LABELS: tuple[str, ...] = (
    "FEMALE_GENITALIA_COVERED",
    "FACE_FEMALE",
    "BUTTOCKS_EXPOSED",
    "FEMALE_BREAST_EXPOSED",
    "FEMALE_GENITALIA_EXPOSED",
    "MALE_BREAST_EXPOSED",
    "ANUS_EXPOSED",
    "FEET_EXPOSED",
    "BELLY_COVERED",
    "FEET_COVERED",
    "ARMPITS_COVERED",
    "ARMPITS_EXPOSED",
    "FACE_MALE",
    "BELLY_EXPOSED",
    "MALE_GENITALIA_EXPOSED",
    "ANUS_COVERED",
    "FEMALE_BREAST_COVERED",
    "BUTTOCKS_COVERED",
)
"""The detector's classes in the order of its output."""

_SHA256 = "c15d8273adad2d0a92f014cc69ab2d6c311a06777a55545f2c4eb46f51911f0f"
_BOX = 4
_FACES = ("FACE_FEMALE", "FACE_MALE")
_FACE_SCORE = 0.20
_SAME_FACE = 0.45
"""Overlap (intersection over union) from which on two boxes are one face."""
_AT_ONCE = 4
"""Views in one run: more gains no time and holds more memory."""


class Detector(Protocol):
    """Scores views; tests put a stub in its place."""

    def scores(self, views: Views) -> NDArray[np.float32]:
        """The highest score of each class in each view: (views, `LABELS`), 0..1."""
        ...


class NudeNet:
    """The 320n detector of NudeNet 3.4 (AGPL-3.0), https://github.com/notAI-tech/NudeNet."""

    def __init__(self, file: Path, *, threads: int = 1) -> None:
        """Loads the network. `threads` is the most it computes with.

        Raises:
            GuardError: The file is missing, or is not the one that was tested.
        """
        try:
            network = file.read_bytes()
        except OSError as error:
            raise GuardError(_sentence("is missing")) from error
        if hashlib.sha256(network).hexdigest() != _SHA256:
            raise GuardError(_sentence("is damaged or another one"))
        # It takes 0.2 s to import and has no types.
        onnxruntime: Any = import_module("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # A waiting thread would otherwise take a core from the denoising beside it.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session: Any = onnxruntime.InferenceSession(
            network, options, providers=["CPUExecutionProvider"]
        )

    @staticmethod
    def load(*, threads: int = 1) -> NudeNet:
        """The detector inside the installed `nudenet` package.

        Raises:
            GuardError: The package or its model file is missing or not as tested.
        """
        package = find_spec("nudenet")
        folders = [] if package is None else list(package.submodule_search_locations or ())
        if not folders:
            raise GuardError(_sentence("is missing"))
        return NudeNet(Path(folders[0]) / "320n.onnx", threads=threads)

    def scores(self, views: Views) -> NDArray[np.float32]:
        """The highest score of each class in each view: (views, `LABELS`), 0..1.

        Raises:
            GuardError: `views` is not as `Views` says.
        """
        return np.concatenate([found[:, _BOX:].max(axis=2) for found in self._runs(views)])

    def faces(self, views: Views) -> list[list[Region]]:
        """Where the faces are in each view, in its pixels, the surest first.

        Raises:
            GuardError: `views` is not as `Views` says.
        """
        return [_faces_in(anchors) for found in self._runs(views) for anchors in found]

    def _runs(self, views: Views) -> Iterator[NDArray[np.float32]]:
        """What the network says, a few views at a time: (views, box and `LABELS`, anchors)."""
        if views.dtype != np.uint8 or views.shape[1:] != (SIDE, SIDE, 3):
            raise GuardError("The picture check was given something that is no picture.")
        for start in range(0, len(views), _AT_ONCE):
            planes = views[start : start + _AT_ONCE].transpose(0, 3, 1, 2) / np.float32(255)
            (found,) = self._session.run(None, {"images": planes})
            yield np.asarray(found, dtype=np.float32)


def _faces_in(anchors: NDArray[np.float32]) -> list[Region]:
    score = anchors[[_BOX + LABELS.index(label) for label in _FACES]].max(axis=0)
    x, y, width, height = anchors[:_BOX]
    boxes = np.stack([x - width / 2, y - height / 2, width, height], axis=1)
    kept = cv2.dnn.NMSBoxes(boxes.tolist(), score.tolist(), _FACE_SCORE, _SAME_FACE)
    return [
        Region(round(left), round(top), round(left + wide), round(top + high))
        for left, top, wide, high in boxes[np.asarray(kept, dtype=np.intp)].tolist()
    ]


def _sentence(what: str) -> str:
    return f"The picture check's detector {what}, so nothing is made; run `python launch.py setup`."
