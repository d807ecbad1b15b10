"""What of a language model is run where it is a text encoder: nothing else is read or kept.

They are published whole: with a vision tower, with an `lm_head`, and for FLUX.2 with layers behind
the last one whose output diffusers takes. Without these, a picture is the same to the bit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from torch import nn

from webui.generation.weights import build
from webui.library.pipeline_folders import sizes_within

LAYERS_READ: Mapping[str, int] = MappingProxyType({"Flux2Klein": 27, "Flux2": 30})
"""How the classes of pipelines begin that read no further than a layer, and which that is: of the
40 of Mistral Small, ComfyUI's file has 30."""

_CLASSES = frozenset(
    {
        "Mistral3ForConditionalGeneration",
        "Qwen2_5_VLForConditionalGeneration",
        "Qwen3ForCausalLM",
        "Qwen3Model",
    }
)
_NOT_RUN = ("lm_head", "visual", "vision_tower", "multi_modal_projector")
"""Modules of these classes."""

_NAMES_NOT_RUN = (*(f"{module}." for module in _NOT_RUN), "output.")
"""How names of tensors begin: the last is llama.cpp's for an `lm_head`."""

_LAST_NORM = ("norm.weight", "output_norm.weight")
_LAYER = re.compile(r"(?:layers|blk)\.(\d+)\.")
"""In transformers' names and in llama.cpp's."""

_FOREIGN_STARTS = re.compile(r"^(?:(?:text_model|transformer|model|language_model)\.)+")


def plain_name(name: str) -> str:
    """A tensor's name without what programs put before those of the same text encoder."""
    return _FOREIGN_STARTS.sub("", name)


def is_language_model(kind: str) -> bool:
    """Whether a class of text encoders is one of language models."""
    return kind in _CLASSES


class PromptReader:
    """A text encoder, as far as it is run to read prompts."""

    def __init__(self, kind: str, config: Mapping[str, Any], pipeline: str) -> None:
        """By its class, its configuration, and the class of the pipeline that it reads for."""
        self._config = config
        self._is_language_model = is_language_model(kind)
        read = next((n for start, n in LAYERS_READ.items() if pipeline.startswith(start)), None)
        has = sizes_within(config).get("num_hidden_layers")
        is_longer = read is not None and isinstance(has, int) and has > read
        self._layers = read if is_longer and self._is_language_model else None

    def runs(self, name: str) -> bool:
        """Whether a tensor has a part in what is read; `name` as in any file of the encoder's."""
        if not self._is_language_model:
            return True
        plain = plain_name(name)
        if plain.startswith(_NAMES_NOT_RUN):
            return False
        if self._layers is None:
            return True
        layer = _LAYER.match(plain)
        return plain not in _LAST_NORM and (layer is None or int(layer[1]) < self._layers)

    def build(self, cls: Any) -> Any:
        """The network of that class, without weights yet and without what is not run."""
        config = cls.config_class.from_dict(dict(self._config))
        if not self._is_language_model:
            return build(lambda: cls(config))
        # There will be no `lm_head` to share a weight with.
        config.tie_word_embeddings = False
        network: Any = build(lambda: cls(config))
        for holder in (network, getattr(network, "model", network)):
            for module in _NOT_RUN:
                if hasattr(holder, module):
                    setattr(holder, module, nn.Identity())
        if self._layers is not None:
            decoder = network.get_decoder()
            decoder.layers = decoder.layers[: self._layers]
            # It would change what comes out of the layer that is the last one now.
            decoder.norm = nn.Identity()
        return network
