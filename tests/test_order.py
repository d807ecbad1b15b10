"""The order asked -> admitted -> cleared -> signed -> saved cannot be left out anywhere.

Walks the syntax trees of `webui/`: the types that carry the order are made in one package each,
and a file of pixels is written in one module only. Each rule is proved to fail on a planted
violation.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

WEBUI = Path(__file__).parent.parent / "webui"

MAKERS = {
    "Admitted": "safety",
    "Cleared": "safety",
    "Discarded": "safety",
    "Signed": "provenance",
}
MAY_WRITE = ("library/gallery.py", "postcard/")
"""Where bytes of pictures may be written; `postcard/` draws and trains and serves nobody."""

MAY_WRITE_OTHER_BYTES = (
    "library/files.py",  # the one way to write a file whole; who calls it is looked at
    "library/hashes.py",  # content hashes as JSON
    "library/facts_cache.py",  # what headers of weight files say, as JSON
    "library/download_list.py",  # what is to be downloaded, as JSON
    "library/transfers.py",  # files with weights as they come
    "library/notes.py",  # notes on models, and a small copy of a picture that is saved already
    "library/presets.py",  # presets as JSON
    "library/wordlists.py",  # lists of phrases as text
    "library/uploads.py",  # pictures brought in, which are checked whenever they are used
    "library/keys.py",  # secret keys
    "library/origins.py",  # verdicts on pictures brought in, and such files as they came
    "safety/audit.py",  # the day's key
    "safety/grants.py",  # the word by which grants are valid
    "cli/policy_deeds.py",  # the operator's settings
    "safety/audit_files.py",  # the audit log's head
    "provenance/certificate.py",  # the signing key and its certificates
    "library/thumbnails.py",  # small copies of pictures that are saved already
)
"""Modules that write files which are no pictures, or no picture that was made here."""

SAVERS = {
    "imwrite",
    "imsave",
    "save_image",
    "savefig",
    "write_bytes",
    "write_atomically",
    "write_first",
    "tofile",
    "fdopen",
}
"""Functions and methods that write pixels or bytes to a file, whatever their argument is."""


class Order(ast.NodeVisitor):
    """Collects the lines of one module that break the order."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.names = {name: name for name in MAKERS}
        self.buffers: set[str] = set()
        self.broken: list[str] = []

    def report(self, node: ast.expr, what: str) -> None:
        self.broken.append(f"{self.module}:{node.lineno}: {what}")

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            if alias.name in MAKERS:
                self.names[alias.asname or alias.name] = alias.name

    def use(self, node: ast.expr, name: str) -> None:
        made = self.names.get(name)
        if made is not None and not self.module.startswith(MAKERS[made] + "/"):
            self.report(node, f"{made} outside {MAKERS[made]}")

    def visit_Name(self, node: ast.Name) -> None:
        self.use(node, node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if node.attr in MAKERS:
            self.use(node, node.attr)
        self.visit(node.value)

    # A type may be named anywhere; only these places name one without making a value of it.

    def visit_arg(self, node: ast.arg) -> None:
        del node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for part in (*node.decorator_list, node.args, *node.body):
            self.visit(part)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.visit_FunctionDef(node)

    def visit_MatchClass(self, node: ast.MatchClass) -> None:
        for pattern in (*node.patterns, *node.kwd_patterns):
            self.visit(pattern)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self.visit(node.value)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if not isinstance(node.op, ast.BitOr):
            self.generic_visit(node)

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            if is_buffer(item.context_expr) and isinstance(item.optional_vars, ast.Name):
                self.buffers.add(item.optional_vars.id)
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        if is_buffer(node.value):
            self.buffers |= {name.id for name in node.targets if isinstance(name, ast.Name)}
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = called(node)
        if name == "isinstance":
            self.visit(node.args[0])
            return
        if not self.module.startswith((*MAY_WRITE, *MAY_WRITE_OTHER_BYTES)):
            if name in SAVERS:
                self.report(node, f"{name}() writes a file")
            if name == "open" and writes_bytes(node):
                self.report(node, "open() for writing bytes")
            if name == "save" and not self.saves_in_order(node):
                self.report(node, "save() to something that is no BytesIO made here")
        self.generic_visit(node)

    def saves_in_order(self, node: ast.Call) -> bool:
        """Whether it is the gallery that saves, or a picture that is encoded into memory."""
        receiver = node.func.value if isinstance(node.func, ast.Attribute) else node.func
        if last_name(receiver).lstrip("_") == "gallery":
            return True
        targets = [*node.args[:1], *(k.value for k in node.keywords if k.arg in ("fp", "f"))]
        return bool(targets) and all(
            is_buffer(target) or (isinstance(target, ast.Name) and target.id in self.buffers)
            for target in targets
        )


def last_name(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def called(node: ast.Call) -> str:
    return last_name(node.func)


def is_buffer(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and called(node) == "BytesIO"


def writes_bytes(node: ast.Call) -> bool:
    """Whether a call of `open` or `Path.open` is for writing bytes, or may be."""
    method = isinstance(node.func, ast.Attribute)
    modes = [k.value for k in node.keywords if k.arg == "mode"]
    modes += node.args[:1] if method else node.args[1:2]
    return any(
        not method
        if not isinstance(mode, ast.Constant)
        else "b" in str(mode.value) and not set("wax+").isdisjoint(str(mode.value))
        for mode in modes
    )


def broken_places(root: Path) -> Iterator[str]:
    for file in sorted(root.rglob("*.py")):
        order = Order(file.relative_to(root).as_posix())
        order.visit(ast.parse(file.read_text(encoding="utf-8")))
        yield from order.broken


def test_the_order_is_kept_everywhere() -> None:
    assert len(list(WEBUI.rglob("*.py"))) > 20
    assert list(broken_places(WEBUI)) == []


def test_the_types_are_made_where_they_may_be() -> None:
    made = {
        name
        for name, package in MAKERS.items()
        for file in (WEBUI / package).rglob("*.py")
        if f"{name}(" in file.read_text(encoding="utf-8")
    }
    assert made == set(MAKERS)


def planted(folder: Path, module: str, code: str) -> list[str]:
    file = folder / module
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(code, encoding="utf-8")
    return list(broken_places(folder))


@pytest.mark.parametrize(
    "code",
    [
        "from webui.clearance import Cleared\nx = Cleared(b'', 0)",
        "from webui.clearance import Admitted as A\nx = A(request, session, 0)",
        "from webui import clearance\nx = clearance.Discarded(0)",
        "import webui.clearance as c\ndef f(b: bytes = c.Signed(b'', '')): ...",
        "from webui.clearance import Cleared\nx = list(map(Cleared, data, levels))",
        "from webui.clearance import Cleared\nmake = Cleared",
        "from webui.clearance import Cleared\nx = Cleared.__new__(kind)",
        "from webui.clearance import Cleared\nx: Cleared = Cleared(b'', 0)",
        "picture.save(path)",
        "picture.save(folder / 'a.png', format='PNG')",
        "picture.save(fp=path)",
        "picture.save()",
        "self.shelf.save(path)",
        "import cv2\ncv2.imwrite(str(path), pixels)",
        "from torchvision.utils import save_image\nsave_image(x, path)",
        "path.write_bytes(cleared.data)",
        "with open(path, 'wb') as f: f.write(data)",
        "with path.open('xb') as f: f.write(data)",
        "with open(path, mode='r+b') as f: f.write(data)",
        "with open(path, mode) as f: f.write(data)",
        "import os\nwith os.fdopen(handle, 'wb') as f: f.write(data)",
        "array.tofile(path)",
        "from webui.library.files import write_atomically\nwrite_atomically(path, data)",
    ],
)
def test_a_planted_violation_is_found(tmp_path: Path, code: str) -> None:
    assert len(planted(tmp_path, "ui/page.py", code)) == 1


@pytest.mark.parametrize(
    "code",
    [
        "from webui.clearance import Cleared, Discarded\ndef f(x: Cleared) -> Discarded: ...",
        "from webui.clearance import Cleared\nasync def f(*, x: Cleared | None = None): ...",
        "from webui.clearance import Cleared\nok = isinstance(x, Cleared)",
        "match x:\n    case Cleared(data=data): pass",
        "from webui.clearance import Cleared, Discarded\nVerdict = Cleared | Discarded",
        "from webui.clearance import Cleared\npictures: list[Cleared] = []",
        "from webui.clearance import Cleared\nKind = type[Cleared]",
        "import io\nbuffer = io.BytesIO()\npicture.save(buffer, format='PNG')",
        "from io import BytesIO\nwith BytesIO() as memory: picture.save(memory, 'PNG')",
        "self._gallery.save(signed, seed)",
        "picture = Image.open(BytesIO(data))",
        "webbrowser.open(address)",
        "open(path)\nopen(path, 'rb')\npath.open('rb')\nopen(path, 'w', encoding='utf-8')",
    ],
)
def test_naming_the_types_and_encoding_in_memory_is_no_violation(tmp_path: Path, code: str) -> None:
    assert planted(tmp_path, "ui/page.py", code) == []


def test_each_package_makes_only_its_own_types(tmp_path: Path) -> None:
    assert not planted(tmp_path, "safety/guard.py", "x = Cleared(b'', 0)")
    assert not planted(tmp_path, "library/gallery.py", "path.write_bytes(signed.data)")
    assert len(planted(tmp_path, "safety/other.py", "x = Signed(b'', '')")) == 1
    assert len(planted(tmp_path, "provenance/sign.py", "x = Cleared(b'', 0)")) == 2
