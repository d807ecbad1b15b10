from __future__ import annotations

from typing import Any

import pytest

from webui.interchange.infotext import ReadInfotext, read_infotext

MORE = "Version: v1, User: x, Created Date: 2024"


def read(fields: str) -> ReadInfotext:
    return read_infotext(f"a ball\n{fields}, {MORE}")


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("Steps: 33", {"steps": 33}),
        ("CFG scale: 6.5", {"cfg": 6.5}),
        ("Seed: 12", {"seed": 12}),
        ("Seed: -1", {}),
        ("Size: 640x512", {"width": 640, "height": 512}),
        ("Clip skip: 2", {"clip_skip": 2}),
        ("Sampler: Euler a", {"sampler": "Euler a"}),
        ("Sampler: PLMS", {"sampler": "PNDM"}),
        ("Sampler: DPM++ 2M Karras", {"sampler": "DPM++ 2M", "schedule": "karras"}),
        ("Sampler: DPM++ 2M, Schedule type: Karras", {"sampler": "DPM++ 2M", "schedule": "karras"}),
        ("Sampler: LMS Karras, Schedule type: Beta", {"sampler": "LMS", "schedule": "beta"}),
        ("Schedule type: Uniform", {"schedule": "normal"}),
        ("Model: a, Model hash: 0123abcd", {"model": "a"}),
        ("RNG: CPU", {}),
        ("Hashes: {}", {}),
    ],
)
def test_a_field_becomes_ours_without_a_word(field: str, values: dict[str, Any]) -> None:
    found = read(field)
    rest = {"prompt": "a ball", "negative_prompt": "", "clip_skip": 1}
    assert found.request == rest | values
    assert found.report == ()


@pytest.mark.parametrize(
    ("field", "values", "says"),
    [
        ("Steps: 500", {}, "at most 150"),
        ("Steps: x", {}, "steps is 'x'"),
        ("CFG scale: 0", {}, "at least 1"),
        ("CFG scale: nan", {}, "ordinary number"),
        ("Seed: 99999999999999999999", {}, "at most"),
        ("Clip skip: 40", {}, "at most 12"),
        ("Size: 500x700", {"width": 496, "height": 704}, "500x700 became 496x704"),
        ("Size: 4096x1024", {"width": 2048, "height": 512}, "became 2048x512"),
        ("Size: 8x8", {"width": 64, "height": 64}, "became 64x64"),
        ("Size: 0x512", {}, "no size"),
        ("Size: large", {}, "no size"),
        ("Sampler: DPM++ 2S a Karras", {"schedule": "karras"}, "'DPM++ 2S a Karras'"),
        ("Sampler: DPM++ SDE", {"sampler": "DPM++ SDE"}, "twice the steps"),
        ("Sampler: LMS, Schedule type: Automatic", {"sampler": "LMS"}, "names no schedule"),
        ("Schedule type: Simple", {}, "no schedule like 'Simple'"),
        ("RNG: NV", {}, "another device (NV)"),
        (
            "Denoising strength: 0.5, Mask blur: 6",
            {"strength": 0.5, "mask_blur": 6},
            "which is not in the text",
        ),
        ("Conditional mask weight: 1.0", {}, "made from is not taken over: Conditional mask"),
        ('ControlNet 0: "Module: canny, Model: x [ab]"', {}, "ControlNet 0"),
        ("Refiner switch at: 0.8", {}, "The refiner's part is not taken over"),
        ("ADetailer model: x, ADetailer confidence: 0.3", {}, "ADetailer model, ADetailer conf"),
        ("ENSD: 31337, Eta: 0.5", {}, "not used here: ENSD, Eta."),
        ("Model: " + "m" * 300, {}, "at most 200"),
    ],
)
def test_what_is_changed_or_dropped_is_said_in_one_sentence(
    field: str, values: dict[str, Any], says: str
) -> None:
    found = read(field)
    rest = {"prompt": "a ball", "negative_prompt": "", "clip_skip": 1}
    if field.startswith("Clip skip"):
        del rest["clip_skip"]
    assert found.request == rest | values
    assert len(found.report) == 1
    assert says in found.report[0]


@pytest.mark.parametrize("named", ["fine", "fine [0123456789]"])
def test_the_refiner_is_taken_over_without_its_hash(named: str) -> None:
    found = read(f"Refiner: {named}, Refiner switch at: 0.7")
    assert (found.request["refiner"], found.request["refiner_start"]) == ("fine", 0.7)
    assert found.report == ()


