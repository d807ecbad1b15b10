"""Textual-inversion embeddings the whole way, on tiny models with text encoders of real widths."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import (
    StableDiffusionXLPipeline,
)
from safetensors.torch import save
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from tests.families import kit, tiny
from tests.families.kit import Bench
from tests.families.tiny_sd import L, clip, write_sd1
from tests.families.tiny_sdxl import scheduler
from webui.errors import BadRequestError, BrokenFileError
from webui.events import Failed, Notice, Saved, StageDone
from webui.generation.backbones import BACKBONES
from webui.generation.prompts import EmbeddedWord, ParsedPrompt, Segment
from webui.provenance.pngtext import read_text
from webui.provenance.recover import recover

VECTORS = 3
G = 1280


def vectors(seed: int, width: int = L, many: int = VECTORS) -> torch.Tensor:
    return torch.randn(many, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("sd1")
    files = folder / "models" / "embeddings"
    files.mkdir(parents=True)
    (files / "ink.safetensors").write_bytes(save({"emb_params": vectors(1)}))
    (files / "grey fog.safetensors").write_bytes(save({"emb_params": vectors(2)}))
    pair = {"clip_l": vectors(3), "clip_g": vectors(4, G)}
    (files / "glow.safetensors").write_bytes(save(pair))
    (files / "hollow.safetensors").write_bytes(save({"emb_params": vectors(5) * torch.nan}))
    with kit.bench_of(folder, write_sd1, sampler="Euler", steps=2) as made:
        yield made


def encoded(bench: Bench, **changes: Any) -> tuple[torch.Tensor, torch.Tensor]:
    loaded = bench.loaded
    untyped: Any = bench.engine
    plan = untyped._planner.plan(bench.request(**changes))
    made = loaded.backbone.condition(
        loaded.pipe,
        [one.prompts[0] for one in plan.prompts[0]],
        lambda prompt: loaded.backbone.encode(loaded.pipe, prompt, 1),
    )
    assert made.negative_prompt is not None
    return made.prompt.tokens, made.negative_prompt.tokens


def inverted(kind: Any, pipe: Any, *files: tuple[Any, dict[str, str]]) -> Any:
    """diffusers' pipeline of the same parts, with these embeddings loaded its own way."""
    theirs = kind(**copy.deepcopy(pipe.components))
    for tensors, names in files:
        own = {key: getattr(theirs, name) for key, name in names.items() if key != "token"}
        theirs.load_textual_inversion(tensors, token=names["token"], **own)
    return theirs


def test_an_encoding_is_that_of_diffusers_own_loading(bench: Bench) -> None:
    prompt, negative = "a red <ink> hill, ", "<fog>, blue"
    own = encoded(bench, prompt=prompt, negative_prompt=negative.replace("fog", "grey fog"))
    theirs = inverted(
        StableDiffusionPipeline,
        bench.loaded.pipe,
        ({"<ink>": vectors(1)}, {"token": "<ink>"}),
        ({"<fog>": vectors(2)}, {"token": "<fog>"}),
    )
    with torch.no_grad():
        told = theirs.encode_prompt(prompt, "cpu", 1, True, negative_prompt=negative)
    for mine, their in zip(own, told, strict=True):
        assert torch.allclose(mine, their[0], atol=1e-5)


def test_sdxls_two_sets_go_to_their_encoders_as_in_diffusers(tmp_path: Path) -> None:
    untyped: Any = StableDiffusionXLPipeline
    with tiny.same_weights():
        pipe = untyped(
            vae=None,
            unet=None,
            text_encoder=clip(L, CLIPTextModel, "quick_gelu"),
            text_encoder_2=clip(G, CLIPTextModelWithProjection, "gelu"),
            tokenizer=tiny.clip_tokenizer(),
            tokenizer_2=tiny.clip_tokenizer(pad="!"),
            scheduler=scheduler(),
        )
    file = tmp_path / "glow.safetensors"
    file.write_bytes(save({"clip_l": vectors(3), "clip_g": vectors(4, G)}))
    word = EmbeddedWord("glow", "0" * 64, VECTORS, None, file)
    segments = (Segment("a ", 1.0), Segment("<glow>", 1.0, word), Segment(" hill", 1.0))
    theirs = inverted(
        untyped,
        pipe,
        (
            {"<glow>": vectors(3)},
            {"token": "<glow>", "text_encoder": "text_encoder", "tokenizer": "tokenizer"},
        ),
        (
            {"<glow>": vectors(4, G)},
            {"token": "<glow>", "text_encoder": "text_encoder_2", "tokenizer": "tokenizer_2"},
        ),
    )
    with torch.no_grad():
        tokens, _, pooled, _ = theirs.encode_prompt("a <glow> hill", None, "cpu", 1, False)
    own = BACKBONES["sdxl"].encode(pipe, ParsedPrompt((segments,)), 1)
    assert torch.allclose(own.tokens, tokens[0], atol=1e-5)
    assert own.pooled is not None
    assert torch.allclose(own.pooled, pooled[0], atol=1e-5)
    # The refiner has the second encoder alone, and takes the second set alone.
    refiner = SimpleNamespace(**pipe.components | {"text_encoder": None, "tokenizer": None})
    refined = BACKBONES["sdxl refiner"].encode(refiner, ParsedPrompt((segments,)), 1)
    assert torch.equal(refined.tokens, own.tokens[:, L:])


