from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch

from benchmarks.random_models import SD15, parts, write_random_model
from benchmarks.recipes import fresh_requests
from tests.benchmarks.conftest import TINY
from webui.library.checkpoints import CheckpointShelf
from webui.library.hashes import HashBook


def test_the_full_size_model_has_the_weights_of_stable_diffusion_1_5():
    with torch.device("meta"):
        networks = parts(SD15)
    sizes = {
        name: sum(weight.numel() for weight in network.parameters())
        for name, network in networks.items()
    }
    # As counted in the published files.
    assert sizes == {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480}


def test_a_random_model_is_one_our_shelf_takes_and_the_same_each_time(tmp_path: Path):
    for name in ("a", "b"):
        write_random_model(tmp_path / name, TINY)
    shelf = CheckpointShelf((tmp_path,), HashBook(tmp_path / "hashes.json"))
    assert shelf.find("a").pipeline == "StableDiffusionPipeline"
    assert shelf.find("a").sha256 == shelf.find("b").sha256
    for file in (tmp_path / "a").glob("*/*.safetensors"):
        tensors = safetensors.torch.load(file.read_bytes()).values()
        assert {tensor.dtype for tensor in tensors if tensor.is_floating_point()} == {
            torch.bfloat16
        }


def test_no_two_requests_share_anything_a_cache_could_answer_with():
    requests = list(fresh_requests("m", side=64, steps=2, sampler="Euler"))
    for what in ("prompt", "negative_prompt", "seed"):
        assert len({getattr(request, what) for request in requests}) == len(requests) > 1000


@pytest.mark.parametrize("what", ["prompt", "negative_prompt"])
def test_every_prompt_fits_one_chunk_of_the_byte_tokenizer(what: str):
    for request in fresh_requests("m", side=64, steps=2, sampler="Euler"):
        assert len(getattr(request, what).replace(" ", "")) <= 75
