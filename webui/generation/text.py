"""Prompts to text embeddings with CLIP, A1111's way: weights and prompts of any length.

A prompt is cut into chunks of 75 tokens, each encoded on its own between the start and end tokens,
and the encodings are joined. Weights multiply the encoding, which is then scaled back as a whole
("Original" emphasis). An unweighted prompt of one chunk gives what diffusers' pipeline gives.
Embeddings stand for as many tokens as they have vectors, and are never parted between chunks.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch

from webui.generation.chunks import CHUNK_TOKENS, COMMA, cut, encoded_blocks
from webui.generation.embeddings import Place, embedded
from webui.generation.facts import check_clip_skip
from webui.generation.prompts import Block, EmbeddedWord, ParsedPrompt, Segment

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

_CENTRED = 0.02
"""Ratio of mean to mean magnitude below which an encoding counts as centred."""


_PLACEHOLDER = 0
"""Number of a vector's token: any but that of the end, at which encoders take the whole."""


class _Token(NamedTuple):
    """A token; of an embedding, the number of its vector."""

    id: int
    weight: float
    embedding: EmbeddedWord | None = None
    vector: int = 0

    @property
    def more(self) -> int:
        return 0 if self.embedding is None else self.embedding.vectors - 1 - self.vector


def encode_prompt(
    parsed: ParsedPrompt,
    tokenizer: CLIPTokenizer,
    text_encoder: CLIPTextModel,
    clip_skip: int,
    *,
    through_norm: bool = True,
) -> torch.Tensor:
    """Text embeddings of shape (chunks * 77, width), in the encoder's dtype and on its device.

    `clip_skip` counts layers from the end as A1111 does: 1 is the last layer (diffusers' None).
    An earlier layer goes through the encoder's final norm, unless the model was trained without.

    Raises:
        BadRequestError: `clip_skip` reaches past the encoder's first layer.
    """
    check_clip_skip(clip_skip, text_encoder.config.num_hidden_layers)
    chunks = _chunks(parsed, tokenizer)
    ids, weights = _framed(chunks, tokenizer)
    with torch.no_grad(), embedded(text_encoder, _places(chunks)):
        encoded = _hidden(
            text_encoder, ids.to(text_encoder.device), clip_skip, through_norm=through_norm
        )
    if any(token.weight != 1 for chunk in chunks for token in chunk):
        encoded = _weighted(encoded, weights.to(encoded.device))
    return encoded.flatten(0, 1)


def encode_pooled(
    parsed: ParsedPrompt, tokenizer: CLIPTokenizer, text_encoder: CLIPTextModelWithProjection
) -> torch.Tensor:
    """The prompt as a whole, of shape (width,): what the encoder makes of its first chunk."""
    first = _chunks(parsed, tokenizer)[:1]
    ids, _ = _framed(first, tokenizer)
    with torch.no_grad(), embedded(text_encoder, _places(first)):
        return cast(torch.Tensor, text_encoder(ids.to(text_encoder.device)).text_embeds)[0]


