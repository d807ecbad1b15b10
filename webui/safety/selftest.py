"""Known answers from the guards: fixed neutral vectors, run at start and every hour."""

from __future__ import annotations

import numpy as np

from webui.errors import GuardError
from webui.safety.detector import LABELS, SIDE, Detector, Views
from webui.safety.policy import CUES
from webui.safety.prompts import Lexicon

_FACE = LABELS.index("FACE_FEMALE")
_FACE_SCORE = 0.242
_TOLERANCE = 0.03
_FULL_WIDTH = 0xFEE0

_HEAD = (
    # centre x, centre y, radius x, radius y in pixels, and the colour
    (157, 112, 98, 122, (50, 35, 25)),
    (157, 127, 76, 101, (245, 215, 190)),
    (117, 112, 16, 8, (250, 250, 250)),
    (197, 112, 16, 8, (250, 250, 250)),
    (117, 112, 7, 7, (40, 30, 25)),
    (197, 112, 7, 7, (40, 30, 25)),
    (157, 152, 8, 14, (220, 193, 171)),
    (157, 158, 30, 8, (180, 70, 70)),
)
_MEADOW = (90, 150, 80)


def check(detector: Detector, lexicon: Lexicon) -> None:
    """Compares what the guards answer to fixed neutral questions with what they must answer.

    Raises:
        GuardError: An answer is wrong.
    """
    head = drawn_head()
    found = detector.scores(np.stack([head, np.full_like(head, 128)]))
    if found.shape != (2, len(LABELS)) or not np.isfinite(found).all():
        raise GuardError("The picture detector gives no scores.")
    # The drawn head is a face to it, and with red and blue swapped half as much again.
    if abs(found[0, _FACE] - _FACE_SCORE) > _TOLERANCE or found[1].max() > _TOLERANCE:
        raise GuardError("The picture detector gives other scores than it should.")
    for cue in CUES:
        term = lexicon.examples.get(cue, "")
        disguised = "".join(chr(ord(letter) + _FULL_WIDTH) for letter in term)
        if cue not in lexicon.cues(disguised):
            raise GuardError(f"The word filter does not find the words for {cue!r}.")
    if lexicon.cues("a red chair on a meadow"):
        raise GuardError("The word filter finds something in a neutral sentence.")


def drawn_head() -> Views:
    """A head of eight ellipses on a plain ground: (`SIDE`, `SIDE`, 3), uint8, RGB."""
    picture = np.full((SIDE, SIDE, 3), _MEADOW, np.uint8)
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    for centre_x, centre_y, radius_x, radius_y, colour in _HEAD:
        inside = ((x - centre_x) / radius_x) ** 2 + ((y - centre_y) / radius_y) ** 2 <= 1
        picture[inside] = colour
    return picture
