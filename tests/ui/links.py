"""Links that carry a recipe, packed and read without the page's script."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any


def packed(data: bytes) -> str:
    """Raw deflate, base64url without its padding."""
    squeezed = zlib.compressobj(9, zlib.DEFLATED, -15)
    bare = squeezed.compress(data) + squeezed.flush()
    return base64.urlsafe_b64encode(bare).decode().rstrip("=")


def fragment_of(values: object) -> str:
    """The fragment that carries these JSON values."""
    return f"#recipe=1.{packed(json.dumps(values).encode())}"


def values_in(address: str) -> dict[str, Any]:
    """What a link carries."""
    data = address.partition("#recipe=1.")[2]
    bare = base64.urlsafe_b64decode(data + "=" * (-len(data) % 4))
    return json.loads(zlib.decompress(bare, -15))
