from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from tests.families import kit
from tests.families.kit import Bench
from tests.families.tiny_sd import write_sd2
from webui.errors import BadRequestError
from webui.events import Preview, StageDone
from webui.generation import denoise
from webui.generation.families import SD1, SD2, family_of
from webui.generation.schedulers import make_scheduler
from webui.library.checkpoints import Model
from webui.request import PREDICTIONS
from webui.settings import ROOT

LATENTS = (4, kit.SIDE // 8, kit.SIDE // 8)


def retrained(bench: Bench, name: str, **trained: Any) -> None:
    """The same weights in other files, said to have been trained in another way."""
    folder = bench.settings.models / name
    shutil.copytree(bench.settings.models / "tiny", folder)
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(save(load(weights.read_bytes()), {"format": "pt", "name": name}))
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | trained))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("sd2")
    with kit.bench_of(folder, write_sd2, sampler="Euler") as made:
        retrained(made, "tiny-v", prediction_type="v_prediction")
        retrained(made, "tiny-zero", prediction_type="v_prediction", rescale_betas_zero_snr=True)
        write_sd2(folder / "models" / "tiny-inpaint", channels=9)
        yield made


def test_it_is_known_by_its_configuration() -> None:
    configs = ROOT / "webui" / "generation" / "configs"
    named = {"sd1": SD1, "sd1-inpaint": SD1, "sd2": SD2, "sd2-v": SD2, "sd2-inpaint": SD2}
    for name, family in named.items():
        index = json.loads((configs / name / "model_index.json").read_text())
        assert family_of(Model(name, configs / name, index["_class_name"])) == family
    assert SD2.loras == "SD 2"


def test_the_encoding_is_that_of_diffusers_pipeline(bench: Bench) -> None:
    loaded = bench.loaded
    pipe: Any = loaded.pipe
    untyped: Any = bench.engine
    plan = untyped._planner.plan(bench.request(negative_prompt="fog"))
    ours = loaded.backbone.condition(
        pipe,
        [one.prompts[0] for one in plan.prompts[0]],
        lambda prompt: loaded.backbone.encode(pipe, prompt, 1),
    )
    with torch.no_grad():
        theirs = pipe.encode_prompt("a red hill", "cpu", 1, True, negative_prompt="fog")
    assert ours.negative_prompt is not None
    for own, their in zip((ours.prompt, ours.negative_prompt), theirs, strict=True):
        assert torch.allclose(own.tokens, their[0], atol=1e-6)


@pytest.mark.parametrize("model", ["tiny", "tiny-v", "tiny-zero"])
def test_the_denoising_is_that_of_diffusers_pipeline(bench: Bench, model: str) -> None:
    own = bench.latents(model=model, negative_prompt="fog", steps=4, cfg=5)
    loaded = bench.engine._painter._pipelines.loaded  # pyright: ignore[reportPrivateUsage]
    assert loaded is not None
    pipe: Any = loaded.pipe
    scheduler = make_scheduler(loaded.scheduler_config, "Euler", "normal")
    plain = type(pipe)(
        **(pipe.components | {"scheduler": scheduler}), requires_safety_checker=False
    )
    plain.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(5)
    theirs = plain(
        "a red hill",
        negative_prompt="fog",
        width=kit.SIDE,
        height=kit.SIDE,
        num_inference_steps=4,
        guidance_scale=5.0,
        latents=torch.randn(LATENTS, generator=generator)[None],
        output_type="latent",
    ).images
    assert torch.allclose(own, theirs, atol=1e-4)


def test_what_it_predicts_can_be_set_by_hand(bench: Bench) -> None:
    of_files = {"epsilon": "tiny", "v": "tiny-v", "v_zero_snr": "tiny-zero"}
    assert tuple(of_files) == PREDICTIONS
    by_file = {name: bench.picture(model=model) for name, model in of_files.items()}
    for name, known in by_file.items():
        for model in of_files.values():
            assert (bench.picture(model=model, prediction=name) == known).all()
    first, second, third = by_file.values()
    assert min(kit.differ(first, second), kit.differ(second, third)) > 0.5


def test_a_prediction_set_by_hand_makes_the_picture_anew_and_nothing_else(bench: Bench) -> None:
    bench.picture(seed=17)
    events = bench.events(seed=17, prediction="v")
    reused = {event.name: event.reused for event in events if isinstance(event, StageDone)}
    assert [reused[name] for name in ("load", "text", "denoise")] == [True, True, False]


@pytest.mark.parametrize("changes", [{"model": "tiny-zero"}, {"prediction": "v_zero_snr"}])
def test_a_sampler_that_cannot_begin_at_pure_noise_says_so_before_anything_runs(
    bench: Bench, changes: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(denoise, "make_scheduler", None)
    with pytest.raises(BadRequestError, match="zero terminal SNR") as caught:
        bench.picture(sampler="Heun", **changes)
    assert caught.value.field == "sampler"


@pytest.mark.parametrize("sampler", ["Euler a", "DPM++ 2M", "DPM++ 2M SDE", "UniPC", "LCM", "TCD"])
def test_samplers_that_begin_at_pure_noise_run_from_words_and_pictures(
    bench: Bench, sampler: str
) -> None:
    init = bench.bring(kit.gradient())
    made = bench.picture(model="tiny-zero", sampler=sampler)
    begun = bench.picture(model="tiny-zero", sampler=sampler, init=init, strength=0.5)
    assert kit.differ(made, begun) > 0


def test_previews_follow_what_is_predicted(bench: Bench) -> None:
    def previews(**changes: str) -> list[bytes]:
        bench.forget()
        events = bench.events(kit.Session(id="tests", previews=True), steps=6, **changes)
        return [event.jpeg for event in events if isinstance(event, Preview)]

    by_file = previews(model="tiny-v")
    assert len(by_file) == 5
    assert previews(prediction="v") == by_file
    assert previews() != by_file


def test_the_inpaint_model_paints_from_words_pictures_and_masks(bench: Bench) -> None:
    of_inpaint = Bench(bench.engine, bench.settings, {**bench.base, "model": "tiny-inpaint"})
    kit.check_prompt_acts(of_inpaint)
    kit.check_inpaints(of_inpaint)
    init = of_inpaint.bring(kit.gradient())
    away = [of_inpaint.picture(init=init, strength=share, steps=8) for share in (0.2, 1.0)]
    assert kit.differ(*away) > 0.5
    assert np.isfinite(away).all()


CROSS = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
TEXT = "encoder.layers.1.self_attn.q_proj"


@pytest.mark.parametrize(
    ("spelled", "place"),
    [
        (f"lora_unet_{CROSS.replace('.', '_')}", f"unet:{CROSS}"),
        ("lora_te_text_model_" + TEXT.replace(".", "_"), "text_encoder:" + TEXT),
    ],
)
def test_a_lora_acts_and_is_gone_to_the_bit(bench: Bench, spelled: str, place: str) -> None:
    kit.check_lora(bench, {spelled: place}, spelled[-20:])
