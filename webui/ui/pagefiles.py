"""The modules and style sheets of the page, under an address that changes when one of them does."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "assets" / "page"

KINDS: Mapping[str, str] = {".js": "text/javascript", ".css": "text/css"}


@dataclass(frozen=True)
class PageFiles:
    """The files as they were when the server was started, so that an update meets no old half.

    Attributes:
        contents: By their names.
        version: Of all of them together, as a part of an address.
    """

    contents: Mapping[str, bytes]
    version: str

    @classmethod
    def load(cls) -> PageFiles:
        """Reads them from this package."""
        files = sorted(file for file in FOLDER.iterdir() if file.suffix in KINDS)
        contents = {file.name: file.read_bytes() for file in files}
        digest = hashlib.sha256()
        for name, content in contents.items():
            digest.update(f"{name} {len(content)}\n".encode() + content)
        return cls(contents, digest.hexdigest()[:16])

    def address(self, name: str) -> str:
        """Where the page finds a file, from its own address on."""
        return f"page/{self.version}/{name}"
