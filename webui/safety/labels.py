"""What the labels of the customary classifiers say: one table, and nothing is guessed.

A label that is not in the table makes its model unusable. Taken for harmless instead, a model
with other names would see nothing anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from webui.errors import GuardError

Slot = Literal["nsfw", "explicit", "face age", "text"]
"""The guards an operator can add: `GuardName` without the two that are built in."""

Kind = Literal["harmless", "suggestive", "nudity", "explicit", "young"]
"""What a label stands for. "nudity" is said by models that do not tell it from sexual acts."""

_TWO_CLASSES: Mapping[str, Kind] = {"normal": "harmless", "sfw": "harmless", "safe": "harmless"}
_GRADED: Mapping[str, Kind] = {"neutral": "harmless", "low": "suggestive", "medium": "suggestive"}
_FIVE_CLASSES: Mapping[str, Kind] = {
    "drawings": "harmless",
    "neutral": "harmless",
    "sexy": "suggestive",
}

LABELS: Mapping[Slot, Mapping[str, Kind]] = MappingProxyType(
    {
        "nsfw": MappingProxyType(
            {
                **_TWO_CLASSES,
                **_GRADED,
                **_FIVE_CLASSES,
                "nsfw": "nudity",
                "high": "nudity",
                "porn": "nudity",
                "hentai": "nudity",
            }
        ),
        "explicit": MappingProxyType(
            {
                **_TWO_CLASSES,
                **_GRADED,
                **_FIVE_CLASSES,
                "nsfw": "explicit",
                "high": "explicit",
                "porn": "explicit",
                "hentai": "explicit",
            }
        ),
        # A band that begins below 25 counts whole: where in it a face is, nobody can say.
        "face age": MappingProxyType(
            {
                "0-2": "young",
                "3-9": "young",
                "10-19": "young",
                "20-29": "young",
                "30-39": "harmless",
                "40-49": "harmless",
                "50-59": "harmless",
                "60-69": "harmless",
                "more than 70": "harmless",
            }
        ),
        "text": MappingProxyType({"safe": "harmless", "nsfw": "explicit"}),
    }
)
"""Labels, without regard to upper case, of: Marqo/nsfw-image-detection-384 and
Falconsai/nsfw_image_detection (two classes), Freepik/nsfw_image_detector (graded), models with
the five classes of NSFW.js; nateraw/vit-age-classifier and dima806/fairface_age_image_detection;
eliasalbouzidi/distilbert-nsfw-text-classifier."""

_NEEDED: Mapping[Slot, Kind] = MappingProxyType(
    {"nsfw": "nudity", "explicit": "explicit", "face age": "young", "text": "explicit"}
)
_COUNTS_AS: Mapping[Kind, frozenset[Kind]] = MappingProxyType(
    {
        "suggestive": frozenset({"suggestive", "nudity", "explicit"}),
        "nudity": frozenset({"nudity", "explicit"}),
        "explicit": frozenset({"explicit"}),
        "young": frozenset({"young"}),
    }
)
"""Which labels add up to a kind's score: what is worse is also suggestive."""


def kinds_of(slot: Slot, labels: Sequence[str]) -> tuple[Kind, ...]:
    """What each of a model's labels stands for in this slot.

    Raises:
        GuardError: A label is unknown, or none is what the slot is there for.
    """
    table = LABELS[slot]
    unknown = [label for label in labels if label.casefold() not in table]
    if unknown:
        raise GuardError(
            f"The guard {slot!r} has the label {unknown[0]!r}, which is not known here:"
            " choose one of the customary models."
        )
    kinds: tuple[Kind, ...] = tuple(table[label.casefold()] for label in labels)
    if not {_NEEDED[slot], "harmless"} <= {*kinds}:
        raise GuardError(
            f"The guard {slot!r} has no labels for what it is there for: choose one of the"
            " customary models."
        )
    return kinds


def worst_of(
    kinds: Sequence[Kind], shares: NDArray[np.float64], *, views: int | None
) -> dict[Kind, float]:
    """The worst score of each kind that the model knows; what is no probability makes all 1.

    Args:
        kinds: As from `kinds_of`.
        shares: Probabilities of the labels: (views, labels), each 0..1.
        views: How many views there must be; `None`: one at least.
    """
    known: list[Kind] = [kind for kind in _COUNTS_AS if kind in kinds]
    rows = max(1, len(shares)) if views is None else max(1, views)
    if shares.shape != (rows, len(kinds)) or not ((shares >= 0) & (shares <= 1)).all():
        return dict.fromkeys(known, 1.0)
    scores: dict[Kind, float] = {}
    for kind in known:
        counted = [each in _COUNTS_AS[kind] for each in kinds]
        scores[kind] = min(1.0, float(shares[:, counted].sum(axis=1).max()))
    return scores
