from __future__ import annotations

from pathlib import Path

import pytest

from tests.generation.lora_cases import CASES, kohya, put, shelf
from tests.library.test_loras import kohya as shapes_of
from tests.library.test_loras import put as put_shapes
from webui.errors import BadRequestError
from webui.generation.families import SD1
from webui.generation.lora_plan import (
    PlannedLora,
    TimedStrength,
    denoiser_strengths,
    plan_loras,
    strengths_at,
    text_strengths,
)
from webui.generation.loras import Strength
from webui.request import LoraChoice


def planned(folder: Path, *choices: LoraChoice) -> tuple[PlannedLora, ...]:
    return plan_loras(choices, SD1, shelf(folder))


def test_rows_without_effect_are_not_even_looked_for(tmp_path: Path):
    put(tmp_path, kohya()())
    rows = planned(
        tmp_path,
        LoraChoice(name="gone", enabled=False),
        LoraChoice(name="gone", weight=0),
        LoraChoice(name="ink", weight=0, text_encoder_weight=0.5),
    )
    assert [(row.row, row.name, row.weight, row.text_encoder_weight) for row in rows] == [
        (3, "ink", 0.0, 0.5)
    ]


def test_a_row_of_another_family_is_doubted_by_number_and_name_and_tried(tmp_path: Path):
    put(tmp_path, kohya()())
    put_shapes(tmp_path / "loras" / "large.safetensors", shapes_of(2048))
    ink, large = planned(tmp_path, LoraChoice(name="ink"), LoraChoice(name="large"))
    assert ink.doubt is None
    assert large.doubt == (
        "Row 2 of the LoRAs: 'large' is made for SDXL, and the model is Stable Diffusion 1: little"
        " of it may fit."
    )


def test_a_row_that_is_missing_is_refused_by_number_and_name(tmp_path: Path):
    put(tmp_path, kohya()())
    with pytest.raises(BadRequestError) as caught:
        planned(tmp_path, LoraChoice(name="ink"), LoraChoice(name="gone"))
    assert caught.value.message.startswith("Row 2 of the LoRAs: Unknown LoRA 'gone': ")
    assert caught.value.field == "loras.1"


def test_strengths_tell_parts_apart_and_know_no_order(tmp_path: Path):
    text = CASES["kohya, text encoder"].make()
    put(tmp_path, kohya()(), "unet")
    put(tmp_path, text, "text")
    put(tmp_path, kohya()() | text, "both")
    rows = [
        LoraChoice(name="unet", weight=0.3, start=0.5),
        LoraChoice(name="text", weight=0.4),
        LoraChoice(name="both", weight=0.5, text_encoder_weight=0),
    ]
    there, back = planned(tmp_path, *rows), planned(tmp_path, *reversed(rows))
    assert text_strengths(there) == text_strengths(back)
    assert denoiser_strengths(there) == denoiser_strengths(back)
    assert [one.weight for one in text_strengths(there)] == [0.4]
    timed = denoiser_strengths(there)
    assert sorted((one.strength.weight, one.start) for one in timed) == [(0.3, 0.5), (0.5, 0.0)]


@pytest.mark.parametrize(
    ("start", "end", "calls", "on"),
    [
        (0.0, 1.0, 4, [0, 1, 2, 3]),
        (0.5, 1.0, 4, [2, 3]),
        (0.0, 0.5, 4, [0, 1]),
        (0.25, 0.75, 4, [1, 2]),
        (0.3, 1.0, 10, [3, 4, 5, 6, 7, 8, 9]),
        (0.0, 0.7, 10, [0, 1, 2, 3, 4, 5, 6]),
        (0.95, 1.0, 4, [3]),
        (0.4, 0.45, 4, [1]),
        (0.0, 0.01, 4, [0]),
    ],
)
def test_every_row_is_on_in_at_least_one_call(start: float, end: float, calls: int, on: list[int]):
    timed = (TimedStrength(Strength("a", 1.0), start, end),)
    assert [call for call in range(calls) if strengths_at(timed, call, calls)] == on
