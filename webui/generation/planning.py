"""From a request to its plan: what it names is found on the shelves, the rest is settled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from webui.errors import BadRequestError, NotFoundError
from webui.generation.canvas import Brought
from webui.generation.drawn import Drawn, PictureTexts, draw_prompts
from webui.generation.facts import find_sampling
from webui.generation.plan import Plan
from webui.generation.resolve import resolve
from webui.generation.sampling import OPEN
from webui.library.checkpoints import Checkpoint
from webui.library.shelves import Shelves
from webui.request import GenerationRequest, pictures_of


class Planner:
    """Plans requests with what is on the shelves."""

    def __init__(self, shelves: Shelves) -> None:
        self._shelves = shelves

    def drawn(self, request: GenerationRequest) -> tuple[Drawn, int]:
        """The request as it is run, and its number of steps.

        Its sampling is filled in, since what a guard lets in hangs on CFG. Neither weights nor
        pictures are read.

        Raises:
            WebuiError: It names a model that is not there, or its prompts cannot be read.
        """
        drawn = draw_prompts(request, self._shelves.wildcards.now)
        model = self._shelves.models.folder(drawn.request.model)
        sampling = find_sampling(drawn.request, model, self._shelves.loras)
        settled = {name: getattr(sampling, name) for name in OPEN}
        filled = drawn.request.model_copy(update=settled)
        return replace(drawn, request=filled), sampling.steps

    def bring(self, request: GenerationRequest) -> dict[str, bytes]:
        """The files of the pictures that the request names, by these names.

        Raises:
            NotFoundError: One is not on the shelf; with its field.
        """
        files: dict[str, bytes] = {}
        for field, name in pictures_of(request):
            try:
                files[name] = self._shelves.uploads.read(name)
            except NotFoundError as error:
                raise NotFoundError(error.message, field=field) from None
        return files

    def plan(
        self,
        request: GenerationRequest,
        files: Mapping[str, bytes] = MappingProxyType({}),
        pictures: Sequence[PictureTexts] = (),
    ) -> Plan:
        """The plan of a request that is drawn.

        Args:
            files: As `bring` has them.
            pictures: As `webui.generation.resolve.resolve` takes them.

        Raises:
            WebuiError: As `resolve`, or a model or VAE is not on the shelf.
        """
        shelves = self._shelves
        checkpoint = shelves.models.find(request.model)
        refiner = None if request.refiner is None else self._find_refiner(request.refiner)
        vae = None if request.vae is None else shelves.models.vaes.find(request.vae)
        return resolve(
            request,
            checkpoint,
            shelves.loras,
            shelves.controlnets,
            {name: Brought.of(file) for name, file in files.items()},
            pictures,
            refiner=refiner,
            vae=vae,
            embeddings=shelves.embeddings,
        )

    def _find_refiner(self, name: str) -> Checkpoint:
        try:
            return self._shelves.models.find(name)
        except BadRequestError as error:
            raise type(error)(error.message, field="refiner") from None
