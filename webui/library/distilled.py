"""Which models and LoRAs make a picture in a few steps, by what they say or are called."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

DistilledName = Literal["lightning", "turbo", "lcm", "hyper", "schnell", "klein"]

_SAID = ("modelspec.title", "ss_output_name")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_GAP = re.compile(r"[^a-z0-9]+")
_STEPS = re.compile(r"(?<![0-9])(1|2|4|6|8|12|16) ?s(?:teps?)?(?![a-z])")
_GUIDED = re.compile(r"\bcfg\b")

_NAMES: tuple[tuple[DistilledName, re.Pattern[str], int], ...] = (
    ("lightning", re.compile(r"lightning"), 6),
    ("hyper", re.compile(r"\bhyper(?! ?real)(?:\b| ?sd|[0-9])"), 8),
    ("lcm", re.compile(r"\blcm"), 6),
    # Distribution matching distillation, which is sampled as a consistency model.
    ("lcm", re.compile(r"\bdmd ?2"), 4),
    (
        "turbo",
        re.compile(r"\b(?:sd|stable ?diffusion)(?: ?xl| ?3 ?5(?: ?l(?:arge)?)?)? ?turbo"),
        4,
    ),
    ("turbo", re.compile(r"turbo"), 8),
)
"""Names, how they are found in words, and the steps where none are said."""

_LORA = re.compile(r"\b(?:lora|sd ?xl|sd ?15|alpha)\b")
"""Words that a LoRA has beside such a name when that is no motif, as a bolt of lightning is."""


@dataclass(frozen=True)
class Distilled:
    """A model that was distilled.

    Attributes:
        steps: How many it was made for.
        guided: Whether it was made so that CFG still acts.
    """

    name: DistilledName
    steps: int
    guided: bool = False


SDXL_TURBO = Distilled("turbo", 4)
"""What the name of SDXL Turbo itself says, where a model of SDXL has it."""


def read_distilled(
    metadata: Mapping[str, str], stem: str, *, is_lora: bool = False
) -> Distilled | None:
    """What a file's metadata, then its name without suffix, say; None where they do not.

    Args:
        is_lora: A LoRA is taken for one only if its name leaves no doubt.
    """
    for text in _texts(metadata, stem):
        words = as_words(text)
        steps = _STEPS.search(words)
        for name, pattern, usual in _NAMES:
            if pattern.search(words) and (not is_lora or steps or _LORA.search(words)):
                guided = name == "hyper" and _GUIDED.search(words) is not None
                return Distilled(name, int(steps[1]) if steps else usual, guided)
    return None


def as_words(text: str) -> str:
    """A name in lower case with single spaces where a word ends: "sd xl turbo 1 0 fp16"."""
    return _GAP.sub(" ", _HUMP.sub(" ", text).casefold()).strip()


def _texts(metadata: Mapping[str, str], stem: str) -> Iterable[str]:
    yield from (metadata[key] for key in _SAID if key in metadata)
    yield stem
