"""Prompts that change over the steps, join or draw, on the embedded model, measured in pixels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.guards import use_guard
from tests.test_engine import SESSION, Scripted, saved, silent
from webui.clearance import Texts
from webui.cli.building import build_engine
from webui.engine import Engine
from webui.events import Event, Failed, StageDone
from webui.generator import Cancel
from webui.provenance.pngtext import read_text
from webui.request import GenerationRequest, parse_request
from webui.settings import Settings

Pixels = NDArray[np.float64]
SHIRT = "a person in a {} shirt standing in a meadow by day"
WHERE = (slice(100, 160), slice(110, 146))
"""Where the figure of seed 3 has its shirt."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("prompts")
    (folder / "lists").mkdir()
    (folder / "lists" / "colour.txt").write_text("red\nblue\n", encoding="utf-8")
    (folder / "lists" / "loop.txt").write_text("__loop__\n", encoding="utf-8")
    # What a CPU's bf16 units round away depends on the CPU and on how many pictures there are.
    settings = Settings(
        outputs=folder / "outputs",
        state=folder / "state",
        wildcards=folder / "lists",
        dtype="float32",
    )
    engine = build_engine(settings, silent)
    yield engine
    engine.close()


class Listening(Scripted):
    """A guard that keeps what it was asked to judge."""

    def __init__(self) -> None:
        super().__init__()
        self.admitted: list[Texts] = []
        self.decoded: list[Texts] = []

    def admit(self, *args: Any, texts: Texts = Texts(), **more: Any) -> Any:  # noqa: B008
        self.admitted.append(texts)
        return super().admit(*args, texts=texts, **more)

    def check_decoded(self, admitted: Any, decoded: Texts, **more: Any) -> None:
        self.decoded.append(decoded)


@pytest.fixture
def guard() -> Listening:
    return Listening()


@pytest.fixture
def engine(built: Engine, guard: Listening, monkeypatch: pytest.MonkeyPatch) -> Engine:
    use_guard(built, monkeypatch, guard)
    return built


def events_of(engine: Engine, **asked: Any) -> list[Event]:
    request = GenerationRequest.model_validate({"steps": 8, "seed": 3} | asked)
    return list(engine.generate(request, SESSION, Cancel()))


def pictures(engine: Engine, **asked: Any) -> list[Pixels]:
    events = events_of(engine, **asked)
    assert not isinstance(events[-1], Failed), events[-1]
    return [np.asarray(Image.open(one.path).convert("RGB"), float) for one in saved(events)]


def picture(engine: Engine, prompt: str, **asked: Any) -> Pixels:
    (made,) = pictures(engine, prompt=prompt, **asked)
    return made


def apart(one: Pixels, other: Pixels) -> float:
    """Mean difference of the pixels, 0..255."""
    return float(np.abs(one - other).mean())


def recipe_of(path: str) -> GenerationRequest:
    text = read_text(Path(path).read_bytes())["easel"]
    return parse_request(json.loads(text)["request"])


def blue_over_red(made: Pixels) -> float:
    red, _, blue = made[WHERE].mean((0, 1))
    return float(blue - red)


def test_editing_leads_from_one_prompt_to_the_other_the_later_the_less(engine: Engine) -> None:
    red, blue = (picture(engine, SHIRT.format(colour)) for colour in ("red", "blue"))
    when = (0.0, 0.1, 0.5, 0.8, 1.0)
    between = [picture(engine, SHIRT.format(f"[red:blue:{share}]")) for share in when]
    from_red = [apart(made, red) for made in between]
    to_blue = [apart(made, blue) for made in between]
    assert from_red == sorted(from_red, reverse=True)
    assert to_blue == sorted(to_blue)
    assert (from_red[-1], to_blue[0]) == (0, 0)
    assert 1 < from_red[2] < apart(red, blue)
    assert 1 < to_blue[2] < apart(red, blue)


