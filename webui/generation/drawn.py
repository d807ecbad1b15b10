"""The prompts of each picture of a request: what is drawn in them, and the LoRAs they name."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from webui.clearance import Texts
from webui.errors import BadRequestError
from webui.generation.prompt_plan import texts_of
from webui.interchange.dynamicmarks import is_dynamic
from webui.interchange.dynamicprompts import Expander, Lists
from webui.interchange.loratags import rows_for_tags
from webui.request import DRAWN_SEEDS, MAX_SEED, GenerationRequest, parse_request


class PictureTexts(NamedTuple):
    """The two prompts of a picture."""

    prompt: str
    negative_prompt: str


@dataclass(frozen=True)
class Drawn:
    """A request as it is run.

    Attributes:
        request: With its prompt's tags in the stack, and with a seed where something was drawn.
        pictures: The texts of each picture in order; of all of them, where nothing was drawn.
        notices: Sentences about what became of tags.
    """

    request: GenerationRequest
    pictures: tuple[PictureTexts, ...]
    notices: tuple[str, ...]

    @property
    def is_drawn(self) -> bool:
        """Whether pictures may differ in their texts."""
        return self.pictures != (_own(self.request),)

    def texts(self, steps: int) -> Texts:
        """All that is encoded over that many steps, for the content filter.

        Raises:
            BadRequestError: A text cannot be read.
        """
        return Texts(
            *(
                tuple(
                    dict.fromkeys(
                        variant
                        for text in dict.fromkeys(getattr(one, field) for one in self.pictures)
                        for variant in (text, *texts_of(text, field, steps))
                    )
                )
                for field in ("prompt", "negative_prompt")
            )
        )


def draw_prompts(request: GenerationRequest, lists: Callable[[], Lists]) -> Drawn:
    """Draws for each picture by its own seed, and takes tags of LoRAs out into the stack.

    Args:
        lists: The lists there are, asked for only where something is drawn.

    Raises:
        BadRequestError: A tag or what is drawn cannot be read, or pictures would have different
            LoRAs.
    """
    if not (is_dynamic(request.prompt) or is_dynamic(request.negative_prompt)):
        own, notices = rows_for_tags(request)
        return Drawn(own, (_own(own),), notices)
    first = secrets.randbelow(DRAWN_SEEDS) if request.seed is None else request.seed
    expander = Expander(lists())
    drawn = [
        rows_for_tags(
            parse_request(
                request.model_dump()
                | {
                    field: expander.expand(getattr(request, field), seed, field)
                    for field in ("prompt", "negative_prompt")
                }
            )
        )
        for seed in picture_seeds(request, first)
    ]
    (picture, notices), *others = drawn
    if any(other.loras != picture.loras for other, _ in others):
        raise BadRequestError(
            "The prompt draws different LoRAs for its pictures, which cannot be made in one go:"
            " make one picture at a time, or leave the tags out of what is drawn.",
            field="prompt",
        )
    rows = [lora.model_dump() for lora in picture.loras]
    own = parse_request(request.model_dump() | {"loras": rows, "seed": first})
    return Drawn(own, tuple(_own(each) for each, _ in drawn), notices)


def picture_seeds(request: GenerationRequest, first: int) -> Sequence[int]:
    """The seeds of all pictures in order."""
    return [(first + k) % (MAX_SEED + 1) for k in range(request.count * request.batch)]


def _own(request: GenerationRequest) -> PictureTexts:
    return PictureTexts(request.prompt, request.negative_prompt)
