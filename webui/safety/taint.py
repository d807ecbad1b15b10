"""Taint: whether anything from outside had a part in a picture.

Without it, a picture brought in would be laundered by its own result: changed at the strict level,
signed, brought in again as one of ours, and worked on at a higher one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from webui.library.origins import Origin
from webui.safety.known import is_known


def is_tainted(
    *,
    pictures: Iterable[Origin],
    weights: Iterable[str],
    allowed: Collection[str] = frozenset(),
    person: bool = False,
) -> bool:
    """Whether a picture made of these is tainted; it stays so in whatever is made of it.

    Args:
        pictures: Where its init picture, its mask and its control pictures come from. A pose is
            data and no picture.
        weights: Content hashes (hex SHA-256) of the model and of every LoRA, embedding and
            ControlNet that has an effect.
        allowed: Content hashes that the operator trusts besides those that come with Easel.
        person: Whether an adapter for a person's likeness has a part in it.
    """
    from_outside = any(picture.tainted for picture in pictures)
    return person or from_outside or not all(is_known(each) or each in allowed for each in weights)
