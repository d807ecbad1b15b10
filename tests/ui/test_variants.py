from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from webui.errors import BadRequestError
from webui.generation.families import SD1
from webui.generation.sampling import sampling_of
from webui.request import GenerationRequest, parse_request
from webui.ui.variants import draft_of, sweep, without

INK = {"name": "ink", "weight": 0.6}
NEON = {"name": "neon", "weight": 1.0, "text_encoder_weight": 0.5}


def request(*loras: dict[str, Any], **values: Any) -> GenerationRequest:
    return parse_request({"prompt": "a hill", "seed": 7, "loras": loras, **values})


def test_a_sweep_changes_one_strength_and_nothing_else():
    asked = request(NEON, INK)
    variants = sweep(asked, 1)
    assert [variant.request.loras[1].weight for variant in variants] == [0, 0.3, 0.6, 0.9, 1.2]
    assert [variant.current for variant in variants] == [False, False, True, False, False]
    for variant in variants:
        assert variant.row == 1
        assert variant.request.loras[1].text_encoder_weight is None
        rows = [asked.loras[0], asked.loras[1].model_copy(update=dict(variant.changes))]
        assert variant.request == asked.model_copy(update={"loras": tuple(rows)})


def test_a_strength_of_its_own_in_the_text_encoder_is_left_alone():
    assert {v.request.loras[0].text_encoder_weight for v in sweep(request(NEON), 0)} == {0.5}


def test_a_muted_row_is_swept_as_if_it_were_on_and_none_of_its_strengths_is_current():
    variants = sweep(request(INK | {"enabled": False}), 0)
    assert all(variant.request.loras[0].enabled for variant in variants)
    assert not any(variant.current for variant in variants)


@pytest.mark.parametrize("row", [-1, 2])
def test_a_row_that_is_not_there_is_told(row: int):
    with pytest.raises(BadRequestError, match="has no row"):
        sweep(request(INK, NEON), row)


def test_each_row_with_an_effect_is_left_out_once():
    off, none = INK | {"enabled": False}, INK | {"weight": 0}
    asked = request(INK, off, NEON, none)
    whole, *others = without(asked)
    assert (whole.request, whole.row, whole.current) == (asked, None, True)
    assert [variant.row for variant in others] == [0, 2]
    for variant in others:
        on = [row for row, lora in enumerate(variant.request.loras) if lora.has_effect]
        assert on == [row for row in (0, 2) if row != variant.row]


def test_without_a_row_that_is_on_there_is_nothing_to_leave_out():
    with pytest.raises(BadRequestError, match="No LoRA is on"):
        without(request(INK | {"enabled": False}))


def test_a_draft_is_one_picture_of_few_steps_with_a_seed():
    asked = request(INK, steps=30, count=4, batch=2)
    draft = draft_of(asked, 256, sampling_of(asked, SD1.own))
    assert (draft.seed, draft.steps, draft.count, draft.batch) == (7, 8, 1, 1)
    assert draft_of(request(), 256, replace(SD1.own, steps=4)).steps == 4
    drawn = {draft_of(request(seed=None), 256, SD1.own).seed for _ in range(3)}
    assert None not in drawn
    assert len(drawn) > 1


@pytest.mark.parametrize(
    ("trained", "asked", "made"),
    [
        (256, (None, None), (256, 256)),
        (256, (512, 256), (360, 184)),
        (256, (128, 64), (128, 64)),
        (512, (None, None), (384, 384)),
        (512, (512, 768), (312, 472)),
        (512, (320, 320), (320, 320)),
        (1024, (1024, 1024), (768, 768)),
        (512, (2048, 512), (768, 192)),
    ],
)
def test_a_draft_of_a_large_model_is_smaller_and_of_the_same_shape(
    trained: int, asked: tuple[int | None, int | None], made: tuple[int, int]
):
    draft = draft_of(request(width=asked[0], height=asked[1]), trained, SD1.own)
    assert (draft.width, draft.height) == made


def test_what_starts_from_a_picture_keeps_its_size():
    draft = draft_of(request(init="a" * 64, width=1024), 512, SD1.own)
    assert (draft.width, draft.height) == (1024, None)
