from __future__ import annotations

import pytest

from webui.provenance.c2pa import Signer
from webui.provenance.certificate import Identity, new_identity


@pytest.fixture(scope="session")
def identity() -> Identity:
    """This installation's."""
    return new_identity()


@pytest.fixture(scope="session")
def other() -> Identity:
    """Another installation's."""
    return new_identity()


@pytest.fixture(scope="session")
def signer(identity: Identity) -> Signer:
    return Signer(identity)
