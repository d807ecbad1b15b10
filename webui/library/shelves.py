"""All that is on disk for pictures to be made with."""

from __future__ import annotations

from dataclasses import dataclass

from webui.library.checkpoints import CheckpointShelf
from webui.library.controlnets import ControlNetShelf
from webui.library.embeddings import EmbeddingShelf
from webui.library.loras import LoraShelf
from webui.library.uploads import Uploads
from webui.library.wildcards import WildcardShelf


@dataclass(frozen=True)
class Shelves:
    """The shelves that a request's names are looked up on.

    Attributes:
        models: Of checkpoints, refiners and VAEs.
        uploads: Of pictures that were brought in.
    """

    models: CheckpointShelf
    loras: LoraShelf
    controlnets: ControlNetShelf
    embeddings: EmbeddingShelf
    wildcards: WildcardShelf
    uploads: Uploads
