"""JSON objects sealed with a key (HMAC-SHA-256), so that only this installation can write them."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from typing import Any, cast


def sealed(key: bytes, kind: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """The body with its seal, which counts for objects of that kind alone."""
    return {**body, "seal": hmac.digest(key, kind.encode() + as_text(body), "sha256").hex()}


def unsealed(key: bytes, kind: str, text: bytes) -> dict[str, Any] | None:
    """The sealed object; `None` for bytes that were not sealed, in exactly this form."""
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    given = cast(dict[str, Any], found)
    body = {name: value for name, value in given.items() if name != "seal"}
    return given if hmac.compare_digest(as_text(sealed(key, kind, body)), text) else None


def as_text(values: Mapping[str, Any]) -> bytes:
    """The one form in which objects are sealed: JSON without spaces, ASCII."""
    return json.dumps(values, separators=(",", ":")).encode()
