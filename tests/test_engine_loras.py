"""LoRAs the whole way, on the embedded model: events, pictures, reused stages, no trace left."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

from tests.guards import use_guard
from tests.test_engine import QUICK, SESSION, Scripted, Studio, pixels, psnr, saved, silent, with_
from webui.cli.building import build_engine
from webui.events import (
    Cancelled,
    Event,
    Failed,
    Finished,
    LoraApplied,
    Notice,
    StackMeasured,
    StageDone,
    Step,
)
from webui.generation import painting
from webui.generation.loaded import Loaded
from webui.generator import Cancel
from webui.library.checkpoints import CheckpointShelf
from webui.library.hashes import HashBook
from webui.library.uploads import Uploads
from webui.provenance.pngtext import read_text
from webui.request import GenerationRequest
from webui.settings import ROOT, Settings

UNET = (
    "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
    "down_blocks.2.attentions.0.transformer_blocks.0.attn2.to_v",
    "mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0",
    "up_blocks.0.attentions.1.transformer_blocks.0.ff.net.2",
)
TEXT = ("encoder.layers.0.self_attn.v_proj", "encoder.layers.1.mlp.fc1")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """An engine with a folder of LoRAs for the embedded model."""
    folder = tmp_path_factory.mktemp("studio")
    settings = Settings(outputs=folder / "outputs", state=folder / "state", loras=folder / "loras")
    engine = build_engine(settings, silent)
    loaded = loaded_by(engine, folder)
    write_loras(folder / "loras", loaded)
    yield Studio(engine, settings.outputs)
    engine.close()


@pytest.fixture
def studio(real: Studio, monkeypatch: pytest.MonkeyPatch) -> Studio:
    use_guard(real.engine, monkeypatch, Scripted())
    return real


def loaded_by(engine: Any, folder: Path) -> Loaded:
    """The model in the engine's memory."""
    engine.warm("postcard")
    shelf = CheckpointShelf((ROOT / "models",), HashBook(folder / "state" / "hashes.json"))
    pipelines = engine._painter._pipelines
    return pipelines.get(shelf.find("postcard"), None)


def write_loras(folder: Path, loaded: Loaded) -> None:
    unet = layers(loaded, "unet", UNET, "lora_unet_")
    text = layers(loaded, "text_encoder", TEXT, "lora_te_text_model_")
    large = {"lora_te2_a.lora_down.weight": torch.ones(4, 4)}
    # As SDXL's own do: their first text encoder is that of SD 1.
    shared = large | {name.replace("lora_te_", "lora_te1_"): text[name] for name in text}
    wide = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    files = {
        "ink": unet,
        "text": text,
        "both": unet | text,
        "partial": unet
        | {"lora_unet_nowhere.lora_down.weight": torch.ones(4, 4)}
        | {f"lora_unet_conv_{end}.oft_blocks": torch.ones(2, 2, 2) for end in ("in", "out")},
        "large": large,
        "shared": shared,
        "wide": {f"{wide}.lora_down.weight": torch.ones(4, 768)},
        "hollow": {name: value * torch.nan for name, value in unet.items()},
    }
    for name, tensors in files.items():
        path = folder / f"{name}.safetensors"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(save(tensors, {"ss_output_name": f"{name} of old"}))
    (folder / "copy.safetensors").write_bytes((folder / "ink.safetensors").read_bytes())
    (folder / "cut.safetensors").write_bytes((folder / "ink.safetensors").read_bytes()[:-9])


def layers(loaded: Loaded, part: str, paths: tuple[str, ...], prefix: str) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(5)
    module: Any = loaded.pipe.components[part]
    tensors: dict[str, torch.Tensor] = {}
    for path in paths:
        weight = module.get_parameter(f"{path}.weight")
        out, inner = weight.shape[0], weight[0].numel()
        name = prefix + path.replace(".", "_")
        spread = float(weight.float().std()) * 0.6
        down = torch.randn(4, inner, generator=generator)
        tensors[f"{name}.lora_down.weight"] = down
        tensors[f"{name}.lora_up.weight"] = torch.randn(out, 4, generator=generator) * spread
    return tensors


def weights(studio: Studio) -> dict[str, torch.Tensor]:
    engine: Any = studio.engine
    loaded: Loaded = engine._painter._pipelines.loaded
    assert loaded.loras.kept_bytes == 0
    return {
        f"{part}.{name}": tensor.clone()
        for part in ("unet", "text_encoder")
        for name, tensor in module_of(loaded, part).named_parameters()
    }


def module_of(loaded: Loaded, part: str) -> torch.nn.Module:
    module = loaded.pipe.components[part]
    assert isinstance(module, torch.nn.Module)
    return module


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def stacked(*rows: Mapping[str, object], **changes: object) -> GenerationRequest:
    return with_(QUICK, loras=[dict(row) for row in rows], **changes)


def stages(events: list[Event]) -> dict[str, bool]:
    assert isinstance(events[-1], Finished), events[-1]
    return {e.name: e.reused for e in events if isinstance(e, StageDone)}


