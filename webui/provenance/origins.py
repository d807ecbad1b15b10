"""Where a picture that is brought in comes from, judged by its file as it came."""

from __future__ import annotations

from webui.library.origins import OUTSIDE, Origin
from webui.provenance import c2pa
from webui.provenance.certificate import Trust
from webui.provenance.lineage import SCHEMA

_KEPT: frozenset[c2pa.State] = frozenset({"own", "other", "changed", "elsewhere"})


def origin_of(file: bytes, trust: Trust | None) -> Origin:
    """Untainted is only what this installation signed as such and of which no byte has changed.

    What is signed as untainted was made of text, of pictures that were untainted in turn, and by
    models that are known. Other credentials are kept, also those that do not fit or that lie at an
    address (which is not fetched), and vouch for nothing.

    Args:
        trust: Whose signatures count; `None`: nobody's.
    """
    kind = c2pa.kind_of(file)
    if kind is None:
        return OUTSIDE
    found = c2pa.read(file, kind, trust)
    # Only read from credentials that are this installation's.
    lineage = found.lineage or {}
    untainted = lineage.get("schema") == SCHEMA and lineage.get("tainted") is False
    return Origin(tainted=not untainted, has_credentials=found.state in _KEPT)
