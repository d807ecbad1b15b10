from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from webui.errors import BadRequestError
from webui.generation.chunks import CHUNK_TOKENS, COMMA_REACH
from webui.generation.prompts import EMPTY_PROMPT, parse_prompt
from webui.generation.text import (
    decoded_text,
    encode_prompt,
    pad_to_equal,
    token_count,
)

WIDTH, LAYERS = 32, 3


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(c + "</w>" for c in letters), "re", "red</w>"]
    vocab = {w: i for i, w in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    tokenizer = CLIPTokenizer(vocab=vocab, merges=[("r", "e"), ("re", "d</w>")])  # pyright: ignore[reportArgumentType]
    tokenizer.model_max_length = CHUNK_TOKENS + 2
    return tokenizer


@pytest.fixture(scope="module")
def text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        eos_token_id=len(tokenizer) - 1,
    )
    untyped: Any = torch
    untyped.manual_seed(0)
    encoder = CLIPTextModel(config).eval()
    # As in Stable Diffusion's encoders, outputs are not centred.
    encoder.final_layer_norm.bias.data.fill_(-0.2)
    return encoder


@pytest.fixture(scope="module")
def encode(tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel) -> Any:
    def encode(prompt: str, clip_skip: int = 1) -> torch.Tensor:
        return encode_prompt(parse_prompt(prompt), tokenizer, text_encoder, clip_skip)

    return encode


@pytest.mark.parametrize("prompt", ["", "a red ball, on grass", "a " * CHUNK_TOKENS])
def test_an_unweighted_prompt_of_one_chunk_equals_the_pipelines(
    prompt: str, tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, encode: Any
) -> None:
    pipe: Any = StableDiffusionPipeline(
        vae=None,  # pyright: ignore[reportArgumentType]
        unet=None,  # pyright: ignore[reportArgumentType]
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler=None,  # pyright: ignore[reportArgumentType]
        safety_checker=None,  # pyright: ignore[reportArgumentType]
        feature_extractor=None,  # pyright: ignore[reportArgumentType]
        requires_safety_checker=False,
    )
    with torch.no_grad():
        theirs = pipe.encode_prompt(prompt, "cpu", 1, False)[0][0]
    assert torch.equal(encode(prompt), theirs)


def test_every_chunk_is_encoded_on_its_own(encode: Any) -> None:
    joined = torch.cat([encode("a " * 75), encode("red ball")])
    torch.testing.assert_close(encode("a " * 75 + "red ball"), joined)
    torch.testing.assert_close(encode("a " * 75 + "BREAK red ball"), joined)


def test_break_fills_the_chunk(encode: Any) -> None:
    torch.testing.assert_close(encode("red BREAK ball"), torch.cat([encode("red"), encode("ball")]))
    torch.testing.assert_close(encode("BREAK red"), torch.cat([encode(""), encode("red")]))
    torch.testing.assert_close(encode("red BREAK"), encode("red"))
    assert encode("BREAK").shape == (77, WIDTH)


@pytest.mark.parametrize(
    ("before", "after", "first"),
    [
        (60, 20, 61),
        (CHUNK_TOKENS - COMMA_REACH, 30, CHUNK_TOKENS - COMMA_REACH + 1),
        (CHUNK_TOKENS - COMMA_REACH - 1, 30, CHUNK_TOKENS),
        (CHUNK_TOKENS - 1, 5, CHUNK_TOKENS),
        (CHUNK_TOKENS, 5, CHUNK_TOKENS),
    ],
)
def test_a_full_chunk_ends_after_a_near_comma(
    before: int, after: int, first: int, encode: Any
) -> None:
    words = [*["a"] * before, ",", *["b"] * after]
    parts = [" ".join(words[:first]), " ".join(words[first:])]
    torch.testing.assert_close(encode(" ".join(words)), torch.cat([encode(p) for p in parts]))


def test_a_weight_multiplies_its_tokens_and_the_mean_is_kept(encode: Any) -> None:
    plain, weighted = encode("a red ball"), encode("a (red:1.5) ball")
    ratio = (weighted / plain).mean(dim=1)
    torch.testing.assert_close(ratio[2] / ratio[1], torch.tensor(1.5))
    torch.testing.assert_close(ratio[3], ratio[1])
    torch.testing.assert_close(weighted.mean(), plain.mean())
    assert not torch.equal(weighted, plain)


