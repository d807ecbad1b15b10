"""From what was asked to what is done: every open choice of a request is made here."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from types import MappingProxyType
from typing import Any, NamedTuple

from webui.clearance import Region
from webui.errors import BadRequestError
from webui.generation.canvas import Brought, Canvas, lay_out
from webui.generation.control import Control, resolve_control
from webui.generation.drawn import PictureTexts, picture_seeds
from webui.generation.embedding_words import EmbeddingReader
from webui.generation.facts import Own, find_own, trained_size
from webui.generation.families import Family, family_of
from webui.generation.hinted import about_control, check_hinted
from webui.generation.hints import Area
from webui.generation.lora_plan import plan_loras
from webui.generation.plan import Plan
from webui.generation.prompt_plan import PromptPlan, plan_plain, plan_prompt
from webui.generation.prompt_rooms import PROMPT_ROOMS
from webui.generation.prompts import PromptField
from webui.generation.refining import check_refiner, steps_refined
from webui.generation.samplers import check_sampler, check_trained, trained_as
from webui.generation.sampling import Sampling, sampling_of
from webui.generation.separate_vae import check_vae
from webui.generation.speed import RUNGS
from webui.generation.strength import steps_left
from webui.generation.unused import refuse_unused
from webui.interchange.dynamicmarks import without_escapes
from webui.library.checkpoints import Checkpoint
from webui.library.controlnets import ControlNetShelf
from webui.library.embeddings import EmbeddingShelf
from webui.library.loras import LoraShelf
from webui.library.vaes import Vae
from webui.request import DRAWN_SEEDS, GenerationRequest, parse_request


def resolve(
    request: GenerationRequest,
    checkpoint: Checkpoint,
    loras: LoraShelf,
    controlnets: ControlNetShelf,
    brought: Mapping[str, Brought] = MappingProxyType({}),
    pictures: Sequence[PictureTexts] = (),
    *,
    refiner: Checkpoint | None = None,
    vae: Vae | None = None,
    embeddings: EmbeddingShelf | None = None,
) -> Plan:
    """Decides what the request leaves open.

    Args:
        refiner: The model of the name that the request has for its refiner.
        vae: The VAE of the name that the request has for it.
        brought: The pictures brought in, by the names the request has for them.
        pictures: The texts of each picture, or of all; by default those of the request.
        embeddings: Where words of the prompts are looked for; without it they are all text.

    Raises:
        BadRequestError: The model is not served, a field has no use, a prompt is malformed, a LoRA
            or ControlNet is missing or for other models, an embedding that a prompt names in
            pointed brackets cannot be used, or a picture does not fit.
        BrokenFileError: The model's configuration, or a file of a LoRA or ControlNet, is damaged.
    """
    family = family_of(checkpoint)
    refuse_unused(request, family)
    check_hinted(request.controls, checkpoint, family)
    if vae is not None:
        check_vae(vae, checkpoint)
    sized = _size(request, checkpoint, family, brought)
    controls = _controls(request, checkpoint, controlnets, brought, sized)
    acting = tuple(control for control in controls if control is not None)
    own = find_own(request, checkpoint, loras)
    sampling = _sampling(request, own, checkpoint, family, acting)
    seed = secrets.randbelow(DRAWN_SEEDS) if request.seed is None else request.seed
    filled = parse_request(
        request.model_dump()
        | {name: brought[picture].id for name, picture in _starts_from(request)}
        | {"controls": _filled(request, controls, brought)}
        | {"width": sized.width, "height": sized.height, "seed": seed}
        | asdict(sampling)
    )
    canvas = sized.canvas
    steps = sampling.steps if canvas is None else steps_left(sampling.steps, request.strength)
    texts = PictureTexts(request.prompt, request.negative_prompt)
    batches = _batches(
        picture_seeds(request, seed),
        pictures if len(pictures) > 1 else [*(pictures or [texts])] * request.count * request.batch,
        request.batch,
    )
    reader = None if embeddings is None else EmbeddingReader(checkpoint, family, embeddings)
    plan = Plan(
        request=filled,
        sampling=sampling,
        checkpoint=checkpoint,
        family=family,
        texts=tuple(texts for texts, _ in batches),
        prompts=_prompts(request, [texts for texts, _ in batches], family, sampling, steps, reader),
        loras=plan_loras(request.loras, family, loras),
        width=sized.width,
        height=sized.height,
        paint_width=sized.width if canvas is None else canvas.source.paint_width,
        paint_height=sized.height if canvas is None else canvas.source.paint_height,
        steps=steps,
        canvas=canvas,
        controls=acting,
        batches=tuple(seeds for _, seeds in batches),
        remarks=() if reader is None else tuple(one.sentence for one in reader.remarks),
        vae=vae,
        shift=own.shift,
    )
    return plan if refiner is None else replace(plan, refiner=_refined(plan, refiner))


class _Sized(NamedTuple):
    """Size of the pictures in pixels, and what they start from."""

    width: int
    height: int
    canvas: Canvas | None


def _size(
    request: GenerationRequest,
    checkpoint: Checkpoint,
    family: Family,
    brought: Mapping[str, Brought],
) -> _Sized:
    trained = trained_size(checkpoint)
    if request.init is not None:
        canvas = lay_out(request, brought, trained, family.side_step)
        return _Sized(canvas.source.width, canvas.source.height, canvas)
    width, height = request.width or trained, request.height or trained
    _check_side(family, "width", width)
    _check_side(family, "height", height)
    return _Sized(width, height, None)


def _controls(
    request: GenerationRequest,
    checkpoint: Checkpoint,
    controlnets: ControlNetShelf,
    brought: Mapping[str, Brought],
    sized: _Sized,
) -> list[Control | None]:
    """The control units; None where one has no effect."""
    area = None if sized.canvas is None else _area(sized.canvas)
    controls: list[Control | None] = []
    for place, choice in enumerate(request.controls):
        if not choice.weight:
            controls.append(None)
            continue
        with about_control(place):
            control = resolve_control(
                place,
                choice,
                checkpoint,
                controlnets,
                brought,
                sized.width,
                sized.height,
                area,
                masked=sized.canvas is not None and sized.canvas.cover is not None,
            )
        controls.append(control)
    return controls


def _sampling(
    request: GenerationRequest,
    own: Own,
    checkpoint: Checkpoint,
    family: Family,
    controls: Sequence[Control],
) -> Sampling:
    """How noise is removed, which the model and its controls have a say in."""
    sampling = sampling_of(request, own.sampling)
    check_sampler(sampling.sampler, sampling.schedule, sampling.steps, flow=family.flow)
    if not family.flow:
        trained_so = trained_as(checkpoint.config("scheduler"), request.prediction)
        check_trained(sampling.sampler, trained_so)
    if request.guidance is not None or sampling.guidance is None:
        return sampling
    of_hints = (control.guidance for control in controls if control.guidance is not None)
    return replace(sampling, guidance=next(of_hints, sampling.guidance))


def _prompts(
    request: GenerationRequest,
    batches: Sequence[PictureTexts],
    family: Family,
    sampling: Sampling,
    steps: int,
    reader: EmbeddingReader | None,
) -> tuple[tuple[PromptPlan, ...], ...]:
    """What the encoders are given for each batch; the same texts are planned once."""
    guided = family.is_guided(sampling.cfg, request.negative_prompt)
    guided_always = guided and RUNGS[request.speed].guides_always
    planned = {
        texts: _planned(texts, family, steps, reader, guided=guided, guided_always=guided_always)
        for texts in batches
    }
    return tuple(planned[texts] for texts in batches)


def _batches(
    seeds: Sequence[int], pictures: Sequence[PictureTexts], most: int
) -> list[tuple[PictureTexts, tuple[int, ...]]]:
    """Pictures that are made at once: neighbours with the same texts, and no more than `most`."""
    batches: list[tuple[PictureTexts, tuple[int, ...]]] = []
    for seed, texts in zip(seeds, pictures, strict=True):
        if batches and batches[-1][0] == texts and len(batches[-1][1]) < most:
            batches[-1] = (texts, (*batches[-1][1], seed))
        else:
            batches.append((texts, (seed,)))
    return batches


def _planned(
    texts: PictureTexts,
    family: Family,
    steps: int,
    reader: EmbeddingReader | None,
    *,
    guided: bool,
    guided_always: bool,
) -> tuple[PromptPlan, ...]:
    """The prompt and, unless guidance is off, the negative prompt over the steps.

    Raises:
        BadRequestError: One is malformed, what it joins adds up to nothing, or it names an
            embedding that cannot be used.
    """
    fields: tuple[PromptField, ...] = ("prompt", "negative_prompt")
    used = fields if guided else fields[:1]
    if family.backbone in PROMPT_ROOMS:
        plain = [without_escapes(getattr(texts, field)) for field in used]
        for field, text in zip(used, plain, strict=True):
            if reader is not None:
                reader.check_plain(text, field)
        return tuple(plan_plain(text, steps) for text in plain)
    put = None if reader is None else reader.put
    plans = tuple(plan_prompt(getattr(texts, field), field, steps, put) for field in used)
    if not guided_always and any(
        sum(weighted.weight for weighted in each) <= 0 for _, each in plans[0].stretches
    ):
        needed = "guidance in all steps: choose another speed" if guided else "a CFG above 1"
        raise BadRequestError(
            f"Prompt: the weights after AND add up to nothing, which needs {needed}.",
            field="prompt",
        )
    return plans


def _check_side(family: Family, name: str, side: int) -> None:
    if side % family.side_step:
        near = round(side / family.side_step) * family.side_step
        raise BadRequestError(
            f"{family.name} makes pictures whose sides are multiples of {family.side_step}: set"
            f" {name} to {near}.",
            field=name,
        )


def _refined(plan: Plan, refiner: Checkpoint) -> Plan:
    """The plan of the last steps, which the refiner makes in its own way and without company."""
    return replace(
        plan,
        request=plan.request.model_copy(update={"prediction": None}),
        checkpoint=refiner,
        family=check_refiner(plan.sampling.sampler, plan.checkpoint, plan.family, refiner),
        loras=(),
        controls=(),
        vae=None,
        steps=min(plan.steps, steps_refined(plan.sampling.steps, plan.request.refiner_start)),
    )


def _area(canvas: Canvas) -> Area | None:
    """The part that is worked on, where that is not the whole picture at its own size."""
    source = canvas.source
    area = Area(source.area, source.paint_width, source.paint_height)
    whole = Area(Region(0, 0, source.width, source.height), source.width, source.height)
    return None if area == whole else area


def _filled(
    request: GenerationRequest, controls: list[Control | None], brought: Mapping[str, Brought]
) -> list[dict[str, Any]]:
    """The control units with their pictures' content hashes and their ControlNets' names."""
    filled: list[dict[str, Any]] = []
    for choice, control in zip(request.controls, controls, strict=True):
        values = choice.model_dump()
        if choice.picture is not None:
            values["picture"] = brought[choice.picture].id
        if control is not None and control.net is not None:
            values["model"] = control.net.name
        filled.append(values)
    return filled


def _starts_from(request: GenerationRequest) -> tuple[tuple[str, str], ...]:
    """The fields that name what it starts from, and their pictures' names."""
    named = (("init", request.init), ("mask", request.mask))
    return tuple((field, name) for field, name in named if name is not None)
