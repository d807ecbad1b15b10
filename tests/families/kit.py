"""What every family has to show, end to end: the engine over a tiny model of its real classes."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save

from tests.guards import use_guard
from tests.test_engine import Scripted, silent
from webui.cli.building import build_engine
from webui.engine import Engine
from webui.errors import BadRequestError
from webui.events import Cancelled, Event, Failed, Notice, Preview, Saved, StageDone, Step
from webui.generation import previews
from webui.generation.backbones.base import Encoding
from webui.generation.companions import Companions
from webui.generation.loaded import Loaded
from webui.generation.prompt_plan import plan_plain, plan_prompt
from webui.generation.sizes import Sizes
from webui.generation.speed import Call
from webui.generation.speeding import sped
from webui.generation.stages import LatentsKey
from webui.generation.text_encoders import find_vocabulary, layouts_of, tokenizer_in
from webui.generation.tokens import TextEncoder, count_tokens
from webui.generator import Cancel, Session
from webui.library.uploads import Uploads
from webui.request import GenerationRequest, parse_request
from webui.settings import DtypeName, MemoryName, Settings

Pixels = NDArray[np.int16]

SESSION = Session(id="tests", previews=False)
SIDE = 64


@dataclass(frozen=True)
class Bench:
    """An engine whose only model is called "tiny".

    Attributes:
        base: What a request of this family says beside the prompt.
    """

    engine: Engine
    settings: Settings
    base: Mapping[str, Any]

    def request(self, **changes: Any) -> GenerationRequest:
        said = {"model": "tiny", "prompt": "a red hill", "seed": 5, "steps": 3}
        sizes = {} if "init" in changes else {"width": SIDE, "height": SIDE}
        return parse_request(said | sizes | dict(self.base) | changes)

    def events(self, session: Session = SESSION, **changes: Any) -> list[Event]:
        return list(self.engine.generate(self.request(**changes), session, Cancel()))

    def pictures(self, **changes: Any) -> list[Pixels]:
        """The finished pictures; what fails is raised."""
        events = self.events(**changes)
        for event in events:
            if isinstance(event, Failed):
                raise BadRequestError(event.message, field=event.field)
        saved = [event for event in events if isinstance(event, Saved)]
        return [np.asarray(Image.open(one.path).convert("RGB")).astype(np.int16) for one in saved]

    def picture(self, **changes: Any) -> Pixels:
        (picture,) = self.pictures(**changes)
        return picture

    @property
    def loaded(self) -> Loaded:
        untyped: Any = self.engine
        plan = untyped._planner.plan(self.request())
        return untyped._painter._pipelines.get(plan.checkpoint, plan.family)

    @property
    def in_memory(self) -> list[Loaded]:
        """The models that are in memory, the last used last."""
        untyped: Any = self.engine
        return [kept.loaded for kept in untyped._painter._pipelines._kept.values()]

    @property
    def sizes(self) -> Sizes:
        """What the memory plan counts with."""
        untyped: Any = self.engine
        (held,) = untyped._painter._pipelines._kept.values()
        return held.sizes

    def bring(self, picture: NDArray[np.uint8], kind: str = "picture") -> str:
        """The name of a picture that was brought in."""
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "PNG")
        shelf: Any = Uploads(self.settings.state / "uploads")
        return shelf.take(file.getvalue(), kind=kind).id

    def latents(self, **changes: Any) -> torch.Tensor:
        """What the denoising ends with: a finished picture is marked too."""
        self.picture(**changes)
        untyped: Any = self.engine
        held = untyped._painter._cache._entries
        *_, latents = (held[key][0] for key in held if isinstance(key, LatentsKey))
        return latents

    def forget(self) -> None:
        """Has everything be computed anew."""
        untyped: Any = self.engine
        untyped._painter._cache.clear()


@contextmanager
def bench_of(
    folder: Path,
    write: Callable[[Path], None],
    *,
    dtype: DtypeName = "float32",
    memory: MemoryName = "auto",
    **base: Any,
) -> Generator[Bench]:
    """A bench for the model that `write` writes into its folder."""
    with pytest.MonkeyPatch.context() as patch:
        write(folder / "models" / "tiny")
        settings = Settings(
            models=folder / "models",
            outputs=folder / "outputs",
            state=folder / "state",
            loras=folder / "loras",
            dtype=dtype,
            memory=memory,
        )
        engine = build_engine(settings, silent)
        use_guard(engine, patch, Scripted())
        # Every step shows one: tiny steps take no time.
        patch.setattr(previews, "MIN_SECONDS", 0.0)
        patch.setattr(previews, "SHARE_OF_TIME", 1e9)
        yield Bench(engine, settings, base)
        engine.close()


def differ(one: Pixels, other: Pixels) -> float:
    """Mean difference of the pixels, 0..255."""
    return float(np.abs(one - other).mean())


def gradient(seed: int = 0, side: int = SIDE) -> NDArray[np.uint8]:
    rise = np.linspace(0, 255, side)
    planes = [np.roll(np.tile(rise, (side, 1)), 11 * (seed + k), 1) for k in range(3)]
    return np.stack(planes, -1).astype(np.uint8)


def check_repeats(bench: Bench) -> None:
    """The same seed gives the same picture, another another one."""
    first = bench.picture()
    bench.forget()
    assert (bench.picture() == first).all()
    assert differ(bench.picture(seed=6), first) > 0


def check_batch(bench: Bench) -> None:
    """Each picture of a batch is the one its seed gives alone, to the rounding of its matrices."""
    batch = bench.pictures(batch=2)
    for seed, together in zip((5, 6), batch, strict=True):
        assert np.abs(bench.picture(seed=seed) - together).max() <= 2


def check_prompt_acts(bench: Bench) -> None:
    assert differ(bench.picture(), bench.picture(prompt="a blue lake")) > 0


LATE = 6
"""Of nine steps, the one at whose end a picture is given up: a refiner is at work by then."""


def check_cancel(bench: Bench) -> None:
    """Takes effect within a step, and the next picture is as ever."""
    known = bench.picture(seed=31)
    cancel, steps, events = Cancel(), 0, list[Event]()

    # A tiny model's steps are over before they are told of; on a busy machine that takes a while.
    def wait(*_: object) -> None:
        time.sleep(0.3 if steps >= LATE - 1 and not cancel.is_set() else 0.05)

    slow = [model.denoiser.register_forward_pre_hook(wait) for model in bench.in_memory]
    for event in bench.engine.generate(bench.request(seed=32, steps=9), SESSION, cancel):
        events.append(event)
        if isinstance(event, Step):
            steps += 1
            if event.step == LATE:
                cancel.set()
    for hook in slow:
        hook.remove()
    assert isinstance(events[-1], Cancelled)
    assert LATE <= steps <= LATE + 1
    bench.forget()
    assert (bench.picture(seed=31) == known).all()


def check_previews(bench: Bench) -> None:
    """The last is close to what the family's map makes of the latents that came of it."""
    asked: dict[str, Any] = {"seed": 41, "steps": 12}
    events = bench.events(Session(id="tests", previews=True), **asked)
    shown = [event.jpeg for event in events if isinstance(event, Preview)]
    assert len(shown) == asked["steps"] - 1
    frame = previews.to_rgb(bench.latents(**asked), bench.loaded.family.latent_map)
    last, end = (_colours(jpeg) for jpeg in (shown[-1], previews.to_jpeg(frame)))
    assert (last * end).mean() > 0.9


