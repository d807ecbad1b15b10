"""Another guard in an engine's place of its own."""

from __future__ import annotations

import pytest

from webui.engine import Engine


def use_guard(engine: Engine, patch: pytest.MonkeyPatch, guard: object) -> None:
    """Puts a guard into the engine, at both of its doors, for as long as the patch lasts."""
    patch.setattr(engine, "_guard", guard)
    patch.setattr(engine._release, "_guard", guard)  # pyright: ignore[reportPrivateUsage]
