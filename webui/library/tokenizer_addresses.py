"""Where on the hub the tokenizers are that cannot be shipped, for those whose files lack them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from webui.library.components import COMPONENTS, Component

_ADDRESSES: Mapping[Component, str] = MappingProxyType(
    {
        "t5-xxl": "PixArt-alpha/PixArt-XL-2-1024-MS/tokenizer",
        "qwen3-4b": "black-forest-labs/FLUX.2-klein-4B/tokenizer",
        "qwen3-8b": "black-forest-labs/FLUX.2-klein-4B/tokenizer",
        "qwen2.5-vl-7b": "Qwen/Qwen-Image/tokenizer",
        "mistral-small": "black-forest-labs/FLUX.2-dev/tokenizer",
    }
)
"""Of text encoders; where several models have the same, of one that wants no account."""


def tokenizer_address(config: str, part: str) -> str | None:
    """The hub's "owner/name/folder" of a tokenizer; None where it is shipped or not known.

    Args:
        config: Name of a shipped configuration, such as "flux-dev".
        part: What diffusers calls the tokenizer, such as "tokenizer_2".
    """
    encoder = part.replace("tokenizer", "text_encoder")
    return _ADDRESSES.get(COMPONENTS.get(config, {}).get(encoder, "clip-l"))
