"""Another guard in an engine's place of its own."""

from __future__ import annotations

import pytest

from webui.engine import Engine


def use_guard(engine: Engine, patch: pytest.MonkeyPatch, guard: object) -> None:
    """Puts a guard into the engine and at both of its doors, for as long as the patch lasts."""
    for place in (engine, engine._admission, engine._release):  # pyright: ignore[reportPrivateUsage]
        patch.setattr(place, "_guard", guard)
