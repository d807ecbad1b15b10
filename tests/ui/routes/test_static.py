from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi import FastAPI

from tests.ui.routes.client import client_of
from webui.ui import pagefiles
from webui.ui.pagefiles import PageFiles
from webui.ui.routes.static import ASSETS, add_static_routes
from webui.ui.texts import Catalogue

APP = FastAPI()
FILES = PageFiles.load()
add_static_routes(APP, Catalogue.load(), FILES)
MODULES = sorted((ASSETS / "page").glob("*.js"))


@pytest.mark.parametrize("module", [file.name for file in MODULES])
def test_a_module_and_all_it_imports_is_served(module: str) -> None:
    answer = client_of(APP).get(f"/page/{module}")
    assert answer.headers["content-type"].startswith("text/javascript")
    for name in re.findall(r'from "\./([\w.]+)"', answer.text):
        assert client_of(APP).get(f"/page/{name}").status_code == 200, name


@pytest.mark.parametrize("name", ["page.html", "..%2fpage.html", "no.js", "%2e%2e/server.py"])
def test_nothing_else_is(name: str) -> None:
    assert client_of(APP).get(f"/page/{name}").status_code == 404


def test_what_is_kept_for_good_has_the_address_of_this_version_alone() -> None:
    client = client_of(APP)
    kept = client.get("/" + FILES.address("main.js"))
    asked_about = client.get("/page/main.js")
    assert kept.content == asked_about.content == FILES.contents["main.js"]
    assert "immutable" in kept.headers["cache-control"]
    assert asked_about.headers["cache-control"] == "no-cache"
    assert client.get(f"/page/{'0' * 16}/main.js").status_code == 404
    assert client.get("/" + FILES.address("no.js")).status_code == 404


def test_another_word_in_any_file_is_another_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pagefiles, "FOLDER", tmp_path)
    versions: set[str] = set()
    for name, text in (("a.js", "1"), ("a.js", "2"), ("b.css", "2"), ("note.txt", "2")):
        (tmp_path / name).write_text(text)
        versions.add(PageFiles.load().version)
    assert len(versions) == 3


def test_words_come_by_language_and_english_for_an_unknown_one() -> None:
    client = client_of(APP)
    assert client.get("/texts/en.json").json()["field.steps"] == "Steps"
    assert client.get("/texts/xx.json").json()["language.name"] == "English"


def test_the_script_never_makes_html_of_text() -> None:
    for file in MODULES:
        source = file.read_text(encoding="utf-8")
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|\beval\(|new Function", source
        )
        assert "http" not in re.sub(r"http://www\.w3\.org/2000/svg", "", source), file.name
