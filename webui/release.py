"""The only way out for a picture: marked, checked as it will be sent, signed, recorded, saved."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from webui.clearance import Admitted, Cleared, Discarded
from webui.generation.finishing import to_png
from webui.generation.plan import Plan
from webui.library.gallery import Gallery
from webui.library.uploads import Uploads
from webui.minutes import Minutes
from webui.provenance import watermark
from webui.provenance.c2pa import Signer
from webui.provenance.recipe import Recipe
from webui.provenance.sign import sign
from webui.safety.guard import Guard
from webui.safety.pictures import decode


@dataclass(frozen=True)
class Released:
    """A picture on disk; `sha256` is of the file's bytes (hex)."""

    path: Path
    sha256: str


class Release:
    """Lets pictures out, one after the other.

    Args:
        minutes: Has a line of each picture before it is anywhere else.
        uploads: Has the pictures that others began from, whose marks are kept.
        gallery: Takes the pictures.
        drafts: Takes those of sessions that ask for drafts.
    """

    def __init__(
        self,
        *,
        guard: Guard,
        signer: Signer,
        minutes: Minutes,
        uploads: Uploads,
        gallery: Gallery,
        drafts: Gallery,
    ) -> None:
        self._guard = guard
        self._signer = signer
        self._minutes = minutes
        self._uploads = uploads
        self._gallery = gallery
        self._drafts = drafts

    def check(self, picture: bytes, plan: Plan, admitted: Admitted) -> Cleared | Discarded:
        """Marks a picture and judges it, at the level that the session may reach by now.

        Args:
            picture: PNG file without text.

        Raises:
            RefusedError: The session's level has fallen below what the request needs.
        """
        level, part = self._guard.readmit(admitted).level, plan.changed
        # Marked before it is checked: the pixels that are sent are the pixels that passed.
        strongest, *weaker = watermark.MARGINS
        verdict = self._guard.screen(_marked(picture, plan, strongest), level, part)
        if isinstance(verdict, Cleared):
            return verdict
        # In sand and grass the mark's grain alone can look like skin to the detector.
        by_mark = verdict.rule == "picture" and isinstance(
            self._guard.screen(picture, level, part), Cleared
        )
        for margin in weaker if by_mark else ():
            again = self._guard.screen(_marked(picture, plan, margin), level, part)
            if isinstance(again, Cleared):
                return again
        self._minutes.withheld(admitted, verdict)
        return verdict

    def let_out(self, cleared: Cleared, recipe: Recipe, plan: Plan, admitted: Admitted) -> Released:
        """Signs a picture, records that it goes out, and saves it.

        Raises:
            MarkError: It cannot be marked.
            StorageError: It cannot be saved; or, above the strict level, not be recorded.
        """
        signed = sign(cleared, recipe, self._signer, *self._parent(plan))
        self._minutes.released(admitted, signed.sha256, tainted=recipe.tainted)
        gallery = self._drafts if admitted.session.draft else self._gallery
        path = gallery.save(signed, seed=recipe.request.seed or 0, now=datetime.now())
        return Released(path, signed.sha256)

    def _parent(self, plan: Plan) -> tuple[bytes, ...]:
        """The file of the picture it began from: as it was brought in, and made plain."""
        name = plan.request.init
        return (self._uploads.original(name), self._uploads.read(name)) if name else ()


def _marked(picture: bytes, plan: Plan, strongest: float) -> bytes:
    """The picture with the watermark, where a part is kept only in what was painted."""
    where = None if plan.canvas is None else plan.canvas.alpha
    return to_png(watermark.embed(decode(picture), where, strongest=strongest))