def test_what_fits_is_told_for_each_row_and_the_picture_shows_it(studio: Studio):
    base = pixels(saved(studio.run(QUICK))[0])
    events = studio.run(stacked({"name": "ink"}, {"name": "partial", "weight": 0.5}))
    told = [(e.name, e.matched, e.total) for e in events if isinstance(e, LoraApplied)]
    assert told == [("ink", 4, 4), ("partial", 4, 7)]
    assert [e.message for e in events if isinstance(e, Notice)][1:] == [
        "Row 2 of the LoRAs: left out are 3 of the 7 layers of 'partial', since the model"
        " 'postcard' cannot be changed by OFT (2), has no such layers (1)."
    ]
    assert psnr(base, pixels(saved(events)[0])) < 40


def test_what_the_stack_changes_is_told_by_block_and_for_each_two(studio: Studio):
    rows = ({"name": "ink"}, {"name": "text", "weight": 0.3}, {"name": "copy"}, {"name": "ink"})
    (told,) = (e for e in studio.run(stacked(*rows)) if isinstance(e, StackMeasured))
    assert set(told.sizes) == {"ink", "text", "copy"}
    blocks = {
        name: [block for block, size in sizes.items() if size] for name, sizes in told.sizes.items()
    }
    assert blocks["ink"] == blocks["copy"] == ["down 2", "down 3", "mid", "up 1"]
    assert blocks["text"] == ["text encoder"]
    overlaps = {frozenset(names): cosine for *names, cosine in told.overlaps}
    assert overlaps == {
        frozenset(("ink", "text")): 0,
        frozenset(("text", "copy")): 0,
        frozenset(("ink", "copy")): pytest.approx(1, abs=1e-5),
    }
    again = [e for e in studio.run(stacked({"name": "ink", "weight": -2})) if e.event == "stack"]
    assert again == [StackMeasured(sizes={"ink": told.sizes["ink"]})]
    assert not any(e.event == "stack" for e in studio.run(QUICK))


def test_a_lora_of_another_family_is_tried_with_a_notice_and_what_fits_of_it_counts(
    studio: Studio,
):
    base = pixels(saved(studio.run(QUICK))[0])
    events = studio.run(stacked({"name": "shared", "weight": 1.5}))
    notices = [event.message for event in events if isinstance(event, Notice)]
    assert [n for n in notices if "LoRAs" in n] == [
        "Row 1 of the LoRAs: 'shared' is made for SDXL, and the model is Stable Diffusion 1: little"
        " of it may fit.",
        "Row 1 of the LoRAs: left out are 1 of the 3 layers of 'shared', since the model 'postcard'"
        " has no such layers (1).",
    ]
    told = [(e.matched, e.total) for e in events if isinstance(e, LoraApplied)]
    assert told == [(2, 3)]
    assert psnr(base, pixels(saved(events)[0])) < 40


def test_a_lora_acts_within_a_mask_alone(studio: Studio):
    (base,) = saved(studio.run(QUICK))
    uploads = Uploads(studio.outputs.parent / "state" / "uploads")
    mask = Image.new("L", (256, 256))
    mask.paste(255, (64, 64, 192, 192))
    file = io.BytesIO()
    mask.save(file, "PNG")
    begun = {
        "init": uploads.take(Path(base.path).read_bytes()).id,
        "mask": uploads.take(file.getvalue(), kind="mask").id,
        "mask_blur": 0,
    }
    plain = pixels(saved(studio.run(with_(QUICK, **begun)))[0])
    inked = pixels(saved(studio.run(stacked({"name": "ink"}, **begun)))[0])
    assert psnr(inked[64:192, 64:192], plain[64:192, 64:192]) < 35
    inked[64:192, 64:192] = plain[64:192, 64:192] = 0
    assert psnr(inked, plain) == float("inf")


def test_the_effect_grows_with_the_strength_and_0_is_none(studio: Studio):
    base = pixels(saved(studio.run(QUICK))[0])
    differences = [
        float(np.mean((pixels(saved(studio.run(stacked(row)))[0]) - base) ** 2))
        for row in ({"name": "ink", "weight": w} for w in (0, 0.1, 0.3, 0.9))
    ]
    assert differences[0] == 0
    assert differences == sorted(differences)
    assert len(set(differences)) == 4


def test_the_text_encoder_alone_changes_the_picture(studio: Studio):
    base = pixels(saved(studio.run(QUICK))[0])
    both = {"name": "both", "weight": 0}
    (picture,) = saved(studio.run(stacked(both | {"text_encoder_weight": 1.5})))
    assert psnr(base, pixels(picture)) < 40


def test_each_part_of_the_steps_has_its_own_effect_and_the_last_the_least(studio: Studio):
    times: tuple[dict[str, object], ...] = ({}, {"start": 0.75}, {"end": 0.5}, {"start": 0.5})
    ink: dict[str, object] = {"name": "ink", "weight": 0.4}
    runs = [stacked(), *(stacked(ink | time) for time in times)]
    base, whole, late, first, second = (pixels(saved(studio.run(run))[0]) for run in runs)
    assert psnr(base, whole) < psnr(base, late) < float("inf")
    assert max(psnr(first, second), psnr(whole, first), psnr(whole, second)) < 50


