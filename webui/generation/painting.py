"""The stages from a plan to raw pictures, each taken from the cache where nothing changed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from itertools import product
from pathlib import Path
from threading import Event
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

import torch

from webui.clearance import Texts
from webui.events import LoraApplied, Notice, StackMeasured, StageDone, StageName
from webui.generation.backbones.base import Conditioning, Encoding
from webui.generation.companions import FoundPart
from webui.generation.company import company_of
from webui.generation.compiling import CompileError
from webui.generation.control import Control
from webui.generation.denoise import (
    Observer,
    Prepared,
    Refining,
    StepDone,
    StoppedError,
    denoise,
)
from webui.generation.devices import Device
from webui.generation.finishing import decode
from webui.generation.hinted import about_control
from webui.generation.hints import make_hint
from webui.generation.loaded import Loaded
from webui.generation.lora_plan import hinted_strengths, strengths_at
from webui.generation.masked import Masked
from webui.generation.matching import match, measure
from webui.generation.memory import MemoryPlan, PictureSize
from webui.generation.pipelines import Company, Pipelines
from webui.generation.plan import Plan
from webui.generation.previews import PreviewPace
from webui.generation.prompts import ParsedPrompt
from webui.generation.speed import Rung
from webui.generation.speeding import rung_of
from webui.generation.stages import (
    HintKey,
    Key,
    LatentsKey,
    StageCache,
    TextKey,
    channels_key,
    init_key,
    keys_of,
    mask_key,
    text_key,
)
from webui.generation.starting import (
    Start,
    encode_channels,
    encode_mask,
    encode_start,
    takes_channels,
)
from webui.generation.steering import ControlNets, Steering
from webui.generation.thread import DeviceThread
from webui.generation.timeline import Timeline, make_timeline
from webui.settings import MemoryName, PlanName

T = TypeVar("T")
Stopped = Callable[[], bool]


class Painted(NamedTuple):
    """One batch.

    Attributes:
        pictures: PNG files without text.
        rung: How its denoising was run.
    """

    pictures: tuple[bytes, ...]
    rung: Rung


class Painter:
    """Runs the stages on one device. Each method is a generator of what happens meanwhile."""

    def __init__(
        self,
        device: Device,
        *,
        cache_bytes: int,
        annotators: tuple[Path, ...],
        memory: MemoryName = "auto",
        keep_models_bytes: int | None = None,
    ) -> None:
        """`annotators` are the folders with the weights of networks that draw hints; the rest is
        as in `webui.settings.Settings`.
        """
        self.device = device
        self._annotators = annotators
        self._pipelines = Pipelines(device, memory=memory, keep_bytes=keep_models_bytes)
        self._controlnets = ControlNets(device)
        self._cache = StageCache(cache_bytes)
        self._thread = DeviceThread()
        self._in_8_bits: set[str] = set()
        self._parts: dict[str, tuple[FoundPart, ...]] = {}

    def load(
        self, plan: Plan, beside: Plan | None = None
    ) -> Generator[StageDone | Notice, None, Loaded]:
        """The plan's model, loaded when it is not in memory, telling what was chosen for it then.

        Args:
            beside: The plan of the model that it refines, which stays if it is in memory.

        Raises:
            BrokenFileError: The model does not load.
            OutOfMemoryError: The device cannot hold it.
        """
        reused = self._pipelines.holds(plan.checkpoint, plan.vae)
        is_held = self._pipelines.holds(plan.checkpoint)

        def work() -> Loaded:
            size = PictureSize(plan.paint_width, plan.paint_height, plan.request.batch)
            company = self._company(plan, beside)
            loaded = self._pipelines.get(
                plan.checkpoint, plan.family, size, beside=company, vae=plan.vae
            )
            self._note_storage(plan.checkpoint.key)
            self._note_parts(loaded)
            return loaded

        loaded = yield from self._timed("load", work, reused=reused)
        choices = () if is_held else (part.choice for part in loaded.parts)
        yield from (Notice(message=choice) for choice in choices if choice is not None)
        return loaded

    def _note_parts(self, loaded: Loaded) -> None:
        """Forgets all results once a model has other parts than before, of which its key is not."""
        key = loaded.checkpoint.key
        if self._parts.setdefault(key, loaded.parts) != loaded.parts:
            self._cache.clear()
            self._parts[key] = loaded.parts

    def _company(self, plan: Plan, beside: Plan | None) -> Company:
        """What runs beside the plan's model; ControlNets that do not are gone after."""
        steered = beside or plan
        wanted = {net.sha256 for net in steered.controlnets}
        if wanted or not self._pipelines.holds(steered.checkpoint):
            self._controlnets.keep_only(wanted)
        there = self._controlnets.bytes_on(self.device.name) if wanted else 0
        return company_of(steered, plan, self._pipelines, self.device.dtype, there=there)

    def _note_storage(self, model: str) -> None:
        """Forgets all results once a model's weights are stored in 8 bits, or no longer."""
        in_8_bits = self._pipelines.plan.name == "fp8"
        if in_8_bits == (model in self._in_8_bits):
            return
        self._cache.clear()
        self._in_8_bits ^= {model}

    def load_refiner(self, plan: Plan) -> Generator[StageDone | Notice, None, Loaded | None]:
        """The model that makes the last steps, to be loaded ahead of the one that makes the others.

        Raises:
            BrokenFileError: The refiner does not load.
            OutOfMemoryError: The device cannot hold it.
        """
        if plan.refiner is None:
            return None
        return (yield from self.load(plan.refiner, beside=plan))

    @property
    def memory_plan(self) -> MemoryPlan:
        """How the model last loaded is laid out in memory.

        Raises:
            LookupError: None has been loaded.
        """
        return self._pipelines.plan

    def retreat(self, plan: Plan) -> PlanName | None:
        """Lets go of all that is held after the device has run out of memory, to load more leanly.

        Returns:
            By which plan its models will be laid out; None where there is nothing leaner.
        """
        models = [one.checkpoint for one in (plan, plan.refiner) if one is not None]

        def work() -> PlanName | None:
            self._controlnets.keep_only(())
            self._cache.clear()
            return self._pipelines.retreat(*models)

        return self._thread.call(work)

    def match(
        self, loaded: Loaded, plan: Plan
    ) -> Generator[LoraApplied | Notice | StackMeasured, None, None]:
        """Reads the plan's LoRAs, those of its controls too, and tells how many layers of each fit
        the model, why others do not, and how much they change.

        Raises:
            BadRequestError: Nothing of one fits, or not the layer for its hint; names its row or
                control.
            BrokenFileError: A file is damaged.
        """
        yield from self._thread.call(lambda: match(loaded, plan))
        if plan.loras:
            yield self._thread.call(lambda: measure(loaded, plan))

    def encode(
        self, loaded: Loaded, plan: Plan, batch: int = 0
    ) -> Generator[StageDone, None, Timeline]:
        """The prompts of one of the plan's batches as the model takes them."""
        prompts = plan.prompts[batch]
        used = (prompt for one in prompts for prompt in one.prompts)
        reused = all(self._cache.get(text_key(plan, prompt)) is not None for prompt in used)

        def encode(prompt: ParsedPrompt) -> Encoding:
            return self._encoding(loaded, text_key(plan, prompt))

        def work() -> Timeline:
            def condition(pair: Sequence[ParsedPrompt]) -> Conditioning:
                return loaded.backbone.condition(loaded.pipe, pair, encode)

            try:
                return make_timeline(prompts, condition, encode)
            finally:
                loaded.rereader.done_with_text()

        return (yield from self._timed("text", work, reused=reused, batch=batch))

    def refine(
        self, refiner: Loaded | None, plan: Plan, batch: int
    ) -> Generator[StageDone, None, Refining | None]:
        """The refiner with the prompts of one of the plan's batches as it takes them."""
        if refiner is None or plan.refiner is None:
            return None
        timeline = yield from self.encode(refiner, plan.refiner, batch)
        return Refining(refiner, plan.refiner, timeline)

    def prepare(self, loaded: Loaded, plan: Plan) -> Generator[StageDone, None, Start]:
        """What the denoising starts from; nothing happens where that is noise alone."""
        canvas, init, mask, channels = plan.canvas, None, None, None
        if canvas is not None:
            key = init_key(plan, canvas)
            init = yield from self._made("init", key, lambda: encode_start(loaded, canvas))
            cover_key = mask_key(canvas)
            if cover_key is not None:
                mask = yield from self._made("mask", cover_key, lambda: encode_mask(loaded, canvas))
        if takes_channels(loaded):
            channels = yield from self._made(
                "mask",
                channels_key(plan),
                lambda: encode_channels(loaded, canvas, plan.paint_width, plan.paint_height),
            )
        return Start(
            latents=init,
            mask=mask,
            channels=channels,
            noise_under_mask=canvas is not None and canvas.fill == "noise",
        )

    def steer(self, plan: Plan) -> Generator[StageDone, None, tuple[Steering, ...]]:
        """What steers the denoising; nothing happens where that is the prompt alone.

        Raises:
            NotFoundError: A preprocessor's weights are not here.
            BrokenFileError: They, or a ControlNet, do not load.
        """
        if not plan.controls:
            return ()
        nets, layout = plan.controlnets, self.memory_plan.name
        loaded: tuple[Any, ...] = ()
        if nets:
            reused = self._controlnets.holds(nets, layout)
            loaded = yield from self._timed(
                "control", lambda: self._controlnets.get(nets, layout), reused=reused
            )
        keys = [HintKey(control.hint) for control in plan.controls]
        reused = all(self._cache.get(key) is not None for key in keys)
        hints = yield from self._timed(
            "hint", lambda: [self._hint(control) for control in plan.controls], reused=reused
        )
        asked, masked = iter(loaded), Masked.on(plan.canvas)
        return tuple(
            Steering.of(control, None if control.controlnet is None else next(asked), hint, masked)
            for control, hint in zip(plan.controls, hints, strict=True)
        )

    def _hint(self, control: Control) -> torch.Tensor:
        with about_control(control.place):
            return self._kept(
                HintKey(control.hint),
                lambda: make_hint(
                    control.hint, control.picture, self._annotators, self.device.name
                ),
            )

    def paint(
        self,
        loaded: Loaded,
        plan: Plan,
        batch: int,
        prepared: Prepared,
        *,
        pace: PreviewPace | None,
        stopped: Stopped,
    ) -> Generator[StageDone | StepDone | Notice, None, Painted]:
        """The pictures of one batch, made as fast as the plan's request says and can be done.

        Raises:
            StoppedError: `stopped` was true at the start or at the end of a step.
        """
        if stopped():
            raise StoppedError
        rung, sentence = rung_of(plan, prepared.models(loaded))
        if sentence is not None:
            yield Notice(message=sentence)
        latents_key, pictures_key = keys_of(plan, batch, rung)
        pictures = self._cache.get(pictures_key)
        if pictures is not None:
            yield StageDone(name="denoise", seconds=0, reused=True, batch=batch)
            yield StageDone(name="decode", seconds=0, reused=True, batch=batch)
            return Painted(pictures, rung)
        try:
            latents = yield from self._latents(
                latents_key, loaded, plan, batch, prepared, pace=pace, stopped=stopped
            )
        except CompileError:
            # That it cannot be done is known from now on, so it is not tried again.
            return (
                yield from self.paint(loaded, plan, batch, prepared, pace=pace, stopped=stopped)
            )
        pictures = yield from self._timed(
            "decode", lambda: decode(loaded, latents, plan.canvas), batch=batch
        )
        self._cache.put(pictures_key, pictures)
        return Painted(pictures, rung)

    def forget(self, plan: Plan, batch: int, rung: Rung) -> None:
        """Drops what is held of a batch: of a picture that was withheld nothing stays."""
        for key in keys_of(plan, batch, rung):
            self._cache.drop(key)

    def close(self) -> None:
        """Ends the device thread once its work is done."""
        self._thread.close()

    def _latents(
        self,
        key: LatentsKey,
        loaded: Loaded,
        plan: Plan,
        batch: int,
        prepared: Prepared,
        *,
        pace: PreviewPace | None,
        stopped: Stopped,
    ) -> Generator[StageDone | StepDone | Notice, None, torch.Tensor]:
        latents = self._cache.get(key)
        if latents is not None:
            yield StageDone(name="denoise", seconds=0, reused=True, batch=batch)
            return latents

        merged = (*key.loras, *hinted_strengths(plan.controls))

        def work(emit: Callable[[StepDone | Notice], None], closed: Event) -> torch.Tensor:
            observer = Observer(
                before_call=lambda call, calls: loaded.loras.merge(
                    loaded.backbone.denoiser, strengths_at(merged, call, calls)
                ),
                emit=emit,
                stopped=lambda: closed.is_set() or stopped(),
                tell=lambda sentence: emit(Notice(message=sentence)),
                pace=pace,
            )
            return denoise(loaded, plan, plan.batches[batch], prepared, key.rung, observer)

        began = perf_counter()
        latents = yield from self._thread.stream(work)
        self._cache.put(key, latents)
        yield StageDone(name="denoise", seconds=perf_counter() - began, reused=False, batch=batch)
        return latents

    def _encoding(self, loaded: Loaded, key: TextKey) -> Encoding:
        def make() -> Encoding:
            for encoder in loaded.backbone.encoders:
                loaded.loras.merge(encoder, key.loras)
            return loaded.backbone.encode(loaded.pipe, key.prompt, key.clip_skip)

        return self._kept(key, make)

    def _made(
        self, name: StageName, key: Key[torch.Tensor], make: Callable[[], torch.Tensor]
    ) -> Generator[StageDone, None, torch.Tensor]:
        """A stage of one result."""
        reused = self._cache.get(key) is not None
        return (yield from self._timed(name, lambda: self._kept(key, make), reused=reused))

    def _kept(self, key: Key[T], make: Callable[[], T]) -> T:
        """The result of that key, made when it is not in the cache."""
        result = self._cache.get(key)
        if result is None:
            result = make()
            self._cache.put(key, result)
        return result

    def _timed(
        self, name: StageName, work: Callable[[], T], *, reused: bool = False, batch: int = 0
    ) -> Generator[StageDone, None, T]:
        began = perf_counter()
        result = self._thread.call(work)
        yield StageDone(name=name, seconds=perf_counter() - began, reused=reused, batch=batch)
        return result


def decoded_texts(loaded: Loaded, plan: Plan, refiner: Loaded | None = None) -> Texts:
    """What the text encoders really see of each prompt, for the content filter."""
    seen: tuple[dict[str, None], ...] = ({}, {})
    models = [loaded] if refiner is None else [loaded, refiner]
    for model, prompts in product(models, dict.fromkeys(plan.prompts)):
        for texts, planned in zip(seen, prompts, strict=False):
            for _, joined in planned.stretches:
                told = [model.backbone.seen(model.pipe, one.prompt) for one in joined]
                texts |= dict.fromkeys((*told, " ".join(told)))
    return Texts(*map(tuple, seen))