def test_each_chunk_keeps_its_own_mean(encode: Any) -> None:
    weighted = encode("a (red:2) BREAK ball")
    torch.testing.assert_close(weighted[77:], encode("ball"))
    torch.testing.assert_close(weighted[:77].mean(), encode("a red").mean())


@pytest.mark.parametrize("prompt", ["a (red:1.5) ball", "(a red ball:-3)", "(a red:0) ball"])
def test_a_centred_encoder_keeps_its_magnitude(
    prompt: str, tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel
) -> None:
    centred = deepcopy(text_encoder)
    centred.final_layer_norm.bias.data.zero_()
    encoded = encode_prompt(parse_prompt(prompt), tokenizer, centred, 1)
    plain = encode_prompt(parse_prompt("a red ball"), tokenizer, centred, 1)
    torch.testing.assert_close(encoded.abs().mean(), plain.abs().mean())
    assert encoded.abs().max() < 10 * plain.abs().max()


@pytest.mark.parametrize("clip_skip", range(1, LAYERS + 1))
def test_clip_skip_takes_that_layer_from_the_end_through_the_final_norm(
    clip_skip: int, tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, encode: Any
) -> None:
    ids = tokenizer("red ball", padding="max_length", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        states = text_encoder(ids, output_hidden_states=True).hidden_states
        expected = text_encoder.final_layer_norm(states[-clip_skip])[0]
    assert torch.equal(encode("red ball", clip_skip), expected)
    assert (clip_skip == 1) == torch.equal(encode("red ball", clip_skip), encode("red ball"))


def test_clip_skip_past_the_encoder_is_refused(encode: Any) -> None:
    with pytest.raises(BadRequestError, match="has 3 layers") as caught:
        encode("red", LAYERS + 1)
    assert caught.value.field == "clip_skip"


def test_the_encoders_dtype_is_kept(
    tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, encode: Any
) -> None:
    short: Any = deepcopy(text_encoder)
    short.to(torch.bfloat16)
    encoded = encode_prompt(parse_prompt("a (red:1.5) ball"), tokenizer, short, 1)
    assert encoded.dtype == torch.bfloat16
    torch.testing.assert_close(encoded.float(), encode("a (red:1.5) ball"), rtol=0.1, atol=0.1)


def test_the_shorter_embedding_is_padded_with_empty_chunks(encode: Any) -> None:
    long, short, empty = encode("red BREAK ball BREAK a"), encode("b"), encode("")
    positive, negative = pad_to_equal(long, short, empty)
    assert torch.equal(positive, long)
    assert torch.equal(negative, torch.cat([short, empty, empty]))
    negative, positive = pad_to_equal(short, long, empty)
    assert torch.equal(negative, torch.cat([short, empty, empty]))
    assert torch.equal(positive, long)


@pytest.mark.parametrize(
    ("prompt", "count"),
    [("", 0), ("a red, ball", 7), ("a " * 76, 76), ("red BREAK red", 76), ("red BREAK", 1)],
)
def test_tokens_are_counted_with_full_chunks_before_the_last(
    prompt: str, count: int, tokenizer: CLIPTokenizer
) -> None:
    assert token_count(parse_prompt(prompt), tokenizer) == count


@pytest.mark.parametrize(
    ("prompt", "seen"),
    [
        ("", ""),
        ("A  (RED:1.3)\nBall", "a red ball"),
        ("re(d)", "re d"),
        ("red BREAK ball", "red ball"),
        (r"\(red\)", "( red )"),
        ("red<|endoftext|>ball", "red ball"),
    ],
)
def test_decoded_text_is_what_the_encoder_sees(
    prompt: str, seen: str, tokenizer: CLIPTokenizer
) -> None:
    assert decoded_text(parse_prompt(prompt), tokenizer).split() == seen.split()


def test_the_empty_prompt_is_one_chunk(encode: Any, tokenizer: CLIPTokenizer) -> None:
    assert token_count(EMPTY_PROMPT, tokenizer) == 0
    assert encode("").shape == (77, WIDTH)
