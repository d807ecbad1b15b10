"""The table of threats and the tests in this folder name each other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
ROW = re.compile(r"^\| (?!attack)(?P<attack>[^|]+) \| (?P<defence>[^|]+) \| (?P<tests>[^|]+) \|$")
NAME = re.compile(r"`(?P<file>tests/[\w/]+\.py)::(?P<test>test_\w+)`")


def rows() -> list[tuple[str, list[tuple[str, str]]]]:
    text = (ROOT / "docs" / "threats.md").read_text(encoding="utf-8")
    found = [ROW.match(line) for line in text.splitlines() if line.startswith("| ")]
    return [(row["attack"], NAME.findall(row["tests"])) for row in found if row is not None]


def names_in(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name[:5] == "test_"
    }


def test_every_row_names_tests_that_exist() -> None:
    for attack, named in rows():
        assert named, f"{attack}: names no test"
        for file, test in named:
            assert test in names_in(ROOT / file), f"{attack}: there is no {file}::{test}"


def test_every_attack_is_in_the_table() -> None:
    named = {test for _, tests in rows() for _, test in tests}
    for file in Path(__file__).parent.glob("test_*.py"):
        if file != Path(__file__):
            assert names_in(file) <= named, f"{file.name}: {sorted(names_in(file) - named)}"
