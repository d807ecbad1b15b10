"""What the page learns of a request while it is edited, and of the models on the shelf."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from fastapi import FastAPI
from pydantic import BaseModel

from webui.errors import BadRequestError
from webui.generation import facts
from webui.generation.advice import advise, idle_fields
from webui.generation.facts import ModelFacts, check_clip_skip, read_facts
from webui.generation.families import refuse_unused
from webui.generation.prompts import PromptField
from webui.generation.samplers import check_sampler, check_trained, trained_as
from webui.generation.text_encoders import (
    LAYOUT_SOURCES,
    Layout,
    layouts_of,
    tokenizer_in,
    tokenizer_sources,
)
from webui.generation.tokens import TextEncoder, count_tokens
from webui.generation.vocabulary import PromptTokenizer
from webui.interchange.dynamicprompts import expand
from webui.library.checkpoints import CheckpointShelf, Model
from webui.library.distilled import Distilled
from webui.library.loras import LoraShelf
from webui.library.watched import Watched
from webui.library.wildcards import WildcardShelf
from webui.request import GenerationRequest, parse_request

_FACTS_KEPT = 256

_TOKENIZERS_KEPT = 3
"""One with the vocabulary of Stable Diffusion takes some 20 MB."""


class Looked(BaseModel):
    """The body of `POST /look`: a request as the page holds it, complete or not, valid or not."""

    request: dict[str, Any]


def add_looking_routes(
    app: FastAPI, shelf: CheckpointShelf, wildcards: WildcardShelf, loras: LoraShelf | None = None
) -> None:
    """Adds `POST /look` (`Looker.look`) and `GET /shelf` (`Looker.models`)."""
    looker = Looker(shelf, wildcards, loras)

    @app.post("/look")
    def look(looked: Looked) -> dict[str, Any]:
        return looker.look(looked.request)

    @app.get("/shelf")
    def models() -> dict[str, Any]:
        return {"models": looker.models()}


class Looker:
    """Looks at requests, and at models by their configurations, read anew when they change."""

    def __init__(
        self, shelf: CheckpointShelf, wildcards: WildcardShelf, loras: LoraShelf | None = None
    ) -> None:
        """`loras` is where it finds out which of a request's were made for few steps."""
        self._shelf = shelf
        self._wildcards = wildcards
        self._loras = loras
        self._facts = Watched[ModelFacts](_FACTS_KEPT)
        self._layouts = Watched[tuple[Layout, ...]](_FACTS_KEPT)
        self._tokenizers = Watched[PromptTokenizer | None](_TOKENIZERS_KEPT)

    def models(self) -> list[dict[str, Any]]:
        """Every model on the shelf; of a broken one only `name` and `problem` are not None."""
        return [self._row(name) for name in self._shelf.names()]

    def look(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """What there is to say about a request.

        Keys of the answer: `problem` (`message`, `field`; or None), `advice` (`kind`, `field`,
        `values`, `fix`), `prompt` and `negative_prompt` (`TokenCount`), `hidden` (fields that the
        model has no use for and that are not set) and `idle` (`field`, `kind`).
        """
        answer: dict[str, Any] = {"problem": None, "advice": [], "hidden": [], "idle": []}
        model = None
        try:
            model = self._model(data)
            known = self._facts_of(model)
            answer["hidden"] = [field for field in known.unused if not _is_set(field, data)]
            request = parse_request(data)
            answer["idle"] = [asdict(idle) for idle in idle_fields(request)]
            answer["advice"] = [
                asdict(advice) | {"values": dict(advice.values), "fix": dict(advice.fix)}
                for advice in advise(request, known, self._distilled(request))
            ]
            refuse_unused(request, known.family)
            flow = known.family.flow
            check_sampler(request.sampler, request.schedule, request.steps, flow=flow)
            if not flow:
                check_trained(request.sampler, trained_as(known.scheduler, request.prediction))
            check_clip_skip(request.clip_skip, known.text_layers)
        except BadRequestError as error:
            answer["problem"] = {"message": error.message, "field": error.field}
        encoders = self._encoders_of(model)
        for field in get_args(PromptField):
            counted = count_tokens(
                _text(field, data),
                encoders,
                field,
                steps=_number("steps", data),
                draw=partial(self._example, field, _number("seed", data)),
            )
            answer[field] = asdict(counted)
        return answer

    def _example(self, field: PromptField, seed: int, text: str) -> str:
        """What the text is for a seed."""
        return expand(text, seed, self._wildcards.now(), field)

    def _distilled(self, request: GenerationRequest) -> dict[str, Distilled]:
        """The LoRAs that have an effect and were made for few steps, by name."""
        found: dict[str, Distilled] = {}
        if self._loras is None:
            return found
        for name in [choice.name for choice in request.loras if choice.has_effect]:
            try:
                distilled = self._loras.find(name).facts.distilled
            except BadRequestError:
                # The run says what is wrong with it.
                continue
            if distilled is not None:
                found[name] = distilled
        return found

    def _row(self, name: str) -> dict[str, Any]:
        row = dict.fromkeys(
            (
                "family",
                "loras",
                "width",
                "height",
                "cfg",
                "steps",
                "clip_skip",
                "hidden",
                "refiners",
            )
        )
        try:
            known = self._facts_of(self._shelf.folder(name))
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
            "hidden": known.unused,
            "refiners": known.family.refiners,
            "problem": None,
        }

    def _model(self, data: Mapping[str, Any]) -> Model:
        named = {"model": data["model"]} if "model" in data else {}
        return self._shelf.folder(parse_request(named).model)

    def _facts_of(self, model: Model) -> ModelFacts:
        files = _sources(model, facts.SOURCES)
        return self._facts.get(files, lambda: read_facts(model))

    def _encoders_of(self, model: Model | None) -> tuple[TextEncoder, ...]:
        """The model's text encoders; one that cannot count where it is not known."""
        if model is None:
            return (TextEncoder("", None),)
        files = _sources(model, LAYOUT_SOURCES)
        try:
            layouts = self._layouts.get(files, lambda: layouts_of(model))
        except BadRequestError:
            return (TextEncoder("", None),)
        return tuple(
            layout.with_tokenizer(self._tokenizer_of(model, layout.folder)) for layout in layouts
        )

    def _tokenizer_of(self, model: Model, folder: str) -> PromptTokenizer | None:
        files = _sources(model, tokenizer_sources(folder))
        return self._tokenizers.get(files, lambda: tokenizer_in(model, folder))


def _sources(model: Model, names: Iterable[str]) -> tuple[Path, ...]:
    """The files that say something of a model; several single files share a configuration."""
    own = () if model.file is None else (model.file,)
    return (*own, *(model.path / name for name in names))


def _text(field: PromptField, data: Mapping[str, Any]) -> str:
    """The text in a prompt's field; empty where it is none that a request can have."""
    try:
        return getattr(parse_request({field: data.get(field, "")}), field)
    except BadRequestError:
        return ""


def _number(field: Literal["steps", "seed"], data: Mapping[str, Any]) -> int:
    """A number of the request; its default, or 0, where it is none that a request can have."""
    try:
        value: int | None = getattr(parse_request({field: data.get(field)}), field)
    except BadRequestError:
        value = None
    default: int | None = GenerationRequest.model_fields[field].default
    return value if value is not None else default or 0


def _is_set(field: str, data: Mapping[str, Any]) -> bool:
    return data.get(field) not in (None, [], GenerationRequest.model_fields[field].default)
