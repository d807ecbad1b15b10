"""A request with nothing left open."""

from __future__ import annotations

from dataclasses import dataclass

from webui.clearance import Region
from webui.generation.canvas import Canvas
from webui.generation.control import Control
from webui.generation.drawn import PictureTexts
from webui.generation.families import Family
from webui.generation.lora_plan import PlannedLora
from webui.generation.prompt_plan import PromptPlan, means_more
from webui.generation.prompt_rooms import PROMPT_ROOMS
from webui.generation.prompts import EmbeddedWord
from webui.generation.sampling import Sampling
from webui.library.checkpoints import Checkpoint
from webui.library.contents import Content
from webui.library.controlnets import ControlNetFolder
from webui.library.vaes import Vae
from webui.request import GenerationRequest, parse_request


@dataclass(frozen=True)
class Plan:
    """A request with nothing left open.

    Attributes:
        request: The request with size, first seed and sampling filled in.
        sampling: How its noise is removed.
        texts: What each batch's pictures are to show.
        prompts: The same as each batch's encoders are given it: the prompt, and the negative prompt
            unless guidance is off.
        loras: The rows of the stack that have an effect, with their files.
        width, height: Size of the picture in pixels.
        paint_width, paint_height: Size the model works at; another one where it paints an area.
        steps: How many steps are run; fewer than asked for where it starts from a picture.
        canvas: What it starts from, if not from noise alone.
        controls: The control units that have an effect.
        batches: The seeds of each batch, one a picture.
        refiner: The plan of the model that makes the last of the steps, if there is one.
        vae: What is used in place of the model's own, if anything.
        shift: Of the noise levels of a model that flows, in place of its own, if anything.
        remarks: Sentences about words of the prompts that look like embeddings and are none.
    """

    request: GenerationRequest
    sampling: Sampling
    checkpoint: Checkpoint
    family: Family
    texts: tuple[PictureTexts, ...]
    prompts: tuple[tuple[PromptPlan, ...], ...]
    loras: tuple[PlannedLora, ...]
    width: int
    height: int
    paint_width: int
    paint_height: int
    steps: int
    canvas: Canvas | None
    controls: tuple[Control, ...]
    batches: tuple[tuple[int, ...], ...]
    refiner: Plan | None = None
    vae: Vae | None = None
    shift: float | None = None
    remarks: tuple[str, ...] = ()

    @property
    def embeddings(self) -> tuple[EmbeddedWord, ...]:
        """The embeddings that any of the prompts names, once each."""
        planned = (one for prompts in dict.fromkeys(self.prompts) for one in prompts)
        return tuple(dict.fromkeys(word for one in planned for word in one.embeddings))

    @property
    def contents(self) -> tuple[Content, ...]:
        """Of the model, and of those that are used beside it or in place of a part."""
        beside = () if self.refiner is None else self.refiner.contents
        instead = () if self.vae is None else (self.vae.content,)
        return (self.checkpoint.content, *beside, *instead)

    @property
    def changed(self) -> Region | None:
        """The part of a picture brought in that is painted anew; `None` where all is."""
        return None if self.canvas is None else self.canvas.changed

    @property
    def controlnets(self) -> tuple[ControlNetFolder, ...]:
        """The networks that are asked beside the model, for the controls in order."""
        return tuple(one.controlnet for one in self.controls if one.controlnet is not None)

    @property
    def steps_before_refiner(self) -> int:
        """How many of the steps are the model's own."""
        return self.steps - (0 if self.refiner is None else self.refiner.steps)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of all pictures in order."""
        return tuple(seed for batch in self.batches for seed in batch)

    @property
    def notices(self) -> tuple[str, ...]:
        """Sentences about what will be otherwise than one may think."""
        of_canvas = () if self.canvas is None else self.canvas.notices
        of_loras = (lora.doubt for lora in self.loras if lora.doubt is not None)
        return (*of_canvas, *of_loras, *_unread(self), *self.remarks)

    def recipe(self, seed: int) -> GenerationRequest:
        """The request that makes one of this plan's pictures again, alone."""
        texts = self.texts[self._batch_of(seed)]
        return parse_request(
            self.request.model_dump() | texts._asdict() | {"seed": seed, "count": 1, "batch": 1}
        )

    def embeddings_in(self, seed: int) -> tuple[EmbeddedWord, ...]:
        """Those of one of this plan's pictures."""
        planned = self.prompts[self._batch_of(seed)]
        return tuple(dict.fromkeys(word for one in planned for word in one.embeddings))

    def _batch_of(self, seed: int) -> int:
        return next(batch for batch, seeds in enumerate(self.batches) if seed in seeds)


def _unread(plan: Plan) -> tuple[str, ...]:
    """A sentence where a prompt's grammar is not read by the model."""
    if plan.family.backbone not in PROMPT_ROOMS:
        return ()
    if not any(means_more(text, plan.steps) for texts in plan.texts for text in texts):
        return ()
    return (
        f"{plan.family.name} reads prompts as plain text: brackets, weights, BREAK and AND in them"
        " have no effect of their own.",
    )
