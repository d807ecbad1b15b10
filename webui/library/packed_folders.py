"""Who has packed the weights of a model in diffusers' layout, by what its configurations say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

BITSANDBYTES = "bitsandbytes"
"""What is unpacked here as it is read; nothing else is."""


def packed_by(part: Path) -> str | None:
    """The name of the package that has packed a part's weights; None where they are plain.

    Args:
        part: The part's folder.
    """
    try:
        said: Any = json.loads((part / "config.json").read_bytes())
        how: Any = cast(dict[str, Any], said).get("quantization_config")
    except (OSError, ValueError, RecursionError, AttributeError):
        return None
    if not isinstance(how, dict):
        return None
    method = str(cast(dict[str, Any], how).get("quant_method", "an unknown program"))
    return BITSANDBYTES if method.startswith(BITSANDBYTES) else method[:40]


def packed_problem(method: str | None) -> str | None:
    """Why what `packed_by` names is not read, as the rest of a sentence; None where it is."""
    if method in (None, BITSANDBYTES):
        return None
    return (
        f"is packed by {method}, which is not read here: take its bf16, fp8, GGUF or bitsandbytes"
        " version"
    )
