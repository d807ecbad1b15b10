"""What to look for among the saved pictures, as conditions for SQLite.

All that a user types is bound as a parameter: it is never syntax.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, cast

from webui.errors import BadRequestError

MAX_WORDS = 50
"""Most words looked for at once; each is one condition."""

PLACEHOLDER = "{prompt}"
"""Stands in a preset's prompt for what the user writes."""

_LEFT_OPEN = frozenset({"width", "height", "seed"})
"""Where `None` means "decide for me", so that whatever was decided matches."""

_HOW_MANY = frozenset({"count", "batch"})
"""Say how many pictures are made, not what they look like; a recipe makes one."""

_PROMPTS = frozenset({"prompt", "negative_prompt"})

_USES = (
    "recipe IN (SELECT recipes.id FROM recipes, json_each(settings, '$.{}') AS one"
    " WHERE json_extract(one.value, '$.{}') = ?"
    " AND coalesce(json_extract(one.value, '$.enabled'), 1))"
)

_NAMES = "recipe IN (SELECT id FROM recipes WHERE json_extract(settings, '$.{}') = ?)"

Condition = tuple[str, tuple[Any, ...]]
"""SQL and the values of its question marks."""


@dataclass(frozen=True)
class HistoryQuery:
    """Which pictures to show; everything that is given must hold.

    Attributes:
        search: Words that all occur in the prompt (in the file's name where there is none).
        model: Name of the model, exactly.
        first_day: Earliest day the picture was made on.
        last_day: Latest day, itself included.
        matches: Sparse request: every key equals the recipe's value.
        trash: Whether to show the pictures in the trash, and only those.
        lora: Name of a LoRA that is used, exactly.
        controlnet: Name of a ControlNet that is used.
        vae: Name of a VAE that is used in place of the model's own.
        refiner: Name of a model that makes the last of the steps.
        embedding: Name of an embedding in one of the prompts.
    """

    search: str = ""
    model: str | None = None
    first_day: date | None = None
    last_day: date | None = None
    matches: Mapping[str, Any] | None = None
    trash: bool = False
    lora: str | None = None
    controlnet: str | None = None
    vae: str | None = None
    refiner: str | None = None
    embedding: str | None = None


def folded(text: str) -> str:
    """Text by which it is found: neither case nor the way it is encoded matters."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def storable(text: str) -> str:
    """Text without the halves of characters that UTF-8, and so SQLite, cannot hold."""
    return text.encode("utf-8", errors="replace").decode("utf-8")


def conditions(query: HistoryQuery) -> Condition:
    """The query as one SQL condition on the table `pictures`.

    Raises:
        BadRequestError: There are more than `MAX_WORDS` words.
    """
    parts = list(_conditions(query))
    return " AND ".join(sql for sql, _ in parts), tuple(v for _, values in parts for v in values)


def _conditions(query: HistoryQuery) -> Iterator[Condition]:
    yield f"trashed IS {'NOT ' if query.trash else ''}NULL", ()
    words = tuple(dict.fromkeys(folded(storable(query.search)).split()))
    if len(words) > MAX_WORDS:
        raise BadRequestError(
            f"{len(words)} words are too many: at most {MAX_WORDS} can be looked for.",
            field="search",
        )
    for word in words:
        yield "instr(searched, ?)", (word,)
    if query.model is not None:
        yield "model = ?", (storable(query.model),)
    if query.lora is not None:
        yield _USES.format("loras", "name"), (storable(query.lora),)
    if query.controlnet is not None:
        yield _USES.format("controls", "model"), (storable(query.controlnet),)
    for field, name in (("vae", query.vae), ("refiner", query.refiner)):
        if name is not None:
            yield _NAMES.format(field), (storable(name),)
    if query.embedding is not None:
        named = "EXISTS (SELECT 1 FROM json_each(embeddings) AS one WHERE one.value = ?)"
        yield named, (storable(query.embedding),)
    if query.first_day is not None:
        yield "made >= ?", (query.first_day.isoformat(),)
    if query.last_day is not None and query.last_day < date.max:
        yield "made < ?", ((query.last_day + timedelta(days=1)).isoformat(),)
    if query.matches is not None:
        yield "recipe IS NOT NULL", ()
        yield from _matching(query.matches)


def _matching(preset: Mapping[str, Any]) -> Iterator[Condition]:
    rest: dict[str, object] = {}
    for key, value in preset.items():
        if key in _HOW_MANY or (key in _LEFT_OPEN and value is None):
            continue
        if key in _PROMPTS and isinstance(value, str):
            yield from _prompt(key, storable(value))
        elif key == "seed":
            yield "seed = ?", (value,)
        else:
            rest[key] = value
    parts = list(_equal("$", rest))
    if parts:
        # Many pictures share one row of settings, so that few JSON texts are looked into.
        every = " AND ".join(sql for sql, _ in parts)
        values = tuple(value for _, values in parts for value in values)
        yield f"recipe IN (SELECT id FROM recipes WHERE {every})", values


def _prompt(column: str, template: str) -> Iterator[Condition]:
    if PLACEHOLDER not in template:
        yield f"{column} = ?", (template,)
        return
    before = template.partition(PLACEHOLDER)[0]
    after = template.rpartition(PLACEHOLDER)[2]
    yield f"length({column}) >= ?", (len(before) + len(after),)
    yield f"substr({column}, 1, ?) = ?", (len(before), before)
    if after:
        yield f"substr({column}, ?) = ?", (-len(after), after)


def _equal(path: str, value: object) -> Iterator[Condition]:
    """Conditions for a value in the settings; of an object only what is named need be equal."""
    if isinstance(value, Mapping):
        for key, part in cast(Mapping[str, object], value).items():
            if '"' in key:
                raise BadRequestError(f"There is no setting of the name {key!r}.")
            yield from _equal(f'{path}."{key}"', part)
    elif isinstance(value, (list, tuple)):
        parts = cast(list[object], value)
        yield "json_array_length(settings, ?) IS ?", (path, len(parts))
        for number, part in enumerate(parts):
            yield from _equal(f"{path}[{number}]", part)
    else:
        bound = storable(value) if isinstance(value, str) else value
        yield "json_extract(settings, ?) IS ?", (path, bound)