def pad_to_equal(
    prompt: torch.Tensor, negative_prompt: torch.Tensor, empty: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both embeddings, the shorter one continued with `empty`, the encoding of an empty prompt.

    All are of shape (chunks * 77, width), `empty` of one chunk.
    """
    length = max(len(prompt), len(negative_prompt))

    def padded(embedding: torch.Tensor) -> torch.Tensor:
        missing = (length - len(embedding)) // len(empty)
        return torch.cat([embedding, *[empty] * missing])

    return padded(prompt), padded(negative_prompt)


def token_count(parsed: ParsedPrompt, tokenizer: CLIPTokenizer) -> int:
    """Tokens used as A1111 counts them: all chunks but the last one count as full."""
    *full, last = _chunks(parsed, tokenizer)
    return len(full) * CHUNK_TOKENS + len(last)


def decoded_text(parsed: ParsedPrompt, tokenizer: CLIPTokenizer) -> str:
    """What the encoder really sees: the tokens' own text, brackets and weights gone.

    Embeddings are there by name and by the word they were trained for.
    """
    tokens = [token for chunk in _chunks(parsed, tokenizer) for token in chunk]
    untyped: Any = tokenizer
    texts: list[str] = []
    for word, group in groupby(tokens, key=lambda token: token.embedding):
        if word is None:
            ids = [token.id for token in group]
            texts.append(cast(str, untyped.decode(ids, skip_special_tokens=True)).strip())
        else:
            texts += (word.name, word.word or "")
    return " ".join(filter(None, texts))


def _chunks(parsed: ParsedPrompt, tokenizer: CLIPTokenizer) -> list[list[_Token]]:
    """Tokens of each chunk, at most 75; at least one chunk, and none for a trailing BREAK."""
    comma = tokenizer.get_vocab().get(COMMA)
    return [
        chunk
        for block in encoded_blocks(parsed)
        for chunk in cut(_tokens(block, tokenizer), comma_id=comma)
    ]


def _tokens(block: Block, tokenizer: CLIPTokenizer) -> list[_Token]:
    if not block:
        return []
    read: Any = tokenizer(
        [segment.text for segment in block], add_special_tokens=False, verbose=False
    )
    return [
        token
        for segment, ids in zip(block, read["input_ids"], strict=True)
        for token in _of_segment(segment, ids)
    ]


def _of_segment(segment: Segment, ids: Sequence[int]) -> list[_Token]:
    _, weight, embedding = segment
    if embedding is None:
        return [_Token(id, weight) for id in ids]
    return [_Token(_PLACEHOLDER, weight, embedding, n) for n in range(embedding.vectors)]


def _places(chunks: list[list[_Token]]) -> list[Place]:
    """Where vectors stand, behind the start token of each chunk."""
    return [
        Place(number, column, token.embedding, token.vector)
        for number, chunk in enumerate(chunks)
        for column, token in enumerate(chunk, start=1)
        if token.embedding is not None
    ]


def _framed(
    chunks: list[list[_Token]], tokenizer: CLIPTokenizer
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and weights of shape (chunks, 77), with start, end and padding."""
    start, end, pad = (
        _Token(cast(int, id), 1.0)
        for id in (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    )
    rows = [[start, *chunk, end, *[pad] * (CHUNK_TOKENS - len(chunk))] for chunk in chunks]
    ids = torch.tensor([[token.id for token in row] for row in rows])
    return ids, torch.tensor([[token.weight for token in row] for row in rows])


def _hidden(
    text_encoder: Any, ids: torch.Tensor, clip_skip: int, *, through_norm: bool
) -> torch.Tensor:
    """Encodings of shape (chunks, 77, width); the last layer's have been through the final norm."""
    if clip_skip == 1:
        return cast(torch.Tensor, text_encoder(ids).last_hidden_state)
    states = text_encoder(ids, output_hidden_states=True).hidden_states
    hidden = states[-clip_skip]
    return text_encoder.final_layer_norm(hidden) if through_norm else hidden


def _weighted(encoded: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The encoding times the weights, scaled so that each chunk keeps its mean.

    Where an encoder's outputs are centred, or negative weights cancel them out, the mean says
    nothing and dividing by it would scale at random: there the mean magnitude is kept instead.
    """
    before = encoded.float()
    after = before * weights.unsqueeze(-1)
    by_mean = _mean(before) / _mean(after)
    by_magnitude = _mean(before.abs()) / _mean(after.abs())
    usable = _offset(before) * _offset(after) > _CENTRED**2
    return (after * torch.where(usable, by_mean, by_magnitude)).to(encoded.dtype)


def _mean(encoded: torch.Tensor) -> torch.Tensor:
    return encoded.mean(dim=(1, 2), keepdim=True)


def _offset(encoded: torch.Tensor) -> torch.Tensor:
    return _mean(encoded) / _mean(encoded.abs())
