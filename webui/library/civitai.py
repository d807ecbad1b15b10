"""What Civitai's answers tell: https://developer.civitai.com/docs/api/public-rest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, cast
from urllib.parse import parse_qs

from webui.errors import NotFoundError
from webui.library.headers import is_safetensors
from webui.library.told import objects_in, text_in

Term = Literal[
    "credit",
    "no_credit",
    "pictures",
    "no_pictures",
    "services",
    "no_services",
    "sale",
    "no_sale",
    "merges",
    "no_merges",
    "other_terms",
    "same_terms",
]
"""What a model's maker allows or asks for: naming him, selling pictures, running it for money,
selling it, sharing merges of it, and giving those other terms."""

_USES = ("Image", "RentCivit", "Rent", "Sell")
"""Commercial uses, each of which once stood for those before it as well."""

_MOST_WORDS = 24


def safe_file(version: Mapping[str, Any], query: str) -> dict[str, Any]:
    """A version's main file among those that are safetensors, or the one that a query asks for;
    empty where it is not told which that is.

    Raises:
        NotFoundError: There is none.
    """
    files = objects_in(version.get("files"))
    if query:
        files = [file for file in files if _query_of(file) == parse_qs(query)]
        if not files:
            return {}
    safe = [file for file in files if is_safetensors(str(file.get("name")))]
    if not safe:
        raise NotFoundError(
            "This version is there as a pickle alone, which can hold programs and is not fetched:"
            " look for one with safetensors."
        )
    return next((file for file in safe if file.get("primary") is True), safe[0])


def _query_of(file: Mapping[str, Any]) -> dict[str, list[str]]:
    return parse_qs(str(file.get("downloadUrl")).partition("?")[2])


def words_of(version: Mapping[str, Any]) -> tuple[str, ...]:
    """The words that a version was trained to answer to."""
    said: Any = version.get("trainedWords")
    words = cast(list[Any], said) if isinstance(said, list) else []
    return tuple(filter(None, map(text_in, words)))[:_MOST_WORDS]


def terms_of(model: Mapping[str, Any]) -> tuple[Term, ...]:
    """What a model's maker says of its use; empty where he says nothing."""
    uses = _uses(model.get("allowCommercialUse"))
    may: tuple[tuple[object, Term, Term], ...] = (
        (model.get("allowNoCredit"), "no_credit", "credit"),
        (None if uses is None else "Image" in uses, "pictures", "no_pictures"),
        (None if uses is None else "Rent" in uses, "services", "no_services"),
        (None if uses is None else "Sell" in uses, "sale", "no_sale"),
        (model.get("allowDerivatives"), "merges", "no_merges"),
        (model.get("allowDifferentLicense"), "other_terms", "same_terms"),
    )
    found: tuple[Term, ...] = tuple(
        yes if said else no for said, yes, no in may if isinstance(said, bool)
    )
    # Of what may not be shared it does not matter under which terms.
    return tuple(term for term in found if "no_merges" not in found or not term.endswith("_terms"))


def _uses(said: object) -> frozenset[str] | None:
    """The commercial uses that are allowed, whether said as a list, a set in SQL, or one word."""
    if isinstance(said, list):
        return frozenset(str(one) for one in cast(list[Any], said))
    if not isinstance(said, str):
        return None
    named = re.findall(r"\w+", said)
    if not said.startswith("{") and said in _USES:
        named = _USES[: _USES.index(said) + 1]
    return frozenset(named)