def _colours(jpeg: bytes) -> NDArray[np.float64]:
    """The pixels with a mean of 0 and a deviation of 1, so that a product tells how alike."""
    with Image.open(io.BytesIO(jpeg)) as picture:
        pixels = np.asarray(picture).astype(np.float64)
    apart = pixels - pixels.mean((0, 1))
    return apart / apart.std()


def check_reuse(bench: Bench) -> None:
    """Another seed computes neither the model nor the text again."""
    bench.pictures()
    events = bench.events(seed=77)
    reused = {event.name: event.reused for event in events if isinstance(event, StageDone)}
    assert [reused[name] for name in ("load", "text", "denoise")] == [True, True, False]


def check_starts_from_picture(bench: Bench) -> None:
    """The less strength, the more of the picture it starts from is left."""
    init = bench.bring(gradient())
    decoded = _through_the_vae(bench, gradient())
    away = [
        differ(bench.picture(init=init, strength=strength, steps=20), decoded)
        for strength in (0.05, 0.5, 1.0)
    ]
    assert away[0] < away[1] < away[2]


def check_inpaints(bench: Bench) -> None:
    """What the mask leaves out stays to the bit, what it covers changes."""
    plain, mask = gradient(), square_mask()
    made = bench.picture(**painted_anew(bench, plain, mask))
    outside = mask == 0
    assert (made[outside] == plain.astype(np.int16)[outside]).all()
    assert differ(made[~outside], plain.astype(np.int16)[~outside]) > 1