def finish(studio: Studio, seed: int) -> None:
    """A job without LoRAs that computes text and latents anew."""
    events = studio.run(with_(QUICK, prompt=f"a harbour, {seed}", seed=seed, steps=1))
    assert stages(events) == {
        "load": True,
        **dict.fromkeys(("text", "denoise", "decode", "check", "save"), False),
    }


def test_the_model_is_bit_equal_after_off_after_cancel_and_after_an_error(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
):
    finish(studio, 900)
    before = weights(studio)
    timed = {"name": "both", "weight": 0.7, "start": 0.25, "end": 0.75}
    studio.run(stacked(timed, {"name": "ink"}, seed=901))
    finish(studio, 902)
    assert same(weights(studio), before)
    cancel = Cancel()
    seen: list[Event] = []
    for event in studio.engine.generate(stacked(timed, seed=903, steps=20), SESSION, cancel):
        seen.append(event)
        if isinstance(event, Step) and event.step == 8:
            cancel.set()
    assert isinstance(seen[-1], Cancelled)
    finish(studio, 904)
    assert same(weights(studio), before)

    def full(*_: object) -> tuple[bytes, ...]:
        raise torch.OutOfMemoryError

    with monkeypatch.context() as context:
        context.setattr(painting, "decode", full)
        assert isinstance(studio.run(stacked(timed, seed=905))[-1], Failed)
    finish(studio, 906)
    assert same(weights(studio), before)


INK: dict[str, object] = {"name": "ink", "weight": 0.5}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("inc", "Unknown LoRA 'inc': did you mean 'ink'?"),
        ("cut", "cut.safetensors is truncated, the last 9 bytes are missing: fetch it again."),
        ("large", "none of the 1 layers of 'large' fits, since the model 'postcard' has no such"),
        ("wide", "none of the 1 layers of 'wide' fits, since the model 'postcard' has "),
        ("hollow", "hollow.safetensors holds invalid numbers in "),
    ],
)
def test_a_row_that_cannot_be_used_ends_the_job_before_anything_is_made(
    studio: Studio, name: str, says: str
):
    events = studio.run(stacked({"name": "ink"}, {"name": name}, seed=1100))
    end = events[-1]
    assert isinstance(end, Failed)
    assert end.field == "loras.1"
    assert end.message.startswith(f"Row 2 of the LoRAs: {says}")
    assert {e.name for e in events if isinstance(e, StageDone)} <= {"load"}
    assert isinstance(studio.run(stacked({"name": name, "enabled": False}))[-1], Finished)


def test_tags_in_the_prompt_become_rows(studio: Studio):
    prompt = "a beach <lora:ink:0.5>by day<lora:both of old:0.25:0.75>"
    tagged = studio.run(with_(QUICK, prompt=prompt))
    (notice,) = [e.message for e in tagged if isinstance(e, Notice) and "tags" in e.message]
    assert notice.endswith(": ink, both of old.")
    recipe = json.loads(read_text(Path(saved(tagged)[0].path).read_bytes())["easel"])
    assert recipe["request"]["prompt"] == "a beach by day"
    rows = recipe["request"]["loras"]
    assert [(row["name"], row["weight"], row["text_encoder_weight"]) for row in rows] == [
        ("ink", 0.5, None),
        ("both of old", 0.75, 0.25),
    ]
    again = studio.run(GenerationRequest.model_validate(recipe["request"]))
    assert stages(again)["denoise"]


@pytest.mark.parametrize("tag", ["<lora:ink:much>", "<hypernet:ink:1>"])
def test_a_tag_that_cannot_be_read_is_named(studio: Studio, tag: str):
    end = studio.run(with_(QUICK, prompt=f"a beach {tag}"))[-1]
    assert isinstance(end, Failed)
    assert (end.field, tag in end.message) == ("prompt", True)


def test_the_file_names_each_lora_with_its_hash(studio: Studio):
    muted = {"name": "text", "enabled": False}
    (picture,) = saved(studio.run(stacked(INK, muted, seed=1200)))
    texts = read_text(Path(picture.path).read_bytes())
    recipe = json.loads(texts["easel"])
    (used,) = recipe["loras"]
    assert recipe["tainted"]
    (bare,) = saved(studio.run(stacked(muted, seed=1201)))
    assert not json.loads(read_text(Path(bare.path).read_bytes())["easel"])["tainted"]
    assert used["name"] == "ink"
    assert len(used["sha256"]) == 64
    assert [row["name"] for row in recipe["request"]["loras"]] == ["ink", "text"]
    assert texts["parameters"].startswith(f"{QUICK.prompt}<lora:ink:0.5>\n")
    assert 'Lora hashes: "ink: ' in texts["parameters"]
