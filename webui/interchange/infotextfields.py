"""The fields of an infotext by what they mean for our request.

Each function takes what it reads out of the dict of fields; `rest_of_fields` tells what is left.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, cast

from webui.interchange.samplernames import read_sampler, read_schedule
from webui.interchange.sparse import limit_of, listed, shortened

_NUMBERS: Mapping[str, str] = MappingProxyType(
    {
        "Steps": "steps",
        "CFG scale": "cfg",
        "Distilled CFG Scale": "guidance",
        "Seed": "seed",
        "Clip skip": "clip_skip",
    }
)

_SIZE = re.compile(r"([0-9]{1,7})\s*[xX]\s*([0-9]{1,7})")
_HASH = re.compile(r"(?:0x)?([0-9a-fA-F]{8,64})")
_EMBEDDING = "embed:"
"""How the names of embeddings begin among Civitai's hashes."""

_HASH_BEHIND = re.compile(r" \[[0-9a-fA-F]{8,64}\]$")
"""How the name of A1111's refiner ends."""

_NO_VAE = frozenset({"none", "automatic"})
"""How A1111 calls the model's own."""

_SAY_NOTHING_OF_THE_PICTURE = frozenset(
    {
        "Civitai metadata",
        "Created Date",
        "Hashes",
        "Lora hashes",
        "TI hashes",
        "User",
        "VAE hash",
        "Version",
    }
)

_SECOND_PASS = "A second, larger pass (hires fix)", re.compile(r"Hires |Denoising strength$")
_PICTURE = (
    "The picture it was made from",
    re.compile(r"Denoising strength$|Mask|Inpaint|Init image|Conditional mask|Soft inpainting"),
)
_OTHER_GROUPS = (
    ("What ControlNet steered by", re.compile(r"ControlNet")),
    ("The refiner's part", re.compile(r"Refiner")),
    ("ADetailer's repainting", re.compile(r"ADetailer")),
)


def model_of(fields: dict[str, str]) -> tuple[str | None, str | None]:
    """Name and hash (8 to 64 hex digits) of the model, where the text tells them."""
    name = fields.pop("Model", None)
    stated = fields.pop("Model hash", None)
    if stated is None:
        stated = str(_json_object(fields.get("Hashes", "")).get("model", ""))
    if name is None:
        for resource in _civitai_resources(fields):
            if resource.get("type") == "checkpoint" and resource.get("modelName"):
                name = str(resource["modelName"])
    digits = _HASH.fullmatch(stated)
    return name, None if digits is None else digits[1].casefold()


