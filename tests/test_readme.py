"""The README says what is: its field table, flags, files and figures are checked."""

from __future__ import annotations

import re
from typing import Any

import pytest

from webui.cli import main
from webui.request import GenerationRequest
from webui.settings import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def between(marker: str) -> str:
    found = re.search(rf"<!-- {marker} -->\n(.*?)<!-- /{marker} -->", README, re.DOTALL)
    assert found, marker
    return found[1].strip()


def field_table() -> str:
    """The table the README must hold, from the request model."""
    lines = ["| field | what it does | range | default |", "|---|---|---|---|"]
    for name, schema in GenerationRequest.model_json_schema()["properties"].items():
        default = "none" if schema.get("default") in (None, "", []) else f"`{schema['default']}`"
        text = schema["description"].replace("|", "\\|")
        lines.append(f"| `{name}` | {text} | {_range(schema)} | {default} |")
    return "\n".join(lines)


def _range(schema: dict[str, Any]) -> str:
    kinds = [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]
    (kind,) = kinds
    if "enum" in kind:
        return ", ".join(kind["enum"])
    if kind["type"] == "boolean":
        return "true, false"
    if "prefixItems" in kind:
        return f"{kind['maxItems']} times {_range(kind['prefixItems'][0])}"
    if kind["type"] == "string":
        return f"up to {kind['maxLength']:,} characters"
    if kind["type"] == "array":
        return f"up to {kind['maxItems']}"
    unit = f" {schema['unit']}" if schema.get("unit") else ""
    step = f", in steps of {kind['multipleOf']}" if "multipleOf" in kind else ""
    return f"{kind['minimum']} to {kind['maximum']}{unit}{step}"


def test_the_field_table_is_complete_and_right():
    assert between("fields") == field_table()


def test_the_table_of_policy_commands_is_complete_and_right(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        main(["policy", "--help"])
    commands = re.findall(r"^ {4}(\w+) {2,}(.+)$", capsys.readouterr().out, re.MULTILINE)
    assert len(commands) > 5
    rows = [f"| `policy {name}` | {told} |" for name, told in commands]
    assert between("policy").splitlines()[2:] == rows


def test_every_file_the_readme_names_exists():
    named = set(re.findall(r"\]\(([^)#:]+)\)|`((?:webui|benchmarks|models)/[\w/.]+)`", README))
    paths = {path for pair in named for path in pair if path}
    assert paths
    for path in paths:
        assert (ROOT / path).exists(), path


def test_every_long_flag_the_readme_names_exists(capsys: pytest.CaptureFixture[str]):
    known: set[str] = set()
    policy = (("policy", deed) for deed in ("show", "set", "allow", "invite", "revoke", "audit"))
    for command in (("serve",), ("generate",), ("verify",), ("bench",), *policy):
        with pytest.raises(SystemExit):
            main([*command, "--help"])
        known |= set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    assert "--steps" in known
    for module in (ROOT / "webui" / "launcher").glob("*.py"):
        known |= set(re.findall(r'"(--[a-z-]+)"', module.read_text(encoding="utf-8")))
    for flag in re.findall(r"(?<![\w|-])--[a-z][a-z-]*", README):
        assert flag in known, flag


def test_the_benchmark_table_is_the_last_one_measured():
    results = (ROOT / "benchmarks" / "results.md").read_text(encoding="utf-8")
    rows = [line for line in results.splitlines() if line.startswith("|")]
    assert rows
    for row in rows:
        assert row in between("benchmarks"), row
