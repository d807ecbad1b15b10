"""How much the text encoders read of a prompt that is plain text, by architecture.

The backbones cut prompts here, and the page counts by the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from webui.generation.families import BackboneName


class PromptRoom(NamedTuple):
    """What a text encoder is given at once.

    Attributes:
        tokens: All of it.
        marks: Those of them for start and end, which are there however long a prompt is.
        before: What a language model is told before the prompt, as diffusers' pipeline does. What
            it is told afterwards takes no room: of a prompt that is too long, it goes first.
    """

    tokens: int
    marks: int = 0
    before: str = ""


CLIP_ROOM = PromptRoom(77, marks=2)

_USER = "<|im_start|>user\n"
_QWEN_IMAGE_TOLD = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity,"
    " text, spatial relationships of the objects and background:<|im_end|>\n"
)
_QWEN_IMAGE_DROPPED = 34
"""How many tokens that is with `_USER`, which the pipeline allows for."""
_FLUX2_TOLD = (
    "You are an AI that reasons about image descriptions. You give structured responses focusing on"
    " object relationships, object\nattribution and actions without speculation."
)

PROMPT_ROOMS: Mapping[BackboneName, PromptRoom] = MappingProxyType(
    {
        "sd3": PromptRoom(256, marks=1),
        "flux": PromptRoom(512, marks=1),
        "flux-schnell": PromptRoom(256, marks=1),
        "flux2": PromptRoom(512, before=f"<s>[SYSTEM_PROMPT]{_FLUX2_TOLD}[/SYSTEM_PROMPT][INST]"),
        "flux2-klein": PromptRoom(512, before=_USER),
        "z-image": PromptRoom(512, before=_USER),
        "qwen-image": PromptRoom(1024 + _QWEN_IMAGE_DROPPED, before=_QWEN_IMAGE_TOLD + _USER),
    }
)
"""Of the encoder that is not CLIP. Architectures that are not here weigh words, and read prompts of
any length in chunks."""
