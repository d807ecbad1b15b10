from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.families import kit, tiny_sdxl
from tests.families.kit import Bench
from webui.errors import BadRequestError
from webui.events import Saved, StageDone, Step
from webui.generation.families import SDXL, SDXL_REFINER, family_of
from webui.generation.loaded import Loaded
from webui.generation.schedulers import make_scheduler
from webui.library.checkpoints import Model
from webui.provenance.pngtext import read_text
from webui.settings import ROOT

REFINED: dict[str, Any] = {
    "refiner": "fine",
    "refiner_start": 0.5,
    "negative_prompt": "fog",
    "steps": 4,
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("refiner")
    with kit.bench_of(folder, tiny_sdxl.write_sdxl, sampler="Euler") as made:
        tiny_sdxl.write_refiner(folder / "models" / "fine")
        tiny_sdxl.write_sdxl(folder / "models" / "nine", channels=9)
        yield made


def stages(bench: Bench, **changes: Any) -> list[tuple[str, bool]]:
    """The stages of a picture in order, and whether each was taken from the cache."""
    events = bench.events(**changes)
    assert any(isinstance(event, Saved) for event in events)
    told = [(event.name, event.reused) for event in events if isinstance(event, StageDone)]
    return [stage for stage in told if stage[0] in ("load", "text", "denoise", "decode")]


def test_it_is_the_ensemble_of_diffusers(bench: Bench) -> None:
    own = bench.latents(**REFINED)
    refiner, base = in_memory(bench)
    assert (refiner.family, base.family) == (SDXL_REFINER, SDXL)
    assert torch.allclose(own, _ensemble(base, refiner), atol=1e-4)


def in_memory(bench: Bench) -> list[Loaded]:
    untyped: Any = bench.engine
    return [kept.loaded for kept in untyped._painter._pipelines._kept.values()]


def _ensemble(base: Any, refiner: Any) -> torch.Tensor:
    """As diffusers' documentation has it: the end of one is the start of the other."""
    common: dict[str, Any] = {
        "prompt": "a red hill",
        "negative_prompt": "fog",
        "guidance_scale": 5.0,
        "num_inference_steps": 4,
        "output_type": "latent",
    }

    def plain(one: Any, **said: bool) -> Any:
        scheduler = make_scheduler(one.scheduler_config, "Euler", "normal")
        components = one.pipe.components | {"scheduler": scheduler}
        pipe = type(one.pipe)(**components, **said, add_watermarker=False)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    generator = torch.Generator().manual_seed(5)
    noise = torch.randn((4, kit.SIDE // 8, kit.SIDE // 8), generator=generator)[None]
    first = plain(base, force_zeros_for_empty_prompt=True)(
        **common, width=kit.SIDE, height=kit.SIDE, latents=noise, denoising_end=0.5
    ).images
    second = plain(refiner, force_zeros_for_empty_prompt=False, requires_aesthetics_score=True)
    return second(**common, image=first, denoising_start=0.5).images


def test_the_later_it_comes_the_less_it_changes(bench: Bench) -> None:
    plain = bench.picture(steps=10)
    away = [
        kit.differ(bench.picture(refiner="fine", refiner_start=share, steps=10), plain)
        for share in (0.1, 0.5, 0.9)
    ]
    assert away[0] > away[1] > away[2] > 0


def test_only_what_changes_is_made_anew(bench: Bench) -> None:
    bench.picture(seed=21, **REFINED)
    known = [("load", True), ("load", True), ("text", True), ("text", True)]
    again = stages(bench, seed=21, **REFINED)
    assert again == [*known, ("denoise", True), ("decode", True)]
    later = stages(bench, seed=21, **REFINED | {"refiner_start": 0.75})
    assert later == [*known, ("denoise", False), ("decode", False)]
    other = stages(bench, seed=22, **REFINED)
    assert other == [*known, ("denoise", False), ("decode", False)]
    without = stages(bench, seed=21, **REFINED | {"refiner": None})
    assert without == [("load", True), ("text", True), ("denoise", False), ("decode", False)]


def test_prompt_editing_goes_on_where_the_refiner_takes_over(bench: Bench) -> None:
    """What comes in the last steps is the refiner's alone, and what is over by then is not."""
    late = bench.picture(seed=27, **REFINED, prompt="a red [hill:lake:0.75]")
    assert kit.differ(late, bench.picture(seed=27, **REFINED)) > 0
    early = [REFINED | {"prompt": f"a red [{word}:hill:0.5]"} for word in ("hill", "lake")]
    assert kit.differ(*(bench.picture(seed=27, **about) for about in early)) > 0


def test_its_steps_are_counted_through(bench: Bench) -> None:
    events = bench.events(kit.SESSION, seed=23, **REFINED | {"refiner_start": 0.75})
    steps = [event for event in events if isinstance(event, Step)]
    assert [event.step for event in steps] == [1, 2, 3, 4]
    assert {event.steps for event in steps} == {4}


@pytest.mark.parametrize("sampler", ["Heun", "DPM++ 2M SDE", "LMS", "PNDM", "LCM"])
def test_samplers_of_every_kind_can_be_split(bench: Bench, sampler: str) -> None:
    refined = bench.picture(sampler=sampler, seed=24, **REFINED)
    assert kit.differ(bench.picture(sampler=sampler, seed=24, steps=4), refined) > 0


def test_a_picture_to_start_from_is_refined_too(bench: Bench) -> None:
    """Where it starts later than the refiner, that one makes all of it."""
    init = bench.bring(kit.gradient())
    for strength in (0.25, 0.75):
        about = {"init": init, "strength": strength, "steps": 8}
        plain, refined = bench.picture(**about), bench.picture(**about, refiner="fine")
        assert kit.differ(plain, refined) > 0
    refined = Bench(bench.engine, bench.settings, {**bench.base, "refiner": "fine"})
    kit.check_inpaints(refined)


def test_loras_do_not_touch_it(bench: Bench) -> None:
    refined = Bench(bench.engine, bench.settings, {**bench.base, **REFINED})
    layer = "mid_block.attentions.0.transformer_blocks.0.attn2.to_q"
    kit.check_lora(refined, {f"lora_unet_{layer.replace('.', '_')}": f"unet:{layer}"}, "both")
    refined.picture(seed=26, loras=[{"name": "both", "weight": 1.0}])
    refiner, base = in_memory(bench)
    assert base.loras.kept_bytes
    assert not refiner.loras.kept_bytes


def test_it_can_be_a_model_of_its_own(bench: Bench) -> None:
    alone = Bench(bench.engine, bench.settings, {**bench.base, "model": "fine"})
    kit.check_prompt_acts(alone)
    init = alone.bring(kit.gradient())
    little, more = (
        alone.picture(init=init, strength=strength, steps=20) for strength in (0.05, 1.0)
    )
    assert kit.differ(little, alone.picture(init=init, strength=0.1, steps=20)) < kit.differ(
        little, more
    )


def test_the_file_says_which_it_was(bench: Bench) -> None:
    (saved,) = [e for e in bench.events(seed=25, **REFINED) if isinstance(e, Saved)]
    texts = read_text(Path(saved.path).read_bytes())
    assert "Refiner: fine [" in texts["parameters"]
    assert "Refiner switch at: 0.5" in texts["parameters"]
    assert '"refiner": {"name": "fine", "sha256": "' in texts["easel"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"refiner": "tiny"}, "is the model itself"),
        ({"refiner": "nine"}, "made for inpainting"),
        ({"refiner": "finer"}, "did you mean 'fine'"),
        ({"model": "fine", "refiner": "tiny"}, "have no refiner"),
        ({"model": "postcard", "refiner": "fine"}, "have no refiner"),
        ({"refiner": "postcard"}, "Stable Diffusion 1 model, which does not fit"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(
    bench: Bench, changes: dict[str, str], says: str
) -> None:
    with pytest.raises(BadRequestError, match=says) as caught:
        bench.picture(**changes)
    assert caught.value.field == "refiner"


def test_it_is_known_by_its_configuration() -> None:
    configs = ROOT / "webui" / "generation" / "configs"
    refiner = Model("a", configs / "sdxl-refiner", "StableDiffusionXLImg2ImgPipeline")
    assert family_of(refiner) == SDXL_REFINER
    for name in ("sdxl", "sdxl-inpaint"):
        assert family_of(Model("a", configs / name, "StableDiffusionXLPipeline")) == SDXL
