"""LoRAs of FLUX.2, Z-Image and Qwen-Image, some of whose layers are called as FLUX.1's are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from webui.library.architectures import ModelFamily

_MARKS: Mapping[ModelFamily, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        "Flux 2": (
            "",
            (
                "to_qkv_mlp_proj",
                "ff.linear_",
                "ff_linear_",
                "context.linear_",
                "context_linear_",
                "_stream_modulation",
            ),
        ),
        "Z-Image": (
            "layers",
            (
                ".attention.",
                "_attention_to_",
                "_attention_qkv",
                "_attention_out",
                ".feed_forward.w",
                "_feed_forward_w",
                ".adaLN_",
                "_adaLN_",
            ),
        ),
        "Qwen-Image": (
            "transformer_blocks",
            ("_mlp.net", "_mlp_net", "img_mod.", "img_mod_", "txt_mod.", "txt_mod_"),
        ),
    }
)
"""What stands in the names of a family's layers, and one of what stands only in its own beside."""

_FLUX_BLOCK = re.compile(r"(?:double|single)_blocks[._]\d+[._]")
_FLUX_BLOCKS = ("double_blocks", "single_blocks")
_FLUX2_WIDTHS = frozenset({4096, 6144, 9216, 16384, 18432, 24576})
"""Widths within the blocks of FLUX.2 dev and klein that FLUX.1's, of 3072, do not have."""

_SAYS_FLUX2 = re.compile(r"flux[.\- _]?2")
_SAYING = ("ss_base_model_version", "modelspec.architecture")

_DEEP = re.compile(r"(?<!single_)transformer_blocks[._](?:19|[2-5]\d)[._]attn[._]")
"""FLUX.1 has 19 such blocks, SD 3.5 up to 38, but of another width."""

_QWEN_WIDTH = 3072
_Z_IMAGE_WIDTHS = frozenset({256, 3840, 10240})
"""Of its modulation, its stream and within its feed-forward; Lumina 2 has others."""


def newer_family(
    names: str, read: Sequence[tuple[str, int]], said: Mapping[str, str]
) -> ModelFamily | None:
    """The family, if it is one of these.

    Args:
        names: All of the file's tensors, their digits left out.
        read: Names of tensors, and the width of what goes into their layers.
        said: The file's metadata.
    """
    for family, (everywhere, marks) in _MARKS.items():
        if everywhere in names and any(mark in names for mark in marks):
            widths = {width for _, width in read}
            strange = family == "Z-Image" and widths and not widths & _Z_IMAGE_WIDTHS
            return "unknown" if strange else family
    if any(blocks in names for blocks in _FLUX_BLOCKS):
        widths = {width for name, width in read if _FLUX_BLOCK.search(name)}
        says = any(_SAYS_FLUX2.search(said.get(key, "").casefold()) for key in _SAYING)
        return "Flux 2" if widths & _FLUX2_WIDTHS or says else None
    deep = {width for name, width in read if _DEEP.search(name)}
    return "Qwen-Image" if deep == {_QWEN_WIDTH} else None
