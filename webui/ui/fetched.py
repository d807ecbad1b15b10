"""What may be downloaded, by what is served here, and what is kept beside it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from webui.errors import BrokenFileError, WebuiError
from webui.generation.control_kinds import SERVED_NETS
from webui.generation.families import PIPELINES
from webui.library.controlnet_files import read_net
from webui.library.embeddings import read_embedding_facts
from webui.library.findings import Found
from webui.library.headers import Header
from webui.library.kinds import Kind
from webui.library.notes import Notes, write_notes
from webui.library.recognition import recognise

SERVED = frozenset({*PIPELINES, *SERVED_NETS})
"""Classes of diffusers, of pipelines and of ControlNets, that are run here."""


def kind_and_family(header: Header, file: str) -> tuple[Kind, str]:
    """Kind and family of a file that is to be downloaded.

    Raises:
        BrokenFileError: It cannot be used here; says why.
    """
    said = recognise(header, file=file)
    problem = said.problem
    if said.kind == "controlnet":
        problem = problem or read_net(header, file=file).wrong
    if said.kind == "embedding":
        read_embedding_facts(header, file=file)
    if problem is not None or said.kind == "unknown":
        raise BrokenFileError(problem or f"{file} holds nothing that is known here.")
    return said.kind, said.family


def keep_origin(found: Found, path: Path) -> None:
    """Writes beside something that was downloaded where it comes from."""
    notes = Notes(
        licence=found.licence,
        page=found.page,
        words=found.words,
        base=found.base,
        title=found.title if found.title != found.name else None,
        terms=found.terms,
    )
    # What was fetched is whole without it.
    with suppress(WebuiError):
        write_notes(path, notes)
