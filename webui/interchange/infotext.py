"""A1111's infotext, the text under a picture that other tools read as its `parameters`.

The prompt, a line `Negative prompt: ...` and one last line of fields `Key: value, ...`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from webui.errors import BadRequestError
from webui.interchange.fieldline import split_fields
from webui.interchange.infotextfields import (
    embeddings_of,
    model_of,
    rest_of_fields,
    settings_of,
)
from webui.interchange.inpaintfields import fields_of, values_of
from webui.interchange.loratags import tag_of, take_tags
from webui.interchange.samplernames import SAMPLERS_RENAMED, SCHEDULE_TYPES
from webui.interchange.sparse import keep_valid
from webui.request import GenerationRequest

MAX_TEXT_CHARACTERS = 1024**2
"""Longest infotext that is read."""

_FEWEST_FIELDS = 3
"""A last line with fewer is part of the prompt."""

_HASH_MARKS = re.compile(r"[:,]")
"""What separates names and hashes, and so is left out of names."""

_NEGATIVE = "Negative prompt:"
_NEGATIVE_LINE = re.compile(rf"^{_NEGATIVE} ?", re.MULTILINE)


@dataclass(frozen=True)
class ReadInfotext:
    """A foreign recipe as our own.

    Attributes:
        request: Sparse request of JSON values; the model's name is the text's own.
        report: One sentence for each thing that was changed, dropped or not understood.
        model_hash: Hex digits of the model's hash as far as the text tells them, 8 to 64.
        has_fields: Whether there was a line of fields, and not a mere prompt.
        embeddings: Names of the embeddings in its prompts, with the first digits of the SHA-256 of
            each one's file (8 to 64).
    """

    request: dict[str, Any]
    report: tuple[str, ...]
    model_hash: str | None
    has_fields: bool
    embeddings: tuple[tuple[str, str], ...] = ()


def write_infotext(
    request: GenerationRequest,
    *,
    model_hash: str,
    version: str,
    lora_hashes: Mapping[str, str] = MappingProxyType({}),
    embedding_hashes: Mapping[str, str] = MappingProxyType({}),
    refiner_hash: str | None = None,
    vae_hash: str | None = None,
) -> str:
    """The infotext of one picture, from the request that makes it alone.

    LoRAs become tags right behind the prompt, so that a reader that takes them out gets it back.

    Args:
        request: Size, seed and sampling filled in; what is `None` is left out.
        model_hash: First 10 hex digits of the SHA-256 of the model's file (AutoV2).
        version: Name and version of the program.
        refiner_hash: As `model_hash`, of the refiner's.
        vae_hash: As `model_hash`, of the VAE's.
        lora_hashes: First 12 hex digits of the SHA-256 of each LoRA's tensors (AutoV3), by name.
        embedding_hashes: As `model_hash`, of each embedding's file, by name.
    """
    size = None if request.width is None else f"{request.width}x{request.height}"
    of_picture = fields_of(request)
    fields = {
        "Steps": request.steps,
        "Sampler": request.sampler and SAMPLERS_RENAMED.get(request.sampler, request.sampler),
        "Schedule type": request.schedule and SCHEDULE_TYPES[request.schedule],
        "CFG scale": _without_point(request.cfg),
        "Distilled CFG Scale": request.guidance,
        "Seed": request.seed,
        "Size": size,
        "Model hash": model_hash,
        "Model": request.model,
        "VAE hash": vae_hash,
        "VAE": request.vae,
        "Denoising strength": of_picture.pop("Denoising strength"),
        "Clip skip": None if request.clip_skip == 1 else request.clip_skip,
        "Refiner": f"{request.refiner} [{refiner_hash}]" if refiner_hash else request.refiner,
        "Refiner switch at": None if request.refiner is None else request.refiner_start,
        "RNG": "CPU",
        **of_picture,
        "Lora hashes": _hashes(lora_hashes),
        "TI hashes": _hashes(embedding_hashes),
        "Version": version,
    }
    negative = request.negative_prompt and f"{_NEGATIVE} {request.negative_prompt}"
    last_line = ", ".join(
        key if key == value else f"{key}: {_quoted(str(value))}"
        for key, value in fields.items()
        if value is not None
    )
    prompt = request.prompt + "".join(map(tag_of, request.loras))
    return "\n".join(part for part in (prompt, negative, last_line) if part)


def read_infotext(text: str) -> ReadInfotext:
    """The recipe in an infotext, as far as it can be had.

    What `write_infotext` writes comes back as it was, down to the blanks, but for what the format
    cannot tell apart: a prompt with a line that begins with "Negative prompt:" (the first such line
    begins the negative prompt), tags `<lora:...>` (they become LoRAs), and prompts that end in a
    carriage return (a text may have been saved with lines ending in CR LF).

    With a line of fields, a negative prompt or "Clip skip" that is not there is an empty one, and
    1: this is how the format says so. Nothing else is in `request` that the text does not name.

    Raises:
        BadRequestError: The text is empty, or longer than `MAX_TEXT_CHARACTERS`.
    """
    if len(text) > MAX_TEXT_CHARACTERS:
        raise BadRequestError(f"The text is longer than {MAX_TEXT_CHARACTERS:,} characters.")
    if not text.strip():
        raise BadRequestError("There is no recipe in an empty text.")
    prompts, _, last = text.rstrip().rpartition("\n")
    line = split_fields(last)
    if len(line.fields) < _FEWEST_FIELDS:
        values, report = _prompts(text.replace("\r\n", "\n"))
        kept, refused = keep_valid(values)
        notice = "It names no settings, so that all of it was taken for the prompt."
        return ReadInfotext(kept, (notice, *report, *refused), None, has_fields=False)
    if prompts.endswith("\r"):
        prompts = prompts.removesuffix("\r").replace("\r\n", "\n")
    fields = dict(line.fields)
    if "Model" in line.bare:
        fields.setdefault("Model", "Model")
    values, report = _prompts(prompts)
    name, model_hash = model_of(fields)
    embeddings = embeddings_of(fields)
    settings, changed = settings_of(fields)
    of_picture, told = values_of(fields)
    defaults: dict[str, Any] = {"prompt": "", "negative_prompt": "", "clip_skip": 1}
    model = {} if name is None else {"model": name}
    kept, refused = keep_valid(defaults | values | settings | of_picture | model)
    report = (*report, *changed, *told, *refused, *rest_of_fields(fields))
    return ReadInfotext(kept, report, model_hash, has_fields=True, embeddings=embeddings)


def _prompts(text: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Prompt, negative prompt and LoRAs, where there are any."""
    begin = _NEGATIVE_LINE.search(text)
    positive = take_tags(text if begin is None else text[: begin.start()].removesuffix("\n"))
    values: dict[str, Any] = {"prompt": positive.text}
    report = positive.report
    if begin is not None:
        negative = take_tags(text[begin.end() :])
        values["negative_prompt"] = negative.text
        if negative.text != text[begin.end() :]:
            report += ("Tags in the negative prompt have no effect and were taken out.",)
    if positive.loras:
        values["loras"] = list(positive.loras)
    return values, report


def _hashes(digits: Mapping[str, str]) -> str | None:
    """Names with their hashes; None without any."""
    named = (f"{_HASH_MARKS.sub('', name)}: {hash}" for name, hash in digits.items())
    return ", ".join(named) or None


def _without_point(number: float | None) -> float | int | None:
    """The number as A1111 writes it where it is a whole one."""
    return int(number) if number is not None and number.is_integer() else number


def _quoted(value: str) -> str:
    """As A1111 quotes, and also what its reader would strip or take for quoted."""
    if any(mark in value for mark in ",\n:") or value != value.strip() or value.startswith('"'):
        return json.dumps(value, ensure_ascii=False)
    return value
