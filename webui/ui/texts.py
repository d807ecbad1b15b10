"""The catalogue of the page's words: one file a language, every language complete.

English words about the request's fields are not in it: they come from the request itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from webui.request import GenerationRequest

FOLDER = Path(__file__).parent / "assets" / "texts"
ENGLISH = "en"


class Texts:
    """The words of one language by key; `{name}` in them is filled in.

    Attributes:
        language: Code of the language (BCP 47), such as "en".
        words: All of them, as the page's script gets them.
    """

    def __init__(self, language: str, words: Mapping[str, str]) -> None:
        self.language = language
        self.words = MappingProxyType({**words})

    def __call__(self, key: str, **values: str | int) -> str:
        """The words of that key."""
        return self.words[key].format(**values)


class Catalogue:
    """Every language there is a file for."""

    def __init__(self, texts: Mapping[str, Texts]) -> None:
        self._texts = texts

    @staticmethod
    def load() -> Catalogue:
        """Reads all languages from `assets/texts/`."""
        texts = {file.stem: _read(file) for file in sorted(FOLDER.glob("*.json"))}
        return Catalogue(texts)

    def languages(self) -> Mapping[str, str]:
        """Each language's own name by its code, English first."""
        codes = sorted(self._texts, key=lambda code: (code != ENGLISH, code))
        return {code: self._texts[code]("language.name") for code in codes}

    def of(self, language: str) -> Texts:
        """The words of that language; English for one that there is no file for."""
        return self._texts.get(language, self._texts[ENGLISH])


def _read(file: Path) -> Texts:
    words: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    if file.stem == ENGLISH:
        words |= _field_words()
    return Texts(file.stem, words)


def _field_words() -> dict[str, str]:
    properties = GenerationRequest.model_json_schema()["properties"]
    words: dict[str, str] = {}
    for name, about in properties.items():
        words[f"field.{name}"] = about["title"]
        words[f"field.{name}.help"] = about["description"]
        if about.get("empty"):
            words[f"field.{name}.empty"] = about["empty"]
    return words
