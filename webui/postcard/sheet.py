"""A contact sheet of unpicked samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from webui.postcard.canvas import SIZE, Image

_GAP = 4


def write_sheet(images: Sequence[Image], path: Path, columns: int = 6) -> None:
    """Write the pictures in rows on white to a PNG file."""
    rows = -(-len(images) // columns)
    cell = SIZE + _GAP
    sheet = np.full((rows * cell - _GAP, columns * cell - _GAP, 3), 255, np.uint8)
    for number, image in enumerate(images):
        top, left = number // columns * cell, number % columns * cell
        sheet[top : top + SIZE, left : left + SIZE] = image
    cv2.imwrite(str(path), sheet[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
