"""What the page learns of a request while it is edited, and of the models on the shelf."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from typing import Any, get_args

from fastapi import FastAPI
from pydantic import BaseModel

from webui.errors import BadRequestError
from webui.generation import facts
from webui.generation.advice import advise, idle_fields
from webui.generation.drawn import draw_prompts
from webui.generation.embedding_words import EmbeddingReader
from webui.generation.facts import ModelFacts, Own, check_clip_skip, own_of, read_facts
from webui.generation.few_steps import few_step_loras
from webui.generation.hinted import check_hinted
from webui.generation.prompt_rooms import PROMPT_ROOMS
from webui.generation.prompts import PromptField
from webui.generation.samplers import check_sampler, check_trained, samplers_for, trained_as
from webui.generation.sampling import sampling_of
from webui.generation.separate_vae import check_vae, fitting_vaes
from webui.generation.tokens import TextEncoder, count_tokens
from webui.generation.unused import refuse_unused
from webui.interchange.dynamicprompts import expand
from webui.library.checkpoints import CheckpointShelf, Model
from webui.library.distilled import Distilled
from webui.library.embeddings import EmbeddingShelf
from webui.library.loras import LoraShelf
from webui.library.vaes import Vae
from webui.library.watched import Watched
from webui.library.wildcards import WildcardShelf
from webui.request import MAX_STEPS, GenerationRequest, parse_request
from webui.ui.modelparts import ModelParts, sources

_FACTS_KEPT = 256


class Looked(BaseModel):
    """The body of `POST /look`: a request as the page holds it, complete or not, valid or not."""

    request: dict[str, Any]


def add_looking_routes(
    app: FastAPI,
    shelf: CheckpointShelf,
    wildcards: WildcardShelf,
    loras: LoraShelf | None = None,
    embeddings: EmbeddingShelf | None = None,
) -> None:
    """Adds `POST /look` (`Looker.look`) and `GET /shelf` (`Looker.models`)."""
    looker = Looker(shelf, wildcards, loras, embeddings)

    @app.post("/look")
    def look(looked: Looked) -> dict[str, Any]:
        return looker.look(looked.request)

    @app.get("/shelf")
    def models() -> dict[str, Any]:
        return {"models": looker.models()}


class Looker:
    """Looks at requests, and at models by their configurations, read anew when they change."""

    def __init__(
        self,
        shelf: CheckpointShelf,
        wildcards: WildcardShelf,
        loras: LoraShelf | None = None,
        embeddings: EmbeddingShelf | None = None,
    ) -> None:
        """`loras` is where it finds out which of a request's were made for few steps."""
        self._shelf = shelf
        self._wildcards = wildcards
        self._loras = loras
        self._embeddings = embeddings
        self._facts = Watched[ModelFacts](_FACTS_KEPT)
        self._parts = ModelParts()

    def models(self) -> list[dict[str, Any]]:
        """Every model on the shelf; of a broken one only `name` and `problem` are not None."""
        vaes = self._shelf.vaes.all()
        return [self._row(name, vaes) for name in self._shelf.names()]

    def look(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """What there is to say about a request.

        Keys of the answer: `problem` (`message`, `field`; or None), `advice` (`kind`, `field`,
        `values`, `fix`), `prompt` and `negative_prompt` (`TokenCount`, with `embeddings`: names and
        vectors of those in it, and `remarks` on words that look like some: `kind`, `name`, `why`),
        `hidden` (fields that the model has no use for and that are not set), `idle` (`field`,
        `kind`), `own` (what each field of `Sampling` is where it is left open, and `made_for`: the
        model or LoRA whose few steps these are), `samplers` (those that can run the model, with
        their schedules), `unable` (why others cannot: "flow", "zero_snr" or "sample") and `missing`
        (what the model lacks, as in `ModelParts`).
        """
        answer: dict[str, Any] = {
            "problem": None,
            "advice": [],
            "hidden": [],
            "idle": [],
            "own": None,
            "samplers": None,
            "unable": None,
        }
        model, known, steps = None, None, MAX_STEPS
        try:
            model = self._model(data)
            known = self._facts_of(model)
            answer["hidden"] = [field for field in known.unused if not _is_set(field, data)]
            request = parse_request(data)
            loras = self._distilled(request)
            own = own_of(known, loras)
            sampling = sampling_of(request, own.sampling)
            trained_so = trained_as(known.scheduler, request.prediction)
            steps = sampling.steps
            answer["own"] = _own(request, own)
            answer["samplers"] = samplers_for(trained_so, flow=known.family.flow)
            answer["unable"] = _unable(known, trained_so)
            answer["idle"] = [asdict(idle) for idle in idle_fields(request, known, sampling)]
            answer["advice"] = [
                asdict(advice) | {"values": dict(advice.values), "fix": dict(advice.fix)}
                for advice in advise(request, known, loras)
            ]
            refuse_unused(request, known.family)
            check_hinted(request.controls, model, known.family)
            flow = known.family.flow
            check_sampler(sampling.sampler, sampling.schedule, sampling.steps, flow=flow)
            if not flow:
                check_trained(sampling.sampler, trained_so)
            if request.vae is not None:
                check_vae(self._shelf.vaes.find(request.vae), model)
            check_clip_skip(request.clip_skip, known.text_layers)
        except BadRequestError as error:
            answer["problem"] = {"message": error.message, "field": error.field}
        answer["missing"] = self._missing(model, data)
        encoders = self._encoders_of(model, known)
        words = self._words(model, known)
        for field in get_args(PromptField):
            counted = count_tokens(
                _text(field, data),
                encoders,
                field,
                steps=steps,
                draw=partial(self._example, field, _seed(data)),
                embeddings=words,
            )
            answer[field] = asdict(counted) | _told(words, field)
        return answer

    def _words(self, model: Model | None, known: ModelFacts | None) -> EmbeddingReader | None:
        """What reads the embeddings in a text; None where that cannot be told."""
        if model is None or known is None or self._embeddings is None:
            return None
        try:
            return EmbeddingReader(model, known.family, self._embeddings)
        except BadRequestError:
            return None

    def _example(self, field: PromptField, seed: int, text: str) -> str:
        """What the text is for a seed."""
        return expand(text, seed, self._wildcards.now(), field)

    def _distilled(self, request: GenerationRequest) -> dict[str, Distilled]:
        """The LoRAs that have an effect, by a row or a tag, and were made for few steps."""
        if self._loras is None:
            return {}
        seed = request.seed or 0
        one = request.model_copy(update={"count": 1, "batch": 1, "seed": seed})
        # Of a prompt in the making that cannot be read, the rows count all the same.
        with suppress(BadRequestError):
            request = draw_prompts(one, self._wildcards.now).request
        return few_step_loras(request, self._loras)

    def _row(self, name: str, vaes: Sequence[Vae]) -> dict[str, Any]:
        row = dict.fromkeys(
            (
                "family",
                "loras",
                "width",
                "height",
                "cfg",
                "steps",
                "clip_skip",
                "weighs",
                "hidden",
                "reasons",
                "refiners",
                "vaes",
            )
        )
        try:
            model = self._shelf.folder(name)
            known, fitting = self._facts_of(model), fitting_vaes(model)
        except BadRequestError as error:
            return {"name": name, **row, "problem": error.message}
        return {
            "name": name,
            "family": known.family.name,
            "loras": known.family.loras,
            "width": known.width,
            "height": known.height,
            "cfg": known.useful_cfg,
            "steps": known.useful_steps,
            "clip_skip": known.text_layers,
            "weighs": known.family.backbone not in PROMPT_ROOMS,
            "hidden": known.unused,
            "reasons": dict(known.family.unused),
            "refiners": known.family.refiners,
            "vaes": [vae.name for vae in vaes if vae.component in fitting],
            "problem": None,
        }

    def _model(self, data: Mapping[str, Any]) -> Model:
        named = {"model": data["model"]} if "model" in data else {}
        return self._shelf.folder(parse_request(named).model)

    def _facts_of(self, model: Model) -> ModelFacts:
        files = sources(model, facts.SOURCES)
        return self._facts.get(files, lambda: read_facts(model))

    def _encoders_of(
        self, model: Model | None, known: ModelFacts | None
    ) -> tuple[TextEncoder, ...]:
        """The model's text encoders; one that cannot count where it is not known."""
        if model is not None and known is not None:
            with suppress(BadRequestError):
                return self._parts.encoders(model, known.family)
        return (TextEncoder("", None),)

    def _missing(self, model: Model | None, data: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What the model lacks, but for a VAE where another one is chosen."""
        found = [] if model is None else self._parts.missing(model)
        return [one for one in found if one["kind"] != "vae" or data.get("vae") is None]


def _told(words: EmbeddingReader | None, field: PromptField) -> dict[str, Any]:
    """The embeddings of a field's text, and what there is to remark on words like them."""
    if words is None:
        return {"embeddings": [], "remarks": []}
    used = [{"name": one.name, "vectors": one.vectors} for one in words.embeddings_in(field)]
    remarks = [asdict(remark) for remark in words.remarks if remark.field == field]
    return {"embeddings": used, "remarks": remarks}


def _text(field: PromptField, data: Mapping[str, Any]) -> str:
    """The text in a prompt's field; empty where it is none that a request can have."""
    try:
        return getattr(parse_request({field: data.get(field, "")}), field)
    except BadRequestError:
        return ""


def _unable(known: ModelFacts, trained_so: Mapping[str, Any]) -> str | None:
    if known.family.flow:
        return "flow"
    if trained_so.get("rescale_betas_zero_snr"):
        return "zero_snr"
    return "sample" if trained_so.get("prediction_type") == "sample" else None


def _seed(data: Mapping[str, Any]) -> int:
    """The seed of the request; 0 where it is open, or none that a request can have."""
    try:
        return parse_request({"seed": data.get("seed")}).seed or 0
    except BadRequestError:
        return 0


def _own(request: GenerationRequest, own: Own) -> dict[str, Any]:
    """What each field of the request is run with if it is left open and the others stay."""
    chosen = sampling_of(GenerationRequest(sampler=request.sampler), own.sampling)
    shown = replace(chosen, sampler=own.sampling.sampler)
    return asdict(shown) | {"made_for": own.made_for}


def _is_set(field: str, data: Mapping[str, Any]) -> bool:
    return data.get(field) not in (None, [], GenerationRequest.model_fields[field].default)
