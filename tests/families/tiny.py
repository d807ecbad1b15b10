"""Tiny random-weight models of the real classes, written as diffusers' folders."""

from __future__ import annotations

import importlib
import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
    FlowMatchEulerDiscreteScheduler,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
)

from tests.generation.folders import MERGES, toy_vocabulary

TEXT_WIDTH = 32


@contextmanager
def same_weights(seed: int = 0) -> Generator[None]:
    """Models that are made within get the same random weights in every run."""
    untyped: Any = torch
    with untyped.random.fork_rng(devices=()):
        untyped.manual_seed(seed)
        yield


def write_model(folder: Path, pipeline: str, parts: Mapping[str, Any], **said: Any) -> None:
    """Saves a pipeline's parts and its index.

    Args:
        said: What the index holds beside the parts, such as `force_zeros_for_empty_prompt`.
    """
    index: dict[str, Any] = {"_class_name": pipeline, **said}
    for name, part in parts.items():
        if part is None:
            index[name] = [None, None]
            continue
        part.save_pretrained(folder / name)
        index[name] = [type(part).__module__.partition(".")[0], type(part).__name__]
    (folder / "model_index.json").write_text(json.dumps(index))


def clip_tokenizer(pad: str = "<|endoftext|>") -> CLIPTokenizer:
    """One that knows every byte and "red"."""
    untyped: Any = CLIPTokenizer
    return untyped(vocab=toy_vocabulary(), merges=MERGES, pad_token=pad, model_max_length=77)


def clip_config(width: int = TEXT_WIDTH, *, activation: str = "quick_gelu") -> CLIPTextConfig:
    end = len(toy_vocabulary()) - 1
    return CLIPTextConfig(
        vocab_size=end + 1,
        hidden_size=width,
        projection_dim=width,
        intermediate_size=37,
        num_attention_heads=4,
        num_hidden_layers=4,
        hidden_act=activation,
        bos_token_id=end - 1,
        eos_token_id=end,
        pad_token_id=1,
    )


def clip_encoder(width: int = TEXT_WIDTH) -> CLIPTextModel:
    return CLIPTextModel(clip_config(width))


def projecting_clip_encoder(width: int = TEXT_WIDTH) -> CLIPTextModelWithProjection:
    return CLIPTextModelWithProjection(clip_config(width, activation="gelu"))


WORDS = ("a", "red", "hill", "blue", "lake", "tree")


def t5_tokenizer() -> Any:
    """One that knows a few words, whole."""
    pieces = ("<pad>", "</s>", "<unk>", *(f"\u2581{word}" for word in WORDS))
    # transformers declares no types for it.
    untyped: Any = importlib.import_module("transformers").T5TokenizerFast
    return untyped(vocab=[(piece, -float(n)) for n, piece in enumerate(pieces)], extra_ids=0)


def t5_encoder(width: int = TEXT_WIDTH) -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(
            vocab_size=3 + len(WORDS),
            d_model=width,
            d_kv=8,
            d_ff=37,
            num_layers=2,
            num_heads=4,
            feed_forward_proj="gated-gelu",
        )
    )


def flow_scheduler(**options: Any) -> FlowMatchEulerDiscreteScheduler:
    untyped: Any = FlowMatchEulerDiscreteScheduler
    return untyped(**options)


def tiny_vae(channels: int = 4, **options: Any) -> AutoencoderKL:
    """One latent pixel for 8 x 8 pixels, as all real ones have."""
    # diffusers declares tuples of one entry.
    untyped: Any = AutoencoderKL
    vae = untyped(
        block_out_channels=(8, 8, 8, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=channels,
        sample_size=64,
        **options,
    )
    # diffusers' pipelines draw latents, ours takes the likeliest: this one is sure.
    last = vae.quant_conv or vae.encoder.conv_out
    last.weight.data[channels:] = 0
    last.bias.data[channels:] = -30
    return vae
