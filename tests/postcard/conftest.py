from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def denormals() -> Iterator[None]:
    """Training flushes denormal numbers in its thread; other tests want them back."""
    yield
    torch.set_flush_denormal(False)
