"""Which models and LoRAs make a picture in a few steps, by what they say or are called."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

DistilledName = Literal["lightning", "turbo", "lcm", "hyper", "distill", "schnell", "klein"]

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
    ("distill", re.compile(r"\bqwen ?image distill"), 15),
)
"""Names, how they are found in words, and the steps where none are said."""

_MAKER = (
    r"(?:(?:sd|stable ?diffusion)(?: ?xl| ?1 ?5| ?v1 ?5| ?3(?: ?5)?(?: ?(?:l|large|medium))?)?"
    r"|xl|flux(?: ?1)?(?: ?dev)?|flux ?2(?: ?dev)?|qwen ?image)"
)
_METHOD = r"(?:lightning|hyper|turbo)"
_PUBLISHED = re.compile(
    # Only a method has the model's name or "LoRA" right beside it, and no further word after that.
    rf"(?:\b{_MAKER} ?{_METHOD}|\b{_METHOD} ?{_MAKER}|^{_METHOD} lora|\bturbo alpha)"
    r"(?: (?:lora|alpha|beta|cfg|unet|comfy ?ui|fp16|bf16|rank ?\d+|r\d+|v?\d+))*$"
    r"|\blcm|\bdmd ?2|\bqwen ?image distill"
)
"""How a LoRA is called that was made for few steps, where it does not say how many they are: the
same words are motifs too, as in a bolt of lightning."""

_OWN = re.compile(
    rf"(?:byte ?dance )?(?:{_MAKER} lightning|hyper {_MAKER})"
    r"(?: \d ?steps?)?(?: (?:unet|x0|comfy ?ui|fp16))*"
)
"""How the files of those who made Lightning and Hyper are called, from which others merge."""

_FAINT = re.compile(r"\bhyper (?:flux|sd ?3)")
"""LoRAs that work at an eighth of their strength, as their card says."""


@dataclass(frozen=True)
class Distilled:
    """A model or LoRA that was distilled.

    Attributes:
        steps: How many it was made for.
        guided: Whether it was made so that CFG still acts.
        merged: Whether it is a model that somebody merged one of Lightning or Hyper into.
        strength: That of a LoRA as it was made to be used; None: the usual.
    """

    name: DistilledName
    steps: int
    guided: bool = False
    merged: bool = False
    strength: float | None = None


SDXL_TURBO = Distilled("turbo", 4)
"""What the name of SDXL Turbo itself says, where a model of SDXL has it."""


def read_distilled(
    metadata: Mapping[str, str], stem: str, *, is_lora: bool = False
) -> Distilled | None:
    """What a file's metadata, then its name without suffix, say; None where they do not.

    Args:
        is_lora: A LoRA is taken for one only if its name leaves no doubt.
    """
    for words in map(as_words, _texts(metadata, stem)):
        steps = _STEPS.search(words)
        if is_lora and not steps and not _PUBLISHED.search(words):
            continue
        for name, pattern, usual in _NAMES:
            if pattern.search(words):
                return Distilled(
                    name,
                    int(steps[1]) if steps else usual,
                    guided=name == "hyper" and _GUIDED.search(words) is not None,
                    merged=name in _MERGED and not is_lora and not _OWN.fullmatch(words),
                    strength=0.125 if is_lora and _FAINT.search(words) else None,
                )
    return None


_MERGED = ("lightning", "hyper")


def as_words(text: str) -> str:
    """A name in lower case with single spaces where a word ends: "sd xl turbo 1 0 fp16"."""
    return _GAP.sub(" ", _HUMP.sub(" ", text.replace("LoRA", " lora ")).casefold()).strip()


def _texts(metadata: Mapping[str, str], stem: str) -> Iterable[str]:
    yield from (metadata[key] for key in _SAID if key in metadata)
    yield stem
