"""A bench with tiny random models in place of the embedded and the full-size one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.random_models import ModelShape, write_random_model
from benchmarks.workbench import Effort, Workbench

UNET_BLOCKS = ("CrossAttnDownBlock2D", "DownBlock2D"), ("UpBlock2D", "CrossAttnUpBlock2D")
TINY = ModelShape(
    name="tiny",
    unet={
        "sample_size": 8,
        "block_out_channels": (16, 32),
        "norm_num_groups": 8,
        "down_block_types": UNET_BLOCKS[0],
        "up_block_types": UNET_BLOCKS[1],
        "layers_per_block": 1,
        "cross_attention_dim": 32,
        "attention_head_dim": 4,
    },
    vae={
        "sample_size": 64,
        "block_out_channels": (8, 8, 16, 16),
        "norm_num_groups": 4,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 1,
    },
    text_encoder={
        "vocab_size": 600,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "projection_dim": 32,
    },
)
OTHER = replace(TINY, name="other", text_encoder=dict(TINY.text_encoder) | {"num_hidden_layers": 1})
"""Told from the first one by its weights, as the cache tells models."""

EFFORT = Effort(
    shape=TINY,
    side=64,
    steps=2,
    rounds=1,
    postcard_side=64,
    postcard_steps=2,
    postcard_rounds=1,
    starts=1,
    children=1,
    changes=8,
    marked=3,
    lines=300,
    faulty_runs=20,
)


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    work = tmp_path_factory.mktemp("bench")
    write_random_model(work / "embedded" / "postcard", OTHER)
    return Workbench(EFFORT, work / "embedded", work)
