"""Where a picture comes from: what is said of it in its credentials and its XMP."""

from __future__ import annotations

from typing import Any, Literal

from webui.provenance import watermark
from webui.provenance.recipe import Recipe
from webui.request import GenerationRequest

Operation = Literal["text", "image", "inpaint", "outpaint"]

VOCABULARY = "http://cv.iptc.org/newscodes/digitalsourcetype/"
"""Of digital source types; the names below are the last parts of addresses in it."""

GENERATED = "trainedAlgorithmicMedia"
COMPOSITE = "compositeWithTrainedAlgorithmicMedia"
AI_TYPES = frozenset({GENERATED, COMPOSITE})

SCHEMA = 2
"""The first one knew of no taint by models."""


def operation_of(request: GenerationRequest) -> Operation:
    """How the picture was begun."""
    if not request.init:
        return "text"
    if request.mask:
        return "inpaint"
    return "outpaint" if any(request.outpaint) else "image"


def source_type_of(request: GenerationRequest) -> str:
    """The digital source type: a picture to start from makes a composite."""
    return COMPOSITE if request.init else GENERATED


def is_partial(request: GenerationRequest) -> bool:
    """Whether parts of a picture brought in are kept as they are, pixel by pixel."""
    return operation_of(request) in ("inpaint", "outpaint")


def lineage_of(recipe: Recipe, marked_bits: int) -> dict[str, Any]:
    """What is signed: taint, operation, hashes of what went in, and how well the mark reads.

    Args:
        marked_bits: Bits of the watermark that agree in the finished picture.
    """
    request = recipe.request
    lineage: dict[str, Any] = {
        "schema": SCHEMA,
        "tainted": recipe.tainted,
        "operation": operation_of(request),
        "model": recipe.model_sha256,
        "loras": [lora.sha256 for lora in recipe.loras],
        "controls": [unit.picture for unit in request.controls if unit.picture],
        "watermark": {"id": watermark.ID, "bits": marked_bits, "partial": is_partial(request)},
    }
    brought = {"parent": request.init, "mask": request.mask}
    return lineage | {key: name for key, name in brought.items() if name}
