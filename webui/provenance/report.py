"""A verification as a block of text for the command line, and as JSON values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

from webui.provenance.c2pa import Ancestor, Credentials, State
from webui.provenance.verify import Verdict, Verification
from webui.provenance.watermark import BITS

_VERDICTS: Mapping[Verdict, str] = MappingProxyType(
    {
        "whole": "made by this installation and unchanged since",
        "own": "signed by this installation and unchanged since, but a layer is missing",
        "marked": "made with Easel; re-saved or changed since",
        "changed": "its credentials do not fit it: it was changed, or they are another picture's",
        "other": "signed by somebody who is not known here, so nothing that it says is certain",
        "claimed": "only unsigned texts say how it was made, and anybody can write those",
        "unknown": "nothing is known; that does not mean that no AI made it",
    }
)
_STATES: Mapping[State, str] = MappingProxyType(
    {
        "none": "none",
        "own": "signed by this installation, valid",
        "other": "valid, but the signer is not known here",
        "changed": "do not fit the file",
        "elsewhere": "only at an address, which was not fetched",
        "unreadable": "damaged",
    }
)
_LABEL_WIDTH = 13


def to_text(name: str, found: Verification) -> str:
    """One block: the file's name, and a line for each layer."""
    lines = [(label, value) for label, value in _lines(found) if value]
    return "\n".join([name, *(f"  {label:<{_LABEL_WIDTH}}{value}" for label, value in lines)])


def to_json(name: str, found: Verification) -> dict[str, Any]:
    """The same as JSON values."""
    recipe = found.recipe
    return {
        "file": name,
        "verdict": found.verdict,
        "sha256": found.sha256,
        "kind": found.kind,
        "width": found.width,
        "height": found.height,
        "credentials": asdict(found.credentials) | {"lineage": found.credentials.lineage},
        "watermark": None
        if found.watermark is None
        else {"present": found.watermark.present, "bits": found.watermark.bits, "of": BITS},
        "xmp": found.source_type,
        "recipe": None if recipe is None else {"from": recipe.source, "request": recipe.request},
        "tool": found.tool,
        "troubles": list(found.troubles),
    }


def _lines(found: Verification) -> Iterator[tuple[str, str]]:
    yield "verdict", _VERDICTS[found.verdict]
    yield "picture", f"{found.kind}, {found.width} x {found.height} pixels"
    yield "credentials", _credentials(found.credentials)
    yield "ancestry", _ancestry(found.credentials.lineage)
    for ancestor in found.credentials.ancestors:
        yield "made of", _ancestor(ancestor)
    yield "watermark", _watermark(found)
    yield "XMP", f"states {found.source_type} (unsigned)" if found.source_type else "no statement"
    yield "recipe", _recipe(found)
    for trouble in found.troubles:
        yield "trouble", trouble


def _credentials(found: Credentials) -> str:
    parts = [_STATES[found.state]]
    if found.signer and found.state != "own":
        parts.append(f"names as signer {found.signer!r}")
    if found.generator:
        parts.append(f"made with {found.generator!r}")
    parts += [", ".join(each) for each in (found.actions, found.source_types) if each]
    if found.problems:
        parts.append("problems: " + ", ".join(found.problems))
    return "; ".join(parts)


def _ancestry(lineage: Mapping[str, Any] | None) -> str:
    if lineage is None:
        return ""
    # A later version may have signed less than this one knows.
    parts = [f"operation {lineage.get('operation')}"]
    parts += [f"{key} {lineage[key]}" for key in ("parent", "mask") if key in lineage]
    parts += [f"{len(lineage[key])} {key}" for key in ("controls", "loras") if lineage.get(key)]
    parts.append("not tainted" if lineage.get("tainted") is False else "tainted")
    return "; ".join(parts)


def _ancestor(found: Ancestor) -> str:
    named = f"names as signer {found.signer!r}" if found.signer else "names no signer"
    parts = [f"a picture that {named}"]
    if found.generator:
        parts.append(f"made with {found.generator!r}")
    parts += [", ".join(each) for each in (found.actions, found.source_types) if each]
    if found.problems:
        parts.append("problems: " + ", ".join(found.problems))
    return "; ".join(parts)


def _watermark(found: Verification) -> str:
    if found.watermark is None:
        return "not looked for"
    state = "found" if found.watermark.present else "not found"
    return f"{state}: {found.watermark.bits} of {BITS} bits agree"


def _recipe(found: Verification) -> str:
    if found.tool:
        return f"of {found.tool} (unsigned)"
    if found.recipe is None:
        return "none"
    if found.recipe.source == "easel":
        values = (f"{key} {found.recipe.request.get(key)}" for key in ("model", "seed"))
        return "of Easel: " + ", ".join(values)
    return "of Stable Diffusion web UI (A1111) or a tool that writes as it does (unsigned)"
