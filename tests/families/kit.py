"""What every family has to show, end to end: the engine over a tiny model of its real classes."""

from __future__ import annotations

import io
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
from webui.events import Cancelled, Event, Failed, Preview, Saved, StageDone, Step
from webui.generation import previews
from webui.generation.pipelines import Loaded
from webui.generation.stages import LatentsKey
from webui.generator import Cancel, Session
from webui.library.uploads import Uploads
from webui.request import GenerationRequest, parse_request
from webui.settings import Settings

Pixels = NDArray[np.int16]

SESSION = Session(id="tests", previews=False)
SIDE = 64


@dataclass(frozen=True)
class Bench:
    """An engine in float32 whose only model is called "tiny".

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
        plan = untyped._resolved(self.request())
        return untyped._painter._pipelines.get(plan.checkpoint, plan.family)

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
def bench_of(folder: Path, write: Callable[[Path], None], **base: Any) -> Generator[Bench]:
    """A bench for the model that `write` writes into its folder."""
    with pytest.MonkeyPatch.context() as patch:
        write(folder / "models" / "tiny")
        settings = Settings(
            models=folder / "models",
            outputs=folder / "outputs",
            state=folder / "state",
            loras=folder / "loras",
            dtype="float32",
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


def check_cancel(bench: Bench) -> None:
    """Takes effect within a step, and the next picture is as ever."""
    known = bench.picture(seed=31)
    cancel, steps, events = Cancel(), 0, list[Event]()
    for event in bench.engine.generate(bench.request(seed=32, steps=9), SESSION, cancel):
        events.append(event)
        if isinstance(event, Step):
            steps += 1
            cancel.set()
    assert isinstance(events[-1], Cancelled)
    assert steps <= 2
    bench.forget()
    assert (bench.picture(seed=31) == known).all()


def check_previews(bench: Bench) -> None:
    events = bench.events(Session(id="tests", previews=True), seed=41, steps=6)
    shown = [event for event in events if isinstance(event, Preview)]
    assert shown
    with Image.open(io.BytesIO(shown[-1].jpeg)) as picture:
        assert picture.width == picture.height


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
    plain = gradient()
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[16:48, 16:48] = 255
    names = {"init": bench.bring(plain), "mask": bench.bring(mask, "mask")}
    made = bench.picture(**names, mask_blur=0, strength=1.0)
    outside = mask == 0
    assert (made[outside] == plain.astype(np.int16)[outside]).all()
    assert differ(made[~outside], plain.astype(np.int16)[~outside]) > 1


def check_lora(bench: Bench, layers: Mapping[str, str], name: str = "change") -> None:
    """A LoRA acts, more so when stronger, and is gone to the bit when it is off.

    Args:
        layers: Name in the file, such as "lora_unet_conv_in", to the module's path in its part,
            written "part:path".
    """
    _write_lora(bench, name, layers)
    plain = bench.picture()
    half, whole = (bench.picture(loras=[{"name": name, "weight": weight}]) for weight in (0.5, 1.0))
    assert 0 < differ(half, plain) < differ(whole, plain)
    bench.forget()
    assert (bench.picture() == plain).all()
    assert bench.loaded.loras.kept_bytes == 0


def _write_lora(bench: Bench, name: str, layers: Mapping[str, str]) -> None:
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
    (bench.settings.loras / f"{name}.safetensors").write_bytes(save(tensors))


def _through_the_vae(bench: Bench, picture: NDArray[np.uint8]) -> Pixels:
    loaded = bench.loaded
    planes = torch.as_tensor(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        latents = loaded.backbone.encode_picture(loaded.pipe, planes)
        decoded = loaded.backbone.decode_latents(loaded.pipe, latents)[0]
    pixels = ((decoded / 2 + 0.5).clamp(0, 1) * 255).round()
    return pixels.permute(1, 2, 0).numpy().astype(np.int16)
