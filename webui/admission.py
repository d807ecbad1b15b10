"""The only way in for a request: judged by what it says, then by what it is to use."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager

from webui.clearance import Admitted, Texts
from webui.errors import RefusedError
from webui.generation.drawn import Drawn
from webui.generation.finishing import to_png
from webui.generation.plan import Plan
from webui.generator import Session
from webui.library.contents import Content
from webui.library.uploads import Uploads
from webui.minutes import Minutes
from webui.request import GenerationRequest, pictures_of
from webui.safety.gate import Gate
from webui.safety.guard import Guard
from webui.safety.known import LARGEST
from webui.safety.taint import is_tainted


class Admission:
    """Lets requests in.

    Args:
        gate: Knows what the operator trusts.
        minutes: Has a line of each request that is refused.
        uploads: Knows where pictures that were brought in come from.
    """

    def __init__(self, *, guard: Guard, gate: Gate, minutes: Minutes, uploads: Uploads) -> None:
        self._guard = guard
        self._gate = gate
        self._minutes = minutes
        self._uploads = uploads

    def admit(
        self, drawn: Drawn, session: Session, steps: int, *, tainted: bool = False
    ) -> Admitted:
        """The request, let in with every text that its prompts come to over so many steps.

        Raises:
            RefusedError: It is not let in.
            BadRequestError: A text cannot be read.
        """
        texts = drawn.texts(steps)
        with self._noted(drawn.request, session):
            return self._guard.admit(drawn.request, session, tainted=tainted, texts=texts)

    def check_brought(self, admitted: Admitted, files: Mapping[str, bytes], plan: Plan) -> None:
        """Has the pictures judged, and what is to be painted anew as a picture of its own.

        Args:
            files: Those of the pictures that the request names, by these names.

        Raises:
            RefusedError: One may not be worked on.
        """
        with self._noted(admitted.request, admitted.session):
            for field, name in pictures_of(admitted.request):
                self._guard.check_brought(files[name], admitted.level, field=field)
            if plan.canvas is not None and plan.changed is not None:
                whole = to_png(plan.canvas.picture)
                self._guard.check_brought(whole, admitted.level, field="init", region=plan.changed)

    def check_decoded(self, admitted: Admitted, texts: Texts, loras: Sequence[str]) -> None:
        """Has the texts judged as the encoders read them.

        Args:
            loras: Names of the files of the LoRAs that are used.

        Raises:
            RefusedError: They are not let in.
        """
        with self._noted(admitted.request, admitted.session):
            self._guard.check_decoded(admitted, texts, loras=loras)

    def is_tainted(self, plan: Plan) -> bool:
        """Whether anything from outside has a part in the plan's pictures."""
        allowed = self._gate.policy().allowed
        return is_tainted(
            pictures=[self._uploads.origin(name) for _, name in pictures_of(plan.request)],
            weights=(
                *(_hash_of(content, any_size=bool(allowed)) for content in plan.contents),
                *(lora.hashes.sha256 for lora in plan.loras),
                *(control.net.sha256 for control in plan.controls if control.net is not None),
                *(word.sha256 for word in plan.embeddings),
            ),
            allowed=allowed,
        )

    @contextmanager
    def _noted(self, request: GenerationRequest, session: Session) -> Generator[None]:
        """Has a line written where the request is refused."""
        try:
            yield
        except RefusedError:
            self._minutes.refused(request, session)
            raise


def _hash_of(content: Content, *, any_size: bool) -> str:
    """The content hash; empty where it is not known yet and could not be that of a trusted model.

    Args:
        any_size: Whether a model of any size may be trusted, not only those that come with Easel.
    """
    return content.sha256 if any_size or content.size <= LARGEST else content.known or ""