def embeddings_of(fields: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Name and hash (8 to 64 hex digits) of each embedding that the text tells of."""
    named = [one.rpartition(":")[::2] for one in fields.get("TI hashes", "").split(",")]
    for key, digits in _json_object(fields.get("Hashes", "")).items():
        if key.startswith(_EMBEDDING):
            named.append((key.removeprefix(_EMBEDDING), str(digits)))
    found: dict[str, str] = {}
    for name, stated in named:
        digits = _HASH.fullmatch(stated.strip())
        if digits is not None and name.strip():
            found.setdefault(name.strip(), digits[1].casefold())
    return tuple(found.items())


def settings_of(fields: dict[str, str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Values of our request that are still to be checked, and what had to be changed."""
    values: dict[str, Any] = {
        ours: fields.pop(theirs) for theirs, ours in _NUMBERS.items() if theirs in fields
    }
    if "Refiner" in fields:
        values["refiner"] = _HASH_BEHIND.sub("", fields.pop("Refiner"))
        if "Refiner switch at" in fields:
            values["refiner_start"] = fields.pop("Refiner switch at")
    vae = fields.pop("VAE", None)
    if vae is not None and vae.casefold() not in _NO_VAE:
        values["vae"] = vae
    if values.get("seed") == "-1":
        del values["seed"]
    size, size_report = _size(fields.pop("Size", None))
    sampling, sampling_report = _sampling(fields)
    return values | size | sampling, (*size_report, *sampling_report)


def rest_of_fields(fields: dict[str, str]) -> tuple[str, ...]:
    """Sentences about the fields that no other function has taken out."""
    report: list[str] = []
    noise = fields.pop("RNG", "CPU")
    if noise != "CPU":
        report.append(
            f"Its noise was drawn on another device ({shortened(noise)}), so that the same seed"
            " makes another picture here."
        )
    resources = [resource for resource in _civitai_resources(fields) if _is_no_checkpoint(resource)]
    if resources:
        names = listed(str(r.get("modelName") or r.get("air") or r.get("type")) for r in resources)
        report.append(f"Civitai's resources are not looked up: {names}.")
    fields.pop("Civitai resources", None)
    remaining = [key for key in fields if key not in _SAY_NOTHING_OF_THE_PICTURE]
    # Both passes and pictures to start from have a denoising strength.
    two_passes = any(key.startswith("Hires ") for key in remaining)
    first = (_SECOND_PASS, _PICTURE) if two_passes else (_PICTURE, _SECOND_PASS)
    for subject, pattern in (*first, *_OTHER_GROUPS):
        named = [key for key in remaining if pattern.match(key)]
        if named:
            report.append(f"{subject} is not taken over: {listed(named)}.")
            remaining = [key for key in remaining if key not in named]
    if remaining:
        report.append(f"Fields that are not used here: {listed(remaining)}.")
    return tuple(report)


def _size(text: str | None) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Width and height in pixels, made to fit; nothing where the text is no size."""
    if text is None:
        return {}, ()
    match = _SIZE.fullmatch(text)
    if match is None or not int(match[1]) or not int(match[2]):
        return {}, (f"Left out: Size is {shortened(text)!r}, which is no size.",)
    width, height = int(match[1]), int(match[2])
    least, most = limit_of("width", "ge"), limit_of("width", "le")
    step = limit_of("width", "multiple_of")
    scale = min(1.0, most / max(width, height))
    fitting = [max(least, round(side * scale / step) * step) for side in (width, height)]
    size = {"width": fitting[0], "height": fitting[1]}
    if fitting == [width, height]:
        return size, ()
    made = f"{fitting[0]}x{fitting[1]}"
    return size, (
        f"Size {width}x{height} became {made}: sides are multiples of {step}"
        f" from {least} to {most}.",
    )


def _sampling(fields: dict[str, str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Sampler and schedule, the latter from its own field or from the sampler's name."""
    values: dict[str, Any] = {}
    report: list[str] = []
    name, kind = fields.pop("Sampler", None), fields.pop("Schedule type", None)
    if name is not None:
        sampler, schedule = read_sampler(name)
        if sampler is None:
            report.append(f"Left out: there is no sampler like {shortened(name)!r} here.")
        else:
            values["sampler"] = sampler
        if schedule is not None:
            values["schedule"] = schedule
        if sampler == "DPM++ SDE" and not fields.get("Version", "").startswith("easel"):
            report.append(
                "DPM++ SDE counts both evaluations of a step here: twice the steps make the same."
            )
    if kind == "Automatic":
        report.append("Schedule type Automatic names no schedule: none was taken over.")
    elif kind is not None:
        values.pop("schedule", None)
        schedule = read_schedule(kind)
        if schedule is None:
            report.append(f"Left out: there is no schedule like {shortened(kind)!r} here.")
        else:
            values["schedule"] = schedule
    return values, tuple(report)


def _civitai_resources(fields: Mapping[str, str]) -> list[dict[str, Any]]:
    listed_there = _json(fields.get("Civitai resources", ""))
    if not isinstance(listed_there, list):
        return []
    items = cast(list[Any], listed_there)
    return [cast(dict[str, Any], item) for item in items if isinstance(item, dict)]


def _is_no_checkpoint(resource: Mapping[str, Any]) -> bool:
    return resource.get("type") != "checkpoint" or not resource.get("modelName")


def _json_object(text: str) -> dict[str, Any]:
    value = _json(text)
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}


def _json(text: str) -> object:
    """The JSON value, or `None` where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
