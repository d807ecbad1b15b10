from __future__ import annotations

import json
import re
from typing import get_args

import pytest

from webui.events import StageName
from webui.request import field_names
from webui.ui.texts import FOLDER, Catalogue

ASSETS = FOLDER.parent
ROOT = ASSETS.parents[1]
CATALOGUE = Catalogue.load()
ENGLISH = CATALOGUE.of("en").words
OTHERS = [code for code in CATALOGUE.languages() if code != "en"]

_PLACEHOLDER = re.compile(r"\{\w+\}")
_KEY = re.compile(r'\bsay(?:able)?\(\s*"([\w.]+)"')
_MARKED = re.compile(r'data-(?:say|label)="([\w.]+)"')
_FILLED_IN = re.compile(r"(?:`|f\")((?:[\w.]|\$?\{[^`\n]*?\})*)[`\"]")
"""A template of the script, or an f-string of Python, that looks like a key."""

_SOURCES = (
    ASSETS / "page.html",
    *(ASSETS / "page").glob("*.js"),
    *ASSETS.parent.glob("*.py"),
)


def used() -> set[str]:
    keys = set(_MARKED.findall((ASSETS / "page.html").read_text(encoding="utf-8")))
    for source in _SOURCES:
        keys |= set(_KEY.findall(source.read_text(encoding="utf-8")))
    return keys


def test_there_are_three_languages_english_first_each_by_its_own_name() -> None:
    languages = CATALOGUE.languages()
    assert next(iter(languages)) == "en"
    assert len(languages) >= 3
    assert len(set(languages.values())) == len(languages)


@pytest.mark.parametrize("code", OTHERS)
def test_a_language_is_complete_and_fills_in_what_english_does(code: str) -> None:
    words = CATALOGUE.of(code).words
    assert set(words) == set(ENGLISH)
    for key, english in ENGLISH.items():
        assert words[key].strip(), key
        assert sorted(_PLACEHOLDER.findall(words[key])) == sorted(_PLACEHOLDER.findall(english)), (
            key
        )


@pytest.mark.parametrize("code", OTHERS)
def test_a_language_is_translated_and_not_copied(code: str) -> None:
    words = CATALOGUE.of(code).words
    long = [key for key, english in ENGLISH.items() if len(_PLACEHOLDER.sub("", english)) > 20]
    assert [key for key in long if words[key] == ENGLISH[key]] == []


def test_every_key_that_is_used_has_words() -> None:
    assert sorted(key for key in used() if key not in ENGLISH) == []


def test_no_words_lie_about_unused() -> None:
    sources = "".join(source.read_text(encoding="utf-8") for source in _SOURCES)
    elsewhere = "".join(file.read_text(encoding="utf-8") for file in ROOT.rglob("*.py"))
    named = set(re.findall(r'"([\w.]+)"', sources + elsewhere))
    made = [pattern(template) for template in _FILLED_IN.findall(sources) if "." in template]

    def is_used(key: str) -> bool:
        if f'"{key}"' in sources:
            return True
        matches = (one.fullmatch(key) for one in made)
        return any(match and named.issuperset(match.groups()) for match in matches)

    written = json.loads((FOLDER / "en.json").read_text(encoding="utf-8"))
    assert [key for key in written if not is_used(key)] == []


def pattern(template: str) -> re.Pattern[str]:
    """Keys that a template can give; a group for each part that is filled in."""
    fixed = re.split(r"\$?\{.*?\}", template)
    return re.compile(r"([\w.]+)".join(map(re.escape, fixed)))


def test_fields_and_stages_have_words_in_every_language() -> None:
    # Of the denoising the number of steps is told.
    stages = set(get_args(StageName)) - {"denoise"}
    for code in CATALOGUE.languages():
        words = CATALOGUE.of(code).words
        for name in field_names():
            assert {f"field.{name}", f"field.{name}.help"} <= set(words)
        assert {f"stage.{name}" for name in stages} <= set(words)


def test_an_unknown_language_is_english() -> None:
    assert CATALOGUE.of("tlh")("act.stop") == "Stop"
