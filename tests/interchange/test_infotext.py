from __future__ import annotations

import json
import re

import pytest

from webui.interchange.infotext import SAMPLERS_RENAMED, SCHEDULE_TYPES, write_infotext
from webui.request import SAMPLERS, SCHEDULES, GenerationRequest

FIELD = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
"""The reader's own expression."""


def written(**values: object) -> str:
    request = GenerationRequest.model_validate({"seed": 7, "width": 256, "height": 320} | values)
    return write_infotext(request, model_hash="0123456789", version="easel 0.1.0")


def read(text: str) -> tuple[str, str, dict[str, str]]:
    """Prompt, negative prompt and fields, as A1111 reads them."""
    *lines, last = text.strip().split("\n")
    found = FIELD.findall(last)
    assert len(found) >= 3
    prompt, _, negative = "\n".join(lines).partition("Negative prompt:")
    fields = {k: json.loads(v) if v[:1] == '"' == v[-1:] else v for k, v in found}
    return prompt.strip(), negative.strip(), fields


def test_the_whole_text_is_a1111s() -> None:
    text = written(prompt="a red ball", negative_prompt="blur", sampler="Euler a", cfg=7.0)
    assert text == (
        "a red ball\n"
        "Negative prompt: blur\n"
        "Steps: 20, Sampler: Euler a, Schedule type: Normal, CFG scale: 7, Seed: 7, Size: 256x320,"
        " Model hash: 0123456789, Model: postcard, RNG: CPU, Version: easel 0.1.0"
    )


def test_every_field_comes_back() -> None:
    prompt = "a (red:1.2) ball,\nsea: blue"
    text = written(
        prompt=prompt,
        negative_prompt="blur,\nnoise",
        steps=9,
        sampler="DPM++ 2M SDE",
        schedule="sgm uniform",
        cfg=4.125,
        clip_skip=2,
        seed=2**53 - 1,
    )
    assert read(text) == (
        prompt,
        "blur,\nnoise",
        {
            "Steps": "9",
            "Sampler": "DPM++ 2M SDE",
            "Schedule type": "SGM Uniform",
            "CFG scale": "4.125",
            "Seed": str(2**53 - 1),
            "Size": "256x320",
            "Model hash": "0123456789",
            "Model": "postcard",
            "Clip skip": "2",
            "RNG": "CPU",
            "Version": "easel 0.1.0",
        },
    )


@pytest.mark.parametrize("model", ["a, b", "a: b", 'a, "b"', "ä:\\", "plain name", "Model"])
def test_a_models_name_comes_back_whatever_is_in_it(model: str) -> None:
    text = written(model=model)
    assert read(text)[2].get("Model", "Model") == model
    assert "ä" in text or "ä" not in model


def test_empty_prompts_leave_no_lines() -> None:
    assert written().count("\n") == 0
    assert written(prompt="a ball").count("\n") == 1
    assert read(written(negative_prompt="blur"))[:2] == ("", "blur")


def test_clip_skip_is_written_only_where_it_is_not_1() -> None:
    assert "Clip skip" not in written(clip_skip=1)
    assert "Clip skip: 3," in written(clip_skip=3)


def test_what_is_left_open_is_left_out() -> None:
    text = write_infotext(GenerationRequest(), model_hash="0123456789", version="easel 0.1.0")
    assert "Seed" not in text
    assert "Size" not in text


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_sampler_and_schedule_has_a_name(sampler: str, schedule: str) -> None:
    fields = read(written(sampler=sampler, schedule=schedule))[2]
    assert fields["Sampler"] in {*SAMPLERS, *SAMPLERS_RENAMED.values()}
    assert fields["Schedule type"].casefold() == schedule
    assert len(set(SCHEDULE_TYPES.values())) == len(SCHEDULES)