def test_an_edit_that_changes_nothing_is_the_plain_prompt_to_the_bit(engine: Engine) -> None:
    plain = picture(engine, SHIRT.format("red"), seed=8)
    events = events_of(engine, prompt=SHIRT.format("[red:red:0.5]"), seed=8)
    reused = {event.name: event.reused for event in events if isinstance(event, StageDone)}
    assert reused["text"]
    assert reused["denoise"]
    (made,) = saved(events)
    assert (np.asarray(Image.open(made.path).convert("RGB"), float) == plain).all()


def test_only_what_is_new_is_encoded(engine: Engine) -> None:
    pictures(engine, prompt="a hill by [day:night:4]", seed=1)
    for prompt in ("a hill by day", "a hill by [day|night]", "a hill by night AND a hill by day"):
        events = events_of(engine, prompt=prompt, seed=1)
        (text,) = [e for e in events if isinstance(e, StageDone) and e.name == "text"]
        assert text.reused, prompt


def test_alternation_is_neither_and_each_of_its_steps_counts(engine: Engine) -> None:
    red, blue = (picture(engine, SHIRT.format(colour)) for colour in ("red", "blue"))
    mixed = picture(engine, SHIRT.format("[red|blue]"))
    other = picture(engine, SHIRT.format("[blue|red]"))
    assert min(apart(mixed, red), apart(mixed, blue), apart(mixed, other)) > 1


@pytest.mark.parametrize("sampler", ["Heun", "DPM2 a", "Euler"])
def test_a_step_is_a_step_with_samplers_that_call_the_denoiser_twice(
    engine: Engine, sampler: str
) -> None:
    red, blue = (picture(engine, SHIRT.format(c), sampler=sampler) for c in ("red", "blue"))
    first, last, half = (
        picture(engine, SHIRT.format(f"[red:blue:{step}]"), sampler=sampler) for step in (0, 8, 4)
    )
    assert (apart(first, blue), apart(last, red)) == (0, 0)
    assert min(apart(half, red), apart(half, blue)) > 0.5


def test_the_weights_of_and_move_the_colour(engine: Engine) -> None:
    red, blue = SHIRT.format("red"), SHIRT.format("blue")
    shades = [
        blue_over_red(picture(engine, f"{red} :{1 - share} AND {blue} :{share}"))
        for share in (0.0, 0.3, 0.7, 1.0)
    ]
    assert shades == sorted(shades)
    assert shades[0] < 0 < shades[-1]
    assert apart(picture(engine, f"{red} :0.5 AND {red} :0.5"), picture(engine, red)) < 0.5
    assert apart(picture(engine, f"{red} AND {blue} :-0.5"), picture(engine, red)) > 0.5


def test_and_without_guidance_is_the_mean(engine: Engine) -> None:
    red, blue = SHIRT.format("red"), SHIRT.format("blue")
    shades = [
        blue_over_red(picture(engine, f"{red} :{1 - share} AND {blue} :{share}", cfg=1))
        for share in (0.0, 1.0)
    ]
    assert shades == [
        pytest.approx(blue_over_red(picture(engine, prompt, cfg=1)), abs=2)
        for prompt in (red, blue)
    ]
    (*_, failed) = events_of(engine, prompt=f"{red} AND {blue}:-1", cfg=1)
    assert isinstance(failed, Failed)
    assert "add up to nothing" in failed.message


def test_prompts_of_other_lengths_are_joined_and_followed(engine: Engine) -> None:
    long = SHIRT.format("red") + ", sand" * 80
    mixed = picture(engine, f"{long} AND {SHIRT.format('blue')}")
    assert mixed.shape == (256, 256, 3)
    edited = picture(engine, f"[{long}:{SHIRT.format('blue')}:0]")
    assert apart(edited, picture(engine, SHIRT.format("blue"))) == 0


def test_a_negative_prompt_is_edited_too(engine: Engine) -> None:
    prompt = "a person standing in a meadow by day"
    plain = picture(engine, prompt, negative_prompt="a red shirt")
    edited = picture(engine, prompt, negative_prompt="[a red shirt::2]")
    assert apart(plain, edited) > 0.2
    late = picture(engine, prompt, negative_prompt="[a red shirt:a blue shirt:8]")
    assert apart(plain, late) == 0


