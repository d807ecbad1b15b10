"""The vectors of textual-inversion embeddings, put into a text encoder while it encodes.

Neither tokenizer nor encoder grows: a prompt's tokens hold placeholders, and what the encoder's
table gives for them is replaced on its way (Gal et al., arXiv 2208.01618).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from webui.errors import BrokenFileError
from webui.generation.prompts import EmbeddedWord


class Place(NamedTuple):
    """Where one vector of an embedding stands among the tokens that are encoded together."""

    chunk: int
    column: int
    word: EmbeddedWord
    vector: int


@contextmanager
def embedded(text_encoder: Any, places: Sequence[Place]) -> Generator[None]:
    """Has the encoder see the vectors at their places; it is as before afterwards.

    Raises:
        BrokenFileError: A file has gone, is damaged or holds nothing for this encoder.
    """
    if not places:
        yield
        return
    width: int = text_encoder.config.hidden_size
    rows = {word: read_vectors(word, width) for word in {place.word for place in places}}

    def put(_: Any, __: Any, output: torch.Tensor) -> torch.Tensor:
        seen = output.clone()
        for chunk, column, word, vector in places:
            seen[chunk, column] = rows[word][vector].to(seen)
        return seen

    handle = text_encoder.get_input_embeddings().register_forward_hook(put)
    try:
        yield
    finally:
        handle.remove()


def read_vectors(word: EmbeddedWord, width: int) -> torch.Tensor:
    """What an embedding has for a text encoder of that width, of shape (vectors, width).

    Raises:
        BrokenFileError: The file has gone, is damaged or holds nothing of the kind.
    """
    try:
        tensors = load(word.path.read_bytes()).values()
    except (OSError, SafetensorError):
        raise BrokenFileError(
            f"The embedding {word.name!r} cannot be read: fetch its file again.", field="prompt"
        ) from None
    for tensor in tensors:
        vectors = tensor.reshape(-1, tensor.shape[-1])
        if vectors.shape == (word.vectors, width):
            if not torch.isfinite(vectors).all():
                break
            return vectors
    raise BrokenFileError(
        f"The embedding {word.name!r} holds no usable vectors for a text encoder {width} wide: take"
        " another version of it.",
        field="prompt",
    )
