"""Requests and events that no script of ours sends: never the server's fault, always a sentence."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes import FakeGenerator
from tests.ui.fake_server import READY
from tests.ui.hostile import (
    MARKUP,
    at_once,
    client_of,
    leftovers,
    log_of,
    sentence_in,
    served_over,
    unharmed,
    views,
    write_own,
)
from tests.ui.served import Served
from tests.ui.stand_in import StandInGate
from webui.cli.building import build_backend
from webui.jobs import Jobs
from webui.request import GenerationRequest
from webui.settings import Settings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad") / "outputs"
    folder.mkdir()
    write_own(folder)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Generator[Served, None, None]:
    served = served_over(folder)
    yield served
    served.kill()


EVENTS: tuple[tuple[object, str], ...] = (
    (None, "no object"),
    ("text", "no object"),
    (["text"], "no object"),
    ({}, "no object"),
    ({"tab": {}, "request": 3}, "no object"),
    ({"request": {"prompt": "a" * 1_000_000}}, "prompt is 1,000,000 characters long"),
    ({"tab": "\ud800", "request": {"steps": 10**100}}, "steps is 1000"),
    ({"tab": ["text"], "request": {"\ud800": 1}}, "A key is"),
    ({"language": ["de"], "request": {"sampler": [["Euler"]]}}, "Unknown sampler"),
    ({"request": {"width": 1e300}}, "width is 1e+300"),
)
"""What a script may send with an event, and the sentence about it."""


@pytest.mark.parametrize(("data", "sentence"), EVENTS, ids=range(len(EVENTS)))
def test_a_hostile_event_is_a_sentence_in_the_view(
    server: Served, folder: Path, data: object, sentence: str
) -> None:
    size = len(log_of(folder))
    with unharmed(server, folder) as client:
        for event in ("generate", "resume", "stop"):
            shown = views(client, event, data)
            if event == "generate":
                assert sentence in shown[0]["problem"]["message"]
    assert log_of(folder)[size:] == ""


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str, list[str]]]:
    """Method, path and the fields of the body, for every route of ours."""
    from webui.ui.app import build_app

    folder = tmp_path_factory.mktemp("routes")
    jobs = Jobs(FakeGenerator(folder))
    backend = build_backend(Settings(outputs=folder), jobs, lambda: READY, StandInGate().answer)
    api = build_app(backend).openapi()
    backend.history.close()
    jobs.close()
    bodies = api["components"]["schemas"]
    return [
        (method.upper(), _with_query(path, about), _fields(about, bodies))
        for path, methods in api["paths"].items()
        for method, about in methods.items()
    ]


def _with_query(path: str, about: dict[str, Any]) -> str:
    names = [one["name"] for one in about.get("parameters", ()) if one["in"] == "query"]
    return path + ("?" + "&".join(f"{name}={{{name}}}" for name in names) if names else "")


def _fields(about: dict[str, Any], bodies: dict[str, Any]) -> list[str]:
    content = about.get("requestBody", {}).get("content", {}).get("application/json", {})
    name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
    return list(bodies.get(name, {}).get("properties", ()))


FITTING = {"request": {"steps": 5}, "now": {}, "then": {"steps": 5}, "name": "New", "text": "a"}
"""Values that pass, for the fields beside the one that does not; lists are empty."""

IN_PATHS = (
    "%2e%2e",
    "%2e%2e%2f%2e%2e",
    "..%2f..%2fetc%2fpasswd",
    "a%00b",
    "%0a",
    "%ff",
    "x" * 2_000,
)
ODD = ("null", "NaN", "-1e999", "1" + "0" * 5_000, '"\\ud800"', '"\\u0000"', "[]", "{}", "[[[]]]")
LARGE = (
    f'"{"a" * 1_000_000}"',
    "[" * 940 + "]" * 940,
    "[" * 100_000,
    f"[{'1,' * 400_000}1]",
    '{"a":' * 900 + "1" + "}" * 900,
    "{" + ",".join(f'"k{n}":1' for n in range(60_000)) + "}",
    '{"%s": 1}' % ("k" * 900_000),
    '{"sampler": %s}' % ("[" * 900 + "]" * 900),
    '{"loras": [%s1]}' % ('{"name": 1},' * 60_000),
    '{"model": "../../etc/passwd", "width": 1%s}' % ("0" * 4_000),
    '{"prompt": "%s"}' % ("(" * 900_000),
)


def is_answered(
    server: Served, client: httpx.Client, method: str, path: str, body: str | None
) -> None:
    """Either it is fine or it is refused in one sentence, and never the server's fault."""
    content = None if method == "GET" else (body or "").encode()
    headers = {"content-length": str(len(content))} if content is not None else {}
    headers["content-type"] = "application/json"
    with at_once(server, (method, path[:80])):
        answer = client.request(method, path, content=content, headers=headers)
    assert answer.status_code < 500, (method, path[:80], answer.text[:200])
    if answer.status_code >= 400:
        sentence_in(answer)


def test_every_route_answers_hostile_json_and_paths(
    server: Served, folder: Path, routes: list[tuple[str, str, list[str]]]
) -> None:
    assert len(routes) > 20
    size = len(log_of(folder))
    with unharmed(server, folder) as client:
        for method, path, fields in routes:
            for value in IN_PATHS:
                is_answered(server, client, method, re.sub(r"\{\w+\}", value, path), "{}")
            plain = re.sub(r"\{\w+\}", "1", path)
            for body in bodies_of(fields) if method != "GET" else ():
                is_answered(server, client, method, plain, body)
        for path in ("/look", "/shelf/x", "/read", "/words/light", "/page/..%2fpresets"):
            is_answered(server, client, "PATCH", path, "{}")
    assert log_of(folder)[size:] == ""


def bodies_of(fields: list[str]) -> Iterator[str]:
    yield from ("", "no json", *ODD, *LARGE)
    for field in fields:
        for value in (*ODD, *LARGE):
            rest = {name: FITTING.get(name, []) for name in fields if name != field}
            others = "".join(
                f", {json.dumps(key)}: {json.dumps(each)}" for key, each in rest.items()
            )
            yield f'{{"{field}": {value}{others}}}'


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=20)
    | st.sampled_from(["../..", "a\0b", MARKUP, "\ud800", "{prompt}", "1e999", "postcard"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(list(GenerationRequest.model_fields)) | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@settings(
    max_examples=25,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
)
@given(data=st.data())
def test_no_json_is_the_servers_fault(
    server: Served, routes: list[tuple[str, str, list[str]]], data: st.DataObject
) -> None:
    with client_of(server) as client:
        for method, path, fields in routes:
            if not fields:
                continue
            body = {field: data.draw(JSON_VALUES) for field in fields}
            is_answered(server, client, method, re.sub(r"\{\w+\}", "light", path), json.dumps(body))
        assert leftovers(Path(client.get("/history").json()["folder"])) == []
