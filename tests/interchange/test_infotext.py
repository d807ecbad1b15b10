from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.work import finite
from webui.errors import BadRequestError
from webui.interchange.infotext import MAX_TEXT_CHARACTERS, read_infotext, write_infotext
from webui.interchange.samplernames import SAMPLERS_RENAMED, SCHEDULE_TYPES
from webui.request import MAX_SEED, SAMPLERS, SCHEDULES, GenerationRequest, parse_request

FIELD = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
"""The reader's own expression."""


def written(**values: object) -> str:
    sampling = {"steps": 20, "cfg": 5, "sampler": "DPM++ 2M", "schedule": "normal"}
    filled = {"seed": 7, "width": 256, "height": 320} | sampling | values
    request = GenerationRequest.model_validate(filled)
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


@pytest.mark.parametrize(
    "model", ["a, b", "a: b", 'a, "b"', '"a"', " a ", "ä:\\", "plain name", "Model"]
)
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
    assert read_infotext(text).request.keys().isdisjoint(("steps", "cfg", "sampler", "schedule"))
    assert "Size" not in text


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_sampler_and_schedule_has_a_name(sampler: str, schedule: str) -> None:
    fields = read(written(sampler=sampler, schedule=schedule))[2]
    assert fields["Sampler"] in {*SAMPLERS, *SAMPLERS_RENAMED.values()}
    assert fields["Schedule type"].casefold() == schedule
    assert len(set(SCHEDULE_TYPES.values())) == len(SCHEDULES)


NASTY_LINES = st.sampled_from(
    [
        "Steps: 20, Sampler: x, CFG scale: 7",
        "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 64x64, Model: other",
        "negative prompt: x",
        'a "quoted" word, (red:1.2) [x]',
        " Negative prompt: x",
        "",
        " ",
        "\\",
        "<b:1>",
        "{prompt}",
        "\u2028a\x85b\x1cc",
        "海, é",
    ]
)
PROMPTS = st.one_of(
    st.text(max_size=60), st.lists(NASTY_LINES, max_size=4).map(lambda lines: "\n".join(lines))
).filter(
    lambda text: (
        not re.search(r"^Negative prompt:", text, re.MULTILINE)
        and not text.endswith("\r")
        and not re.search(r"<(lora|lyco|hypernet):", text)
    )
)
NAMES = st.one_of(
    st.text(min_size=1, max_size=40),
    st.sampled_from(["Model", '"a"', '"', " a", "[1]", "{}", "a, Steps: 3", "1\n2", "\\"]),
)


@given(
    prompt=PROMPTS,
    negative_prompt=st.one_of(PROMPTS, PROMPTS.map(lambda text: f"{text}\nNegative prompt: b")),
    model=NAMES,
    sampler=st.sampled_from(SAMPLERS),
    schedule=st.sampled_from(SCHEDULES),
    cfg=st.floats(1, 30),
    steps=st.integers(1, 150),
    seed=st.none() | st.integers(0, MAX_SEED),
    clip_skip=st.integers(1, 12),
    size=st.none() | st.tuples(st.integers(8, 256), st.integers(8, 256)),
)
def test_what_is_written_is_read_back(size: tuple[int, int] | None, **values: Any) -> None:
    if size is not None:
        values |= {"width": size[0] * 8, "height": size[1] * 8}
    request = GenerationRequest.model_validate(values)
    text = write_infotext(request, model_hash="0123456789", version="easel 0.1.0")
    found = read_infotext(text)
    assert parse_request(found.request) == request
    assert found.report == ()
    assert found.model_hash == "0123456789"


def test_what_the_format_cannot_tell_apart() -> None:
    found = read_infotext(written(prompt="a\nNegative prompt: b", negative_prompt="c"))
    assert found.request["prompt"] == "a"
    assert found.request["negative_prompt"] == "b\nNegative prompt: c"


def test_only_what_is_named_is_in_the_request() -> None:
    assert read_infotext("a ball\nSteps: 9, CFG scale: 7, Version: v1.6").request == {
        "prompt": "a ball",
        "negative_prompt": "",
        "steps": 9,
        "cfg": 7.0,
        "clip_skip": 1,
    }


@pytest.mark.parametrize("last", ["Steps: 9, Seed: 1", "a: b, c: d, Steps: 9", "by the sea"])
def test_with_fewer_than_three_fields_the_last_line_is_prompt(last: str) -> None:
    found = read_infotext(f"a ball\n{last}")
    assert found.request == {"prompt": f"a ball\n{last}"}
    assert not found.has_fields
    assert len(found.report) == 1