def painted_anew(bench: Bench, picture: NDArray[np.uint8], mask: NDArray[np.uint8]) -> Any:
    """What a request says that paints the masked part of a picture from noise."""
    names = {"init": bench.bring(picture), "mask": bench.bring(mask, "mask")}
    return {**names, "mask_blur": 0, "strength": 1.0}


def square_mask() -> NDArray[np.uint8]:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[16:48, 16:48] = 255
    return mask


def keeper(
    bench: Bench, picture: NDArray[np.uint8], mask: NDArray[np.uint8], noise: torch.Tensor
) -> Callable[..., dict[str, torch.Tensor]]:
    """A callback by which a pipeline of diffusers that flows keeps what no mask covers too.

    Args:
        noise: What it starts from, of shape (1, channels, height, width).
    """
    loaded = bench.loaded
    planes = torch.as_tensor(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        init = loaded.backbone.encode_picture(loaded.pipe, planes)
    _, channels, height, width = init.shape
    free = torch.as_tensor(mask[::8, ::8] > 0)[None, None]

    def keep(pipe: Any, step: int, _: Any, tensors: dict[str, Any]) -> dict[str, torch.Tensor]:
        level = pipe.scheduler.sigmas[step + 1]
        latents = loaded.backbone.unpacked(pipe, tensors["latents"], (channels, height, width))
        kept = torch.where(free, latents, (1 - level) * init + level * noise)
        return {"latents": loaded.backbone.packed(pipe, kept)}

    return keep


def check_lora(bench: Bench, layers: Mapping[str, str], name: str = "change") -> None:
    """A LoRA acts, more so when stronger, and is gone to the bit when it is off.

    Args:
        layers: Name in the file, such as "lora_unet_conv_in", to the module's path in its part,
            written "part:path".
    """
    write_lora(bench, name, layers)
    plain = bench.picture()
    half, whole = (bench.picture(loras=[{"name": name, "weight": weight}]) for weight in (0.5, 1.0))
    assert 0 < differ(half, plain) < differ(whole, plain)
    bench.forget()
    assert (bench.picture() == plain).all()
    assert bench.loaded.loras.kept_bytes == 0


def check_control(bench: Bench, control: Mapping[str, Any]) -> None:
    """It steers by what it is shown, each picture of a batch as alone, and is gone to the bit."""
    plain = bench.picture()
    batch = bench.pictures(controls=[control], batch=2)
    assert differ(batch[0], plain) > 0
    for seed, together in zip((5, 6), batch, strict=True):
        alone = bench.picture(seed=seed, controls=[control])
        assert np.abs(alone - together).max() <= 2
    other = {**control, "picture": bench.bring(gradient(3))}
    assert differ(bench.picture(controls=[other]), batch[0]) > 0
    bench.forget()
    assert (bench.picture() == plain).all()


def check_control_starts(bench: Bench, control: Mapping[str, Any]) -> None:
    """It steers what starts from a picture, and under a mask nothing but what that covers."""
    picture = gradient(1)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[16:48, 16:48] = 255
    begun = {"init": bench.bring(picture), "strength": 0.7}
    assert differ(*(bench.picture(**begun, controls=units) for units in ([], [control]))) > 0
    masked = {**begun, "mask": bench.bring(mask, "mask"), "mask_blur": 0, "strength": 1.0}
    plain, steered = (bench.picture(**masked, controls=units) for units in ([], [control]))
    assert (steered[mask == 0] == picture.astype(np.int16)[mask == 0]).all()
    assert differ(plain[mask > 0], steered[mask > 0]) > 0


def check_grammar(bench: Bench) -> None:
    """A1111's grammar, in what the encoders give and in what is made of it over the steps."""
    loaded = bench.loaded
    hill, lake, long = "a red hill", "a blue lake", " ".join(["red"] * 80)

    def tokens(text: str) -> torch.Tensor:
        (prompt,) = plan_prompt(text, "prompt", 3).prompts
        return loaded.backbone.encode(loaded.pipe, prompt, 1).tokens

    plain, weighed = tokens(hill), tokens("a (red:1.5) hill")
    # Behind the start token; all are scaled back alike, in each encoder.
    assert torch.allclose(weighed[2] * plain[1], 1.5 * weighed[1] * plain[2], atol=1e-4)
    assert not torch.allclose(weighed, plain, atol=1e-3)
    assert torch.equal(tokens(f"{hill} BREAK {lake}"), torch.cat([plain, tokens(lake)]))
    chunks = [tokens(" ".join(["red"] * length)) for length in (75, 5)]
    assert torch.allclose(tokens(long), torch.cat(chunks), atol=1e-5)

    def made(prompt: str, negative_prompt: str = "fog") -> torch.Tensor:
        return bench.latents(prompt=prompt, negative_prompt=negative_prompt, steps=3)

    def apart(one: torch.Tensor, other: torch.Tensor) -> float:
        return float((one - other).abs().mean())

    first, second = made(hill), made(lake)
    whole = apart(first, second)
    changed = made(f"[{hill}:{lake}:0.5]")
    assert torch.equal(changed, made(f"[{hill}|{lake}|{lake}]"))
    both = made(f"{hill} AND {lake}")
    for other in (changed, both):
        assert min(apart(other, first), apart(other, second)) > 0.005 * whole
    assert apart(made(f"{hill} :0.5 AND {hill} :0.5"), first) < 0.0005 * whole
    # One chunk on the one side, two on the other.
    assert not torch.equal(made(long), made(f"{long} hill"))
    assert not torch.equal(made(hill, long), made(hill, f"{long} hill"))


def check_plain_text(bench: Bench) -> None:
    """Prompts reach the encoders as they are typed, as far as the page says, which says so too."""
    loaded = bench.loaded
    typed = "[a (red:1.4) hill|a lake] AND ((tree"
    given: list[str] = []
    encode = loaded.pipe.encode_prompt

    def spy(prompt: str, *args: Any, **options: Any) -> Any:
        given.append(prompt)
        return encode(prompt, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loaded.pipe, "encode_prompt", spy)
        events = bench.events(prompt=typed, steps=2)
    assert given[0] == typed
    notices = [event.message for event in events if isinstance(event, Notice)]
    about = f"{loaded.family.name} reads prompts as plain text"
    assert len([notice for notice in notices if notice.startswith(about)]) == 1
    counted = count_tokens(typed, encoders_of(loaded))
    assert (counted.unread, counted.brackets, counted.problem) == (True, (), None)
    assert not count_tokens("a red hill, a lake", encoders_of(loaded)).unread
    _check_cut(loaded)


def encoders_of(loaded: Loaded) -> list[TextEncoder]:
    """The text encoders as the page knows them, by which it counts."""
    model = loaded.checkpoint
    read: list[TextEncoder] = []
    for layout in layouts_of(model, loaded.family):
        place = find_vocabulary(model, Companions(model), layout)
        assert place is not None
        read.append(layout.with_tokenizer(tokenizer_in(place, model, layout)))
    return read


def _check_cut(loaded: Loaded) -> None:
    """Each encoder reads what is before the cut that the page shows, and nothing behind it."""
    text = " ".join(["red"] * 600)

    def encoded(text: str) -> Encoding:
        return loaded.backbone.encode(loaded.pipe, plan_plain(text, 1).prompts[0], 1)

    whole = encoded(text)
    for encoder in count_tokens(text, encoders_of(loaded)).encoders:
        (cut,) = encoder.cuts

        def changes(letter: int, name: str = encoder.name) -> bool:
            other = encoded(f"{text[:letter]}x{text[letter + 1 :]}")
            # CLIP's are the ones that see the whole.
            if name == "CLIP" and other.pooled is not None and whole.pooled is not None:
                return not torch.equal(other.pooled, whole.pooled)
            return not torch.equal(other.tokens, whole.tokens)

        assert changes(len(text[:cut].rstrip()) - 1), encoder
        assert not changes(cut + text[cut:].index("r")), encoder


STEPS_TO_SPARE = 9


def check_speed(bench: Bench) -> None:
    """Each rung runs less of the denoiser than the one before, and leaves nothing of it behind."""
    full, work = worked(bench, speed="full")
    pictures, works = [full], [work]
    for speed in ("quick", "quickest"):
        picture, work = worked(bench, speed=speed)
        pictures.append(picture)
        works.append(work)
    assert works[0] > works[1] > works[2]
    assert all(differ(full, other) > 0 for other in pictures[1:])
    denoiser = bench.loaded.denoiser
    assert not any("forward" in module.__dict__ for module in denoiser.modules())
    bench.forget()
    assert (worked(bench, speed="full")[0] == full).all()
    _check_replays(bench)
    batch = bench.pictures(batch=2, speed="quickest", steps=STEPS_TO_SPARE)
    assert np.abs(batch[0] - pictures[2]).max() <= 2


def worked(bench: Bench, **changes: Any) -> tuple[Pixels, int]:
    """A picture, and how many numbers went through layers of the denoiser for it."""
    went = 0

    def count(_: Any, args: tuple[Any, ...]) -> None:
        nonlocal went
        went += args[0].numel()

    layers = [one for one in bench.loaded.denoiser.modules() if isinstance(one, torch.nn.Linear)]
    hooks = [layer.register_forward_pre_hook(count) for layer in layers]
    try:
        return bench.picture(**{"steps": STEPS_TO_SPARE} | changes), went
    finally:
        for hook in hooks:
            hook.remove()


def _check_replays(bench: Bench) -> None:
    """What is used again is what would be computed from the same input."""
    denoiser = bench.loaded.denoiser
    given: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def record(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any], __: Any) -> None:
        given.append((args, kwargs))

    # After what widens its input.
    with denoiser.register_forward_hook(record, with_kwargs=True):
        bench.picture(seed=91)
    args, kwargs = given[0]
    rows = len(args[0] if args else kwargs["hidden_states"])
    calls = [Call(True, False), Call(True, True), Call(False, False)]
    with torch.inference_mode():
        whole = denoiser(*args, **kwargs)[0]
        with sped(denoiser, calls, pictures=1, guided=rows == 2):
            computed, again, unguided = (denoiser(*args, **kwargs)[0] for _ in calls)
    for number in range(rows):
        assert torch.equal(computed[number], whole[number])
        assert torch.allclose(again[number], whole[number], atol=1e-4)
    of_prompt: torch.Tensor = whole[0 if isinstance(whole, list) or rows == 1 else 1]
    for row in unguided:
        assert torch.allclose(row, of_prompt, atol=1e-4)


