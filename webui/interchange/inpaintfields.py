"""The fields of an infotext about the picture it was made from, in A1111's words."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from webui.request import GenerationRequest, InpaintFill

_STRENGTH = "Denoising strength"
_NUMBERS: Mapping[str, str] = MappingProxyType(
    {_STRENGTH: "strength", "Mask blur": "mask_blur", "Masked area padding": "inpaint_padding"}
)
_AREA, _ONLY_MASKED = "Inpaint area", "Only masked"
_CONTENT = "Masked content"
_CONTENTS: Mapping[str, InpaintFill] = MappingProxyType(
    {"original": "original", "fill": "blur", "latent noise": "noise"}
)


def fields_of(request: GenerationRequest) -> dict[str, Any]:
    """The fields of a request that starts from a picture; `None` is to be left out."""
    if request.init is None:
        return {_STRENGTH: None}
    fields: dict[str, Any] = {_STRENGTH: request.strength}
    if request.mask is None and not any(request.outpaint):
        return fields
    # What is filled with the colours around it has no word of its own.
    fill = "blur" if request.inpaint_fill == "colour" else request.inpaint_fill
    only_masked = request.inpaint_area == "masked"
    return fields | {
        "Mask blur": request.mask_blur,
        _AREA: _ONLY_MASKED if only_masked else None,
        "Masked area padding": request.inpaint_padding if only_masked else None,
        _CONTENT: None
        if fill == "original"
        else next(word for word, ours in _CONTENTS.items() if ours == fill),
    }


def values_of(fields: dict[str, str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Values of our request that are still to be checked, taken out of the fields; and a sentence.

    A strength beside the fields of hires fix is that of its second pass, and is left there.
    """
    if any(key.startswith("Hires ") for key in fields):
        return {}, ()
    known = [key for key in (*_NUMBERS, _AREA, _CONTENT) if key in fields]
    values: dict[str, Any] = {
        ours: fields.pop(theirs) for theirs, ours in _NUMBERS.items() if theirs in fields
    }
    if fields.get(_AREA) in (_ONLY_MASKED, "Whole picture"):
        values["inpaint_area"] = "masked" if fields.pop(_AREA) == _ONLY_MASKED else "whole"
    if fields.get(_CONTENT) in _CONTENTS:
        values["inpaint_fill"] = _CONTENTS[fields.pop(_CONTENT)]
    if not known:
        return {}, ()
    return values, ("It was made from a picture, which is not in the text: choose it again.",)