def test_it_acts_and_is_gone_to_the_bit(bench: Bench) -> None:
    plain = bench.picture()
    pipe: Any = bench.loaded.pipe
    table = pipe.text_encoder.get_input_embeddings()
    before = table.weight.clone(), len(pipe.tokenizer)
    marked = bench.picture(prompt="a red hill <ink>")
    assert kit.differ(marked, plain) > 0
    assert (bench.picture(prompt="a red hill INK") == marked).all()
    heavier = bench.picture(prompt="a red hill (<ink>:1.4)")
    assert kit.differ(heavier, marked) > 0
    assert kit.differ(bench.picture(negative_prompt="<ink>"), plain) > 0
    half = bench.picture(prompt="a red hill [<ink>::0.5]", steps=4)
    assert kit.differ(half, bench.picture(prompt="a red hill <ink>", steps=4)) > 0
    bench.forget()
    assert (bench.picture() == plain).all()
    assert torch.equal(table.weight, before[0])
    assert len(pipe.tokenizer) == before[1]
    assert not table._forward_hooks


def test_another_family_is_refused_where_it_is_meant_and_told_of_where_it_is_a_word(
    bench: Bench,
) -> None:
    with pytest.raises(BadRequestError) as refused:
        bench.picture(prompt="a <glow>")
    assert "is made for SDXL, and the model 'tiny' is Stable Diffusion 1" in refused.value.message
    notices = [
        event.message for event in bench.events(prompt="a glow") if isinstance(event, Notice)
    ]
    assert "'glow' is an embedding for SDXL: it is read as plain text." in notices
    broken = bench.events(prompt="<hollow>")[-1]
    assert isinstance(broken, Failed)
    assert "holds no usable vectors" in broken.message


def test_another_content_has_its_own_text_encoded_anew_and_no_other(bench: Bench) -> None:
    file = bench.settings.models / "embeddings" / "ink.safetensors"
    own = file.read_bytes()

    def reused(prompt: str) -> tuple[bool, bool]:
        stages = bench.events(prompt=prompt, negative_prompt="", seed=9)
        found = {event.name: event.reused for event in stages if isinstance(event, StageDone)}
        return found["text"], found["denoise"]

    prompts = ("a red hill, ink", "a red hill")
    for prompt in prompts:
        reused(prompt)
    assert [reused(prompt) for prompt in prompts] == [(True, True)] * 2
    try:
        file.write_bytes(save({"emb_params": vectors(8)}))
        assert [reused(prompt) for prompt in prompts] == [(False, False), (True, True)]
    finally:
        file.write_bytes(own)
    assert reused(prompts[0]) == (True, True)


def test_a_picture_tells_what_was_used_and_it_is_read_again(bench: Bench) -> None:
    (saved,) = (
        event
        for event in bench.events(prompt="a red hill, grey fog", negative_prompt="<INK>")
        if isinstance(event, Saved)
    )
    data = Path(saved.path).read_bytes()
    untyped: Any = bench.engine
    digests = dict(untyped._planner._shelves.embeddings.known_hashes())
    line = read_text(data)["parameters"].splitlines()[-1]
    short = {name: digests[name][:10] for name in ("grey fog", "ink")}
    assert f'TI hashes: "grey fog: {short["grey fog"]}, ink: {short["ink"]}"' in line
    recovered = recover(data)
    assert dict(recovered.embeddings) == {name: digests[name] for name in ("grey fog", "ink")}
    assert recovered.request["negative_prompt"] == "<INK>"


def test_an_embedding_from_outside_taints(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    untyped: Any = bench.engine
    known = {untyped._planner.plan(bench.request()).checkpoint.sha256}
    policy = SimpleNamespace(allowed=known)
    monkeypatch.setattr(untyped._admission, "_gate", SimpleNamespace(policy=lambda: policy))

    def tainted(**changes: Any) -> bool:
        return untyped._admission.is_tainted(untyped._planner.plan(bench.request(**changes)))

    assert not tainted()
    assert tainted(prompt="a hill, ink")
    assert tainted(negative_prompt="<ink>")
    known |= {dict(untyped._planner._shelves.embeddings.known_hashes())["ink"]}
    assert not tainted(prompt="a hill, ink")


def test_a_file_that_has_gone_is_one_sentence(bench: Bench) -> None:
    loaded = bench.loaded
    word = EmbeddedWord("gone", "0" * 64, 1, None, bench.settings.models / "gone.safetensors")
    with pytest.raises(BrokenFileError, match="'gone' cannot be read: fetch its file again"):
        loaded.backbone.encode(loaded.pipe, ParsedPrompt(((Segment("<gone>", 1.0, word),),)), 1)