def test_the_denoising_strength_of_hires_fix_is_its_own() -> None:
    found = read("Hires upscale: 2, Hires steps: 5, Denoising strength: 0.4")
    assert found.report == (
        "A second, larger pass (hires fix) is not taken over:"
        " Hires upscale, Hires steps, Denoising strength.",
    )


@pytest.mark.parametrize(
    ("fields", "name", "digits"),
    [
        ("Model: a, Model hash: 0123ABCD", "a", "0123abcd"),
        ("Model hash: 0123456789", None, "0123456789"),
        ("Model: a", "a", None),
        ("Model: a, Model hash: ?", "a", None),
        ('Model: a, Hashes: {"model": "0123456789", "lora:x": "ab"}', "a", "0123456789"),
        (
            'Civitai resources: [{"type": "checkpoint", "modelName": "Sea, 2: x"}]',
            "Sea, 2: x",
            None,
        ),
    ],
)
def test_the_model(fields: str, name: str | None, digits: str | None) -> None:
    found = read(fields)
    assert found.request.get("model") == name
    assert found.model_hash == digits
    assert found.report == ()


OLD_A1111 = """a red ball on the beach, (evening light:1.2)
Negative prompt: blur,
noise
Steps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 965400086, Size: 512x768, \
Model hash: 81761151, Denoising strength: 0.7, Hires upscale: 2, Hires upscaler: Latent"""

NEW_A1111 = """a red ball <lora:soft light:0.6>
Negative prompt: blur
Steps: 28, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 42, Size: 832x1216, \
Model hash: 0123456789, Model: beach_v2, Clip skip: 2, \
Lora hashes: "soft light: 0123456789ab", Version: v1.10.1"""

FORGE = """a red ball
Steps: 20, Sampler: Euler, Schedule type: Simple, CFG scale: 1, Distilled CFG Scale: 3.5, \
Seed: 7, Size: 896x1152, Model hash: aabbccddee, Model: some-dev, Version: f2.0.1v1.10.1, \
Diffusion in Low Bits: Automatic (fp16 LoRA), Module 1: ae, Module 2: clip_l"""

CIVITAI = """a red ball
Negative prompt: blur
Steps: 30, CFG scale: 4, Sampler: Euler a, Seed: 99, Size: 832x1216, Clip skip: 2, \
Created Date: 2024-11-21T10:00:00.123Z, Civitai resources: [{"type":"checkpoint",\
"modelVersionId":1,"modelName":"Sea, v2","modelVersionName":"v1.0"},{"type":"lora","weight":0.8,\
"modelVersionId":2,"modelName":"Soft: light","modelVersionName":"x"}], Civitai metadata: {}"""


@pytest.mark.parametrize(
    ("text", "values", "report"),
    [
        (
            OLD_A1111,
            {
                "prompt": "a red ball on the beach, (evening light:1.2)",
                "negative_prompt": "blur,\nnoise",
                "width": 512,
                "height": 768,
                "steps": 20,
                "cfg": 7.0,
                "sampler": "DPM++ 2M",
                "schedule": "karras",
                "seed": 965400086,
                "clip_skip": 1,
            },
            ["hires fix"],
        ),
        (
            NEW_A1111,
            {
                "prompt": "a red ball ",
                "negative_prompt": "blur",
                "width": 832,
                "height": 1216,
                "steps": 28,
                "cfg": 6.5,
                "sampler": "DPM++ 2M",
                "schedule": "karras",
                "seed": 42,
                "clip_skip": 2,
                "model": "beach_v2",
            },
            ["soft light"],
        ),
        (
            FORGE,
            {
                "prompt": "a red ball",
                "negative_prompt": "",
                "width": 896,
                "height": 1152,
                "steps": 20,
                "cfg": 1.0,
                "guidance": 3.5,
                "sampler": "Euler",
                "seed": 7,
                "clip_skip": 1,
                "model": "some-dev",
            },
            ["'Simple'", "Diffusion in Low Bits, Module 1, Module 2."],
        ),
        (
            CIVITAI,
            {
                "prompt": "a red ball",
                "negative_prompt": "blur",
                "width": 832,
                "height": 1216,
                "steps": 30,
                "cfg": 4.0,
                "sampler": "Euler a",
                "seed": 99,
                "clip_skip": 2,
                "model": "Sea, v2",
            },
            ["Civitai's resources are not looked up: Soft: light."],
        ),
    ],
)
def test_texts_of_other_tools(text: str, values: dict[str, Any], report: list[str]) -> None:
    found = read_infotext(text)
    assert {key: value for key, value in found.request.items() if key != "loras"} == values
    assert len(found.report) == len(report)
    assert all(says in sentence for says, sentence in zip(report, found.report, strict=True))
