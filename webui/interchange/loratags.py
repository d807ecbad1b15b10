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

from webui.interchange.sparse import listed

_TAG = re.compile(r"<(lora|lyco|hypernet):([^<>]+)>")
"""Without `<` inside, so that a text of many openings is read in linear time."""

_PARTS = ("te", "unet", "dyn")


@dataclass(frozen=True)
class Untagged:
    """A prompt without its tags.

    Attributes:
        loras: JSON values of `webui.request.LoraChoice`, in the order of their tags.
    """

    text: str
    loras: tuple[dict[str, Any], ...]
    report: tuple[str, ...]


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
    return Untagged(text, tuple(loras), tuple(report))


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
