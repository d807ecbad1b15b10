"""Models to begin with, by what the machine can carry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from webui.settings import GIB

Rank = Literal["small", "standard", "large"]


@dataclass(frozen=True)
class Default:
    """A model to begin with.

    Attributes:
        source: What `webui.library.sources.source_of` takes.
        size: About so many bytes are downloaded.
        memory: Bytes of graphics memory with which it is good to use.
        licence: Its name, as its publisher has it.
    """

    rank: Rank
    name: str
    source: str
    size: int
    memory: int
    licence: str


DEFAULTS = (
    Default(
        "small",
        "Stable Diffusion 1.5",
        "Comfy-Org/stable-diffusion-v1-5-archive/v1-5-pruned-emaonly-fp16.safetensors",
        2_130_000_000,
        3 * GIB,
        "CreativeML OpenRAIL-M",
    ),
    Default(
        "standard",
        "Stable Diffusion XL 1.0",
        "stabilityai/stable-diffusion-xl-base-1.0/sd_xl_base_1.0.safetensors",
        6_940_000_000,
        6 * GIB,
        "CreativeML Open RAIL++-M",
    ),
    Default(
        "large",
        "FLUX.2 klein 4B",
        "black-forest-labs/FLUX.2-klein-4B/model_index.json",
        16_000_000_000,
        12 * GIB,
        "Apache 2.0",
    ),
)
"""From the smallest to the largest; none of them wants an account.

Looked up in the hub's pages, 2026: single files of 2.13 and 6.94 GB; of the folder a transformer of
7.75 GB and a text encoder of 8.05 GB in two parts. The mark of Apache's licence is on klein 4B
alone: its larger kin, and FLUX.1, are given only to those who have agreed to their terms.
"""


def fitting(memory: int | None) -> tuple[Default, ...]:
    """Those that the memory carries, the best last; none without a graphics card.

    Args:
        memory: Of the graphics card, in bytes.
    """
    # What a card calls 8 GB is often a little less.
    room = (memory or 0) * 1.05
    return tuple(one for one in DEFAULTS if one.memory <= room)
