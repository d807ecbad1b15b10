from __future__ import annotations

from typing import Any

import pytest

from tests.provenance.listening import listening
from tests.provenance.scenes import marked, png, recipe, saved_as, scene
from tests.provenance.test_c2pa import chunk_of, foreign
from webui.clearance import Cleared
from webui.library.origins import OUTSIDE, Origin
from webui.provenance.c2pa import Signer, Statement
from webui.provenance.certificate import Identity
from webui.provenance.lineage import SCHEMA
from webui.provenance.origins import origin_of
from webui.provenance.sign import sign

PNG = png(scene(1))
KEPT = Origin(tainted=True, has_credentials=True)
UNTAINTED = Origin(tainted=False, has_credentials=True)


def stated(signer: Signer, **lineage: Any) -> bytes:
    return signer.sign(PNG, Statement("trainedAlgorithmicMedia", lineage))


def test_what_was_made_here_of_text_is_not_tainted(signer: Signer, identity: Identity) -> None:
    own = sign(Cleared(marked(scene(1)), 0), recipe(), signer).data
    assert origin_of(own, identity.trust) == UNTAINTED
    assert origin_of(own, None) == KEPT


@pytest.mark.parametrize(
    "lineage",
    [
        {"schema": SCHEMA, "tainted": True},
        {"schema": SCHEMA},
        {"schema": SCHEMA, "tainted": 0},
        {"schema": SCHEMA, "tainted": None},
        {"tainted": False},
        {"schema": 1, "tainted": False},
        {"schema": SCHEMA + 1, "tainted": False},
    ],
)
def test_only_what_is_signed_as_untainted_is(
    signer: Signer, identity: Identity, lineage: dict[str, Any]
) -> None:
    assert origin_of(stated(signer, **lineage), identity.trust) == KEPT


def test_every_changed_byte_taints(signer: Signer, identity: Identity) -> None:
    own = stated(signer, schema=SCHEMA, tainted=False)
    assert origin_of(own, identity.trust) == UNTAINTED
    chunk = chunk_of(own, b"caBX")
    start = own.index(chunk)
    outside = [*range(0, start, 7), *range(start + len(chunk), len(own), len(own) // 40)]
    for at in outside:
        changed = bytearray(own)
        changed[at] ^= 1
        assert origin_of(bytes(changed), identity.trust).tainted, at
    assert origin_of(own + b"\0", identity.trust).tainted


def test_credentials_of_others_are_kept_and_vouch_for_nothing(
    identity: Identity, other: Identity
) -> None:
    forged = {"label": "easel.lineage", "data": {"schema": SCHEMA, "tainted": False}}
    assert origin_of(foreign(other), identity.trust) == KEPT
    assert origin_of(foreign(other, assertions=(forged,)), identity.trust) == KEPT


def test_credentials_that_are_moved_or_elsewhere_are_kept_and_not_fetched(
    signer: Signer, identity: Identity, other: Identity
) -> None:
    chunk = chunk_of(stated(signer, schema=SCHEMA, tainted=False), b"caBX")
    target = png(scene(2))
    assert origin_of(target[:33] + chunk + target[33:], identity.trust) == KEPT
    with listening() as trap:
        remote = foreign(other, remote=trap.address)
        assert origin_of(remote, identity.trust) == KEPT
        assert not trap.was_called()


def test_nothing_is_known_of_other_files(identity: Identity) -> None:
    damaged = bytearray(foreign(identity))
    damaged[damaged.index(b"caBX") + 300] ^= 255
    others = (
        PNG,
        saved_as("JPEG", scene(1)),
        saved_as("WEBP", scene(1)),
        saved_as("BMP", scene(1)),
    )
    for file in (*others, bytes(damaged), b"", b"nothing"):
        assert origin_of(file, identity.trust) == OUTSIDE