def test_pictures_of_a_batch_are_those_of_their_seeds(engine: Engine) -> None:
    prompt = SHIRT.format("[red:blue:3]") + " AND a hill"
    batch = pictures(engine, prompt=prompt, batch=2, steps=6)
    for number, together in enumerate(batch):
        alone = picture(engine, prompt, seed=3 + number, steps=6)
        assert np.abs(alone - together).max() <= 3


def test_each_picture_draws_by_its_own_seed_and_is_made_again_alone_by_its_recipe(
    engine: Engine,
) -> None:
    events = events_of(engine, prompt=SHIRT.format("__colour__"), batch=2, count=3, steps=6)
    made = saved(events)
    assert [one.seed for one in made] == [3, 4, 5, 6, 7, 8]
    prompts: list[str] = []
    for one in made:
        recipe = recipe_of(one.path)
        prompts.append(recipe.prompt)
        assert (recipe.seed, recipe.count, recipe.batch) == (one.seed, 1, 1)
        (again,) = pictures(engine, **recipe.model_dump())
        known = np.asarray(Image.open(one.path).convert("RGB"), float)
        assert np.abs(again - known).max() <= 3
    assert set(prompts) == {SHIRT.format("red"), SHIRT.format("blue")}


def test_a_single_picture_draws_too(engine: Engine) -> None:
    (one,) = saved(events_of(engine, prompt="{a hill|a tree} by day", steps=2))
    assert recipe_of(one.path).prompt in ("a hill by day", "a tree by day")


def test_the_filter_is_shown_every_text_of_every_picture(engine: Engine, guard: Listening) -> None:
    prompt = "{[hill:tree:2]|[hill|house]} AND a __colour__ ball"
    pictures(engine, prompt=prompt, negative_prompt="[grey|dark] sky", count=8, steps=4)
    first, second = guard.admitted
    assert first == second
    for text in ("hill", "tree", "house", "a red ball", "a blue ball", "tree a red ball"):
        assert text in second.prompts, text
    assert {"grey sky", "dark sky"} <= set(second.negative_prompts)
    (decoded,) = guard.decoded
    assert {"hill", "tree", "house", "a red ball", "a blue ball"} <= set(decoded.prompts)
    assert {"grey sky", "dark sky"} <= set(decoded.negative_prompts)


def test_what_is_judged_is_what_is_run_when_fewer_steps_are_run(
    engine: Engine, guard: Listening
) -> None:
    """With fewer steps other prompts may meet: `[a:b:0.5] [c:d:3]` over 4 steps and over 10."""
    (start,) = saved(events_of(engine, prompt="a hill", steps=2))
    shelf: Any = engine
    init = shelf._planner._shelves.uploads.take(Path(start.path).read_bytes(), kind="picture").id
    prompt = "[hill:tree:0.5] [house:ball:3]"
    pictures(engine, prompt=prompt, steps=10, init=init, strength=0.4)
    assert "tree house" not in guard.admitted[-2].prompts
    assert "tree house" in guard.admitted[-1].prompts
    assert set(guard.decoded[-1].prompts) == {"hill house", "tree house", "tree ball"}


def test_what_cannot_be_drawn_ends_the_job_before_anything_is_made(engine: Engine) -> None:
    for prompt, says in (("__loop__", "circle"), ("__colur__", "did you mean 'colour'")):
        *others, failed = events_of(engine, prompt=prompt)
        assert not others
        assert isinstance(failed, Failed)
        assert says in failed.message
        assert failed.field == "prompt"


def test_loras_that_are_drawn_make_one_picture_or_are_refused(engine: Engine) -> None:
    prompt = "a hill {<lora:postcard-neon:0.5>|<lora:postcard-papercut>}"
    (one,) = saved(events_of(engine, prompt=prompt, steps=2))
    recipe = recipe_of(one.path)
    (lora,) = recipe.loras
    assert lora.name in ("postcard-neon", "postcard-papercut")
    assert recipe.prompt == "a hill "
    (failed,) = events_of(engine, prompt=prompt, steps=2, count=20)
    assert isinstance(failed, Failed)
    assert "different LoRAs" in failed.message
