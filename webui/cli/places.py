"""Flags that say where things are and how far they may go, for commands that make pictures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from webui.errors import StartError
from webui.levels import LEVELS
from webui.settings import (
    GIB,
    AttentionName,
    DeviceName,
    DtypeName,
    PlanName,
    Settings,
)

MEMORIES = ("auto", *get_args(PlanName))


def add_places(parser: argparse.ArgumentParser) -> None:
    """Gives the parser the flags."""
    defaults = Settings()
    parser.add_argument(
        "--models", type=Path, default=defaults.models, metavar="DIR", help="folder of models"
    )
    parser.add_argument(
        "--loras",
        # Apart from the request's field of the same name.
        dest="lora_folder",
        type=Path,
        default=defaults.loras,
        metavar="DIR",
        help="folder of LoRAs",
    )
    parser.add_argument(
        "--no-hub-cache",
        action="store_true",
        help="show only models of these folders, none of the Hugging Face cache",
    )
    parser.add_argument(
        "--wildcards",
        type=Path,
        default=defaults.wildcards,
        metavar="DIR",
        help="folder of lists that prompts draw from as __name__",
    )
    parser.add_argument(
        "--device", choices=get_args(DeviceName), default="auto", help="what to compute on"
    )
    parser.add_argument(
        "--dtype",
        choices=get_args(DtypeName),
        default="auto",
        help="number format of the weights; auto: the fastest the device has units for",
    )
    parser.add_argument(
        "--attention",
        choices=get_args(AttentionName),
        default=defaults.attention,
        help="how attention is computed; auto: the fastest exact way that works here",
    )
    parser.add_argument(
        "--memory",
        choices=MEMORIES,
        default=defaults.memory,
        help="how models lie in memory, from fast to lean; auto: planned by what is free",
    )
    parser.add_argument(
        "--keep-models",
        type=_gib,
        default=defaults.keep_models_bytes,
        metavar="GIB",
        help="memory for models kept beside the one in use, to switch back at once; unless given:"
        " what leaves half of the device's memory free",
    )
    parser.add_argument(
        "--max-level",
        type=int,
        choices=LEVELS,
        help="hold the filter at this level or a stricter one, whatever the policy allows",
    )


def settings_of(options: argparse.Namespace, outputs: Path) -> Settings:
    """The settings that the flags name.

    Raises:
        StartError: There is no such folder of models.
    """
    if not options.models.is_dir():
        raise StartError(f"The models folder {options.models} does not exist: create it first.")
    return Settings(
        models=options.models,
        loras=options.lora_folder,
        hub_cache=not options.no_hub_cache,
        wildcards=options.wildcards,
        outputs=outputs,
        device=options.device,
        dtype=options.dtype,
        attention=options.attention,
        memory=options.memory,
        keep_models_bytes=options.keep_models,
        max_level=options.max_level,
    )


def _gib(text: str) -> int:
    """Bytes of a number of GiB.

    Raises:
        ValueError: It is no number, or below 0.
    """
    number = float(text)
    if not 0 <= number < float("inf"):
        raise ValueError(text)
    return round(number * GIB)
