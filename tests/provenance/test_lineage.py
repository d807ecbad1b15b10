from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.provenance.scenes import recipe
from webui.provenance.lineage import (
    COMPOSITE,
    GENERATED,
    is_partial,
    lineage_of,
    operation_of,
    source_type_of,
)
from webui.provenance.recipe import UsedLora

A, B, C = "a" * 64, "b" * 64, "c" * 64


@pytest.mark.parametrize(
    ("asked", "operation", "source_type", "partial"),
    [
        ({}, "text", GENERATED, False),
        ({"init": A}, "image", COMPOSITE, False),
        ({"init": A, "mask": B}, "inpaint", COMPOSITE, True),
        ({"init": A, "outpaint": (64, 0, 0, 0)}, "outpaint", COMPOSITE, True),
        ({"init": A, "mask": B, "outpaint": (64, 0, 0, 0)}, "inpaint", COMPOSITE, True),
    ],
)
def test_how_a_picture_was_begun(
    asked: dict[str, Any], operation: str, source_type: str, partial: bool
) -> None:
    request = recipe(**asked).request
    assert operation_of(request) == operation
    assert source_type_of(request) == source_type
    assert is_partial(request) is partial


def test_everything_that_went_in_is_named_by_its_hash() -> None:
    made = recipe(tainted=True, init=A, mask=B, controls=[{"kind": "depth", "picture": C}])
    with_lora = replace(made, loras=(UsedLora("ink", "d" * 64, "e" * 12),))
    lineage = lineage_of(with_lora, 60)
    assert lineage == {
        "schema": 2,
        "tainted": True,
        "operation": "inpaint",
        "model": "ab" * 32,
        "loras": ["d" * 64],
        "controls": [C],
        "watermark": {"id": "easel-1", "bits": 60, "partial": True},
        "parent": A,
        "mask": B,
    }


def test_text_alone_has_no_parent_and_no_words() -> None:
    lineage = lineage_of(recipe(), 64)
    assert lineage["tainted"] is False
    assert not {"parent", "mask"} & lineage.keys()
    assert "hill" not in str(lineage)
