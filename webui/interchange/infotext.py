"""A1111's infotext, the text under a picture that other tools read as its `parameters`.

The prompt, a line `Negative prompt: ...` and one last line of fields `Key: value, ...`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType

from webui.request import GenerationRequest, SamplerName, ScheduleName

SCHEDULE_TYPES: Mapping[ScheduleName, str] = MappingProxyType(
    {
        "normal": "Normal",
        "karras": "Karras",
        "exponential": "Exponential",
        "beta": "Beta",
        "sgm uniform": "SGM Uniform",
    }
)
"""Our schedules in A1111's spelling."""

SAMPLERS_RENAMED: Mapping[SamplerName, str] = MappingProxyType({"PNDM": "PLMS"})
"""Samplers that A1111 calls otherwise; all others have the same name or none there."""


def write_infotext(request: GenerationRequest, *, model_hash: str, version: str) -> str:
    """The infotext of one picture, from the request that makes it alone.

    Args:
        request: Size and seed filled in; what is `None` is left out.
        model_hash: First 10 hex digits of the SHA-256 of the model's file (AutoV2).
        version: Name and version of the program.
    """
    size = None if request.width is None else f"{request.width}x{request.height}"
    fields = {
        "Steps": request.steps,
        "Sampler": SAMPLERS_RENAMED.get(request.sampler, request.sampler),
        "Schedule type": SCHEDULE_TYPES[request.schedule],
        "CFG scale": int(request.cfg) if request.cfg.is_integer() else request.cfg,
        "Seed": request.seed,
        "Size": size,
        "Model hash": model_hash,
        "Model": request.model,
        "Clip skip": None if request.clip_skip == 1 else request.clip_skip,
        "RNG": "CPU",
        "Version": version,
    }
    negative = request.negative_prompt and f"Negative prompt: {request.negative_prompt}"
    last_line = ", ".join(
        key if key == value else f"{key}: {_quoted(str(value))}"
        for key, value in fields.items()
        if value is not None
    )
    return "\n".join(part for part in (request.prompt, negative, last_line) if part)


def _quoted(value: str) -> str:
    if any(mark in value for mark in ",\n:"):
        return json.dumps(value, ensure_ascii=False)
    return value