def test_a_mere_prompt_may_have_a_negative_one() -> None:
    found = read_infotext("a ball\r\nNegative prompt: blur\r\nnoise")
    assert found.request == {"prompt": "a ball", "negative_prompt": "blur\nnoise"}


def test_lines_ending_in_cr_lf() -> None:
    text = "a ball,\r\nred\r\nNegative prompt: blur\r\nSteps: 9, CFG scale: 7, Seed: 3\r\n"
    found = read_infotext(text).request
    assert (found["prompt"], found["negative_prompt"]) == ("a ball,\nred", "blur")
    assert found["seed"] == 3


def test_lora_tags_go_into_the_stack() -> None:
    found = read_infotext(
        "a ball <lora:soft:0.5>\nNegative prompt: blur <lora:hard:1>\n"
        "Steps: 9, Seed: 1, Size: 64x64"
    )
    assert found.request["prompt"] == "a ball "
    assert found.request["negative_prompt"] == "blur "
    assert [(lora["name"], lora["weight"]) for lora in found.request["loras"]] == [("soft", 0.5)]
    assert len(found.report) == 2


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_an_empty_text_has_no_recipe(text: str) -> None:
    with pytest.raises(BadRequestError, match="empty"):
        read_infotext(text)


def test_the_length_is_bounded() -> None:
    with pytest.raises(BadRequestError, match="longer than"):
        read_infotext("a" * (MAX_TEXT_CHARACTERS + 1))


@pytest.mark.parametrize(
    "unit",
    ["a: a: ", "Steps: 1, ", "<lora:a:1>", "\nNegative prompt:", "aa: [", 'aa: "', "9", ", ", "\n"],
)
def test_a_hostile_text_comes_to_an_end_and_is_reported_shortly(unit: str) -> None:
    text = f"x{unit * (1_000_000 // len(unit))}\nSteps: {'9' * 5000}, Sampler: x, CFG scale: 7"
    for each in (text, text.replace("\n", " ")):
        with finite():
            report = read_infotext(each).report
        assert len(report) < 12
        assert max(map(len, report)) < 1200


def test_loras_are_tags_behind_the_prompt_and_hashes_by_name() -> None:
    request = parse_request(
        {
            "prompt": "a ball",
            "negative_prompt": "blur",
            "loras": [
                {"name": "ink, pen", "weight": 0.8, "text_encoder_weight": 0.5},
                {"name": "muted", "enabled": False},
            ],
        }
    )
    text = write_infotext(
        request, model_hash="0123456789", version="x 1", lora_hashes={"ink, pen": "ab" * 6}
    )
    assert text.startswith("a ball<lora:ink, pen:0.5:0.8>\nNegative prompt: blur\n")
    assert read(text)[2]["Lora hashes"] == "ink pen: abababababab"
    found = read_infotext(text)
    assert found.request["prompt"] == "a ball"
    assert parse_request(found.request).loras == request.loras[:1]


def test_what_a_picture_was_made_from_is_written_in_a1111s_words() -> None:
    assert "Denoising" not in written(strength=0.5)
    assert read(written(init="a" * 64, strength=0.5))[2]["Denoising strength"] == "0.5"
    fields = read(
        written(
            init="a" * 64,
            mask="b" * 64,
            strength=0.6,
            mask_blur=8,
            inpaint_area="masked",
            inpaint_padding=48,
            inpaint_fill="noise",
        )
    )[2]
    assert list(fields)[7:10] == ["Model", "Denoising strength", "RNG"]
    assert {k: v for k, v in fields.items() if "ask" in k or "npaint" in k} == {
        "Mask blur": "8",
        "Inpaint area": "Only masked",
        "Masked area padding": "48",
        "Masked content": "latent noise",
    }
    whole = read(written(init="a" * 64, outpaint=(8, 0, 0, 0), inpaint_fill="colour"))[2]
    assert "Inpaint area" not in whole
    assert whole["Masked content"] == "fill"


@given(
    strength=st.floats(0.01, 1),
    mask_blur=st.integers(0, 64),
    inpaint_area=st.sampled_from(["whole", "masked"]),
    inpaint_padding=st.integers(0, 512),
    inpaint_fill=st.sampled_from(["original", "blur", "noise"]),
)
def test_what_a_picture_was_made_from_is_read_back_but_for_the_picture(**values: Any) -> None:
    found = read_infotext(written(init="a" * 64, mask="b" * 64, **values))
    assert found.report == (
        "It was made from a picture, which is not in the text: choose it again.",
    )
    if values["inpaint_area"] == "whole":
        del values["inpaint_padding"], values["inpaint_area"]
    if values["inpaint_fill"] == "original":
        del values["inpaint_fill"]
    assert {name: found.request[name] for name in values} == values
    assert "init" not in found.request
