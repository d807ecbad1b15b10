from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from webui.library.origins import OUTSIDE, Origin
from webui.safety.known import FILE
from webui.safety.taint import is_tainted

OWN = Origin(tainted=False, has_credentials=True)
KNOWN, OTHER = FILE.read_text()[:64], "0" * 64


def test_text_alone_with_what_comes_with_easel_is_not_tainted() -> None:
    assert not is_tainted(pictures=(), weights=(KNOWN,))
    assert not is_tainted(pictures=(OWN, OWN), weights=(KNOWN, KNOWN))


@pytest.mark.parametrize(
    "part",
    [
        {"pictures": (OUTSIDE,)},
        {"pictures": (OWN, OUTSIDE, OWN)},
        {"pictures": (Origin(tainted=True, has_credentials=True),)},
        {"weights": (OTHER,)},
        {"weights": (KNOWN, OTHER)},
        {"weights": ("",)},
        {"person": True},
    ],
)
def test_each_part_from_outside_taints(part: dict[str, Any]) -> None:
    parts: dict[str, Any] = {"pictures": (), "weights": (KNOWN,)} | part
    assert is_tainted(**parts)


def test_the_operator_can_trust_weights_and_no_pictures() -> None:
    assert not is_tainted(pictures=(), weights=(KNOWN, OTHER), allowed=frozenset({OTHER}))
    assert is_tainted(pictures=(), weights=("1" * 64,), allowed=frozenset({OTHER}))
    assert is_tainted(pictures=(OUTSIDE,), weights=(OTHER,), allowed=frozenset({OTHER}))


def test_one_more_part_never_takes_the_taint_away() -> None:
    parts = [(), (OWN,), (OUTSIDE,), (OWN, OUTSIDE)]
    for fewer, weights, person in product(parts, ((KNOWN,), (OTHER,)), (False, True)):
        for more in (OWN, OUTSIDE):
            before = is_tainted(pictures=fewer, weights=weights, person=person)
            after = is_tainted(pictures=(*fewer, more), weights=weights, person=person)
            assert after >= before
