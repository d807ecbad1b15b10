"""A1111's tags `<lora:NAME:WEIGHT>` in prompts, taken out into a stack of LoRAs.

`<lora:NAME>`, `<lora:NAME:TE>`, `<lora:NAME:TE:UNET[:DYN]>` and the named parts `te=`, `unet=`,
`dyn=`; one number sets both, none is 1. The tag goes, the commas around it stay, as in A1111.
`lyco` is another word for `lora` there.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from webui.errors import BadRequestError
from webui.interchange.sparse import listed, shortened
from webui.request import GenerationRequest, LoraChoice, parse_request

_TAG = re.compile(r"<(lora|lyco|hypernet):([^<>]+)>")
"""Without `<` inside, so that a text of many openings is read in linear time."""

_PARTS = ("te", "unet", "dyn")


@dataclass(frozen=True)
class Untagged:
    """A prompt without its tags.

    Attributes:
        loras: JSON values of `webui.request.LoraChoice`, in the order of their tags.
        unread: The tags that were taken out and name no LoRA.
    """

    text: str
    loras: tuple[dict[str, Any], ...]
    report: tuple[str, ...]
    unread: tuple[str, ...]


def take_tags(prompt: str) -> Untagged:
    """The prompt without tags of extra networks, and the LoRAs that they name.

    Tags that cannot be read, and hypernetworks, are taken out too, since no prompt may hold tags.
    """
    loras: list[dict[str, Any]] = []
    unread: list[str] = []

    def taken(tag: re.Match[str]) -> str:
        lora = None if tag[1] == "hypernet" else _lora(tag[2])
        if lora is None:
            unread.append(tag[0])
        else:
            loras.append(lora)
        return ""

    text = _TAG.sub(taken, prompt)
    report: list[str] = []
    if loras:
        names = listed(lora["name"] for lora in loras)
        report.append(f"LoRA tags went from the prompt into the stack of LoRAs: {names}.")
    if unread:
        report.append(f"Tags that cannot be used were taken out of the prompt: {listed(unread)}.")
    return Untagged(text, tuple(loras), tuple(report), tuple(unread))


def tag_spans(prompt: str) -> tuple[tuple[int, int], ...]:
    """Where in the text each tag begins and ends."""
    return tuple(tag.span() for tag in _TAG.finditer(prompt))


def check_tags(prompt: str) -> None:
    """Passes a prompt whose tags can all be read.

    Raises:
        BadRequestError: One names no LoRA, or has a weight that is no number.
    """
    for tag in take_tags(prompt).unread:
        raise BadRequestError(
            f"The tag {shortened(tag)} in the prompt cannot be read: write it like"
            " <lora:name:0.8>.",
            field="prompt",
        )


def rows_for_tags(request: GenerationRequest) -> tuple[GenerationRequest, tuple[str, ...]]:
    """The request with its prompt's tags as further rows of the stack, and a sentence about them.

    Raises:
        BadRequestError: A tag cannot be read, or its row is out of the request's limits.
    """
    check_tags(request.prompt)
    untagged = take_tags(request.prompt)
    if not untagged.loras:
        return request, ()
    rows = [*request.model_dump()["loras"], *untagged.loras]
    return parse_request(
        request.model_dump() | {"prompt": untagged.text, "loras": rows}
    ), untagged.report


def tag_of(lora: LoraChoice) -> str:
    """The row as a tag; empty for one without effect, or of a name that no tag can hold.

    Start and end have no word there.
    """
    own = lora.text_encoder_weight
    text_encoder = lora.weight if own is None else own
    is_spelled = lora.name == lora.name.strip() and not set(lora.name) & set("<>:")
    if not (lora.has_effect and is_spelled):
        return ""
    weights = [text_encoder, lora.weight] if text_encoder != lora.weight else [lora.weight]
    return f"<lora:{lora.name}:{':'.join(map(_number, weights))}>"


def _number(value: float) -> str:
    return str(int(value) if value.is_integer() else value)


def _lora(body: str) -> dict[str, Any] | None:
    """The LoRA of a tag's body, or `None` where a part of it is not understood."""
    name, *parts = body.split(":")
    positional = [part for part in parts if "=" not in part]
    named = dict(part.split("=", 1) for part in parts if "=" in part)
    if not name.strip() or len(positional) > len(_PARTS) or not named.keys() <= set(_PARTS):
        return None
    given = dict(zip(_PARTS, positional, strict=False)) | named
    try:
        text_encoder = float(given.get("te", "1"))
        weight = float(given.get("unet", text_encoder))
    except ValueError:
        return None
    if not math.isfinite(weight) or not math.isfinite(text_encoder):
        return None
    lora: dict[str, Any] = {"name": name.strip(), "weight": weight}
    return lora if weight == text_encoder else lora | {"text_encoder_weight": text_encoder}
