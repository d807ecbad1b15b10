"""What is written into a picture of how it was made."""

from __future__ import annotations

import importlib.metadata

from webui import __version__
from webui.generation.devices import Device
from webui.generation.loaded import Loaded
from webui.generation.memory import MemoryPlan
from webui.generation.plan import Plan
from webui.generation.speed import Rung, name_of
from webui.provenance.recipe import Recipe, UsedEmbedding, UsedLora, UsedPart

VERSIONED = ("torch", "diffusers", "transformers")
"""Packages whose versions can change a picture."""


class RecipeWriter:
    """Writes the recipes of pictures that are made on one device."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._versions = {"easel": __version__} | {
            name: importlib.metadata.version(name) for name in VERSIONED
        }

    def write(
        self,
        plan: Plan,
        seed: int,
        loaded: Loaded,
        rung: Rung,
        memory: MemoryPlan,
        *,
        tainted: bool,
    ) -> Recipe:
        """The recipe of one of the plan's pictures, by what was done, not by what was asked for.

        Args:
            seed: The picture's.
            loaded: What it was made with.
            rung: How its steps were sped up.
            memory: How the model was laid out.
            tainted: Whether anything from outside has a part in it.
        """
        speed = name_of(rung, plan.request.speed)
        return Recipe(
            request=plan.recipe(seed).model_copy(update={"speed": speed}),
            model_sha256=plan.checkpoint.sha256,
            refiner_sha256=None if plan.refiner is None else plan.refiner.checkpoint.sha256,
            vae_sha256=None if plan.vae is None else plan.vae.content.sha256,
            versions=self._versions,
            device=self._device.name,
            dtype=self._device.dtype_name,
            layout=self._device.layout,
            attention=loaded.attention,
            memory=memory.layout,
            tainted=tainted,
            loras=tuple(
                UsedLora(lora.name, lora.hashes.sha256, lora.hashes.auto_v3) for lora in plan.loras
            ),
            embeddings=tuple(
                UsedEmbedding(word.name, word.sha256) for word in plan.embeddings_in(seed)
            ),
            parts=tuple(UsedPart(part.part, part.label) for part in loaded.parts),
        )