def write_lora(bench: Bench, name: str, layers: Mapping[str, str], **metadata: str) -> None:
    """Puts a LoRA of these layers (`check_lora`) on the shelf."""
    generator = torch.Generator().manual_seed(5)
    tensors: dict[str, torch.Tensor] = {}
    for spelled, place in layers.items():
        part, _, path = place.partition(":")
        module: Any = bench.loaded.pipe.components[part]
        weight = module.get_parameter(f"{path}.weight")
        spread = float(weight.std()) * 0.5
        inner = weight[0].numel()
        tensors[f"{spelled}.lora_down.weight"] = torch.randn(4, inner, generator=generator)
        up = torch.randn(weight.shape[0], 4, generator=generator) * spread
        tensors[f"{spelled}.lora_up.weight"] = up
    bench.settings.loras.mkdir(exist_ok=True)
    (bench.settings.loras / f"{name}.safetensors").write_bytes(save(tensors, metadata))


def _through_the_vae(bench: Bench, picture: NDArray[np.uint8]) -> Pixels:
    loaded = bench.loaded
    planes = torch.as_tensor(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        latents = loaded.backbone.encode_picture(loaded.pipe, planes)
        decoded = loaded.backbone.decode_latents(loaded.pipe, latents)[0]
    pixels = ((decoded / 2 + 0.5).clamp(0, 1) * 255).round()
    return pixels.permute(1, 2, 0).numpy().astype(np.int16)
