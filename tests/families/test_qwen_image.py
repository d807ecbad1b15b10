from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from tests.families import kit, tiny_modern
from tests.families.against_diffusers import CHECKS, check_same_picture, encodings
from tests.families.kit import Bench
from webui.errors import BadRequestError

NOISE = (16, 8, 8)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("qwen")
    with kit.bench_of(folder, tiny_modern.write_qwen_image, sampler="Euler") as made:
        yield made


@pytest.mark.parametrize("check", CHECKS)
def test_it_does_what_every_family_does(bench: Bench, check: Callable[[Bench], None]) -> None:
    check(bench)


@pytest.mark.parametrize("words", ["a blue lake", "a much longer list of what is not to be seen"])
def test_it_is_read_and_run_as_by_diffusers(bench: Bench, words: str) -> None:
    pipe: Any = bench.loaded.pipe
    prompt, negative = encodings(bench, negative_prompt=words)
    assert negative is not None
    for text, own in (("a red hill", prompt), (words, negative)):
        with torch.no_grad():
            theirs, mask = pipe.encode_prompt(text)
        assert mask is None
        assert torch.equal(own.tokens, theirs[0])
    asked = {"cfg": 4.5, "negative_prompt": words}
    check_same_picture(bench, NOISE, asked, {"true_cfg_scale": 4.5, "negative_prompt": words})


def test_at_a_cfg_of_one_it_is_not_guided(bench: Bench) -> None:
    _, negative = encodings(bench, cfg=1.0)
    assert negative is None
    check_same_picture(bench, NOISE, {"cfg": 1.0}, {"true_cfg_scale": 1.0})
    assert kit.differ(bench.picture(cfg=1.0), bench.picture(cfg=4.0)) > 0


@pytest.mark.parametrize("changes", [{"guidance": 3.0}, {"clip_skip": 2}])
def test_what_it_has_no_use_for_is_refused(bench: Bench, changes: dict[str, Any]) -> None:
    with pytest.raises(BadRequestError) as refused:
        bench.picture(**changes)
    assert refused.value.field in changes


@pytest.mark.parametrize(
    "spelled",
    ["transformer.transformer_blocks.1.attn.to_q", "lora_unet_transformer_blocks_1_attn_to_q"],
)
def test_a_lora_acts_and_is_gone_to_the_bit(bench: Bench, spelled: str) -> None:
    kit.check_lora(bench, {spelled: "transformer:transformer_blocks.1.attn.to_q"}, spelled[-18:])
