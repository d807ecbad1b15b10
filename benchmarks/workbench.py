"""What all benchmarks work on: the models, a folder for their files, and how long to measure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

from benchmarks.ours import Ours
from benchmarks.random_models import SD15, ModelShape, write_random_model
from webui.generation.devices import Device

Part = Literal["load", "steps", "switch", "gpu", "listing", "activations"]
"""What `bench models` measures."""


@dataclass(frozen=True)
class ModelsEffort:
    """What of `bench models` is measured, and how much.

    Attributes:
        parts: All that `--only` can name.
        models: Models by the names that `--models` takes.
        quick: Whether tiny models stand for the full-size ones: to see that everything runs.
        files: How many files are listed.
    """

    parts: tuple[Part, ...] = get_args(Part)
    models: tuple[str, ...] = ("sd15", "sdxl", "sd35", "flux")
    quick: bool = False
    files: int = 500


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        shape: The random model that stands for a full-size one.
        side: Side of its pictures in pixels.
        steps: Denoising steps of its pictures.
        rounds: How often pictures of that model are made by each side.
        postcard_side, postcard_steps, postcard_rounds: The same for the embedded model.
        starts: How often the server is started.
        children: How often each process is run whose memory is measured.
        pictures: How many files the history is measured with.
        generations: How many pictures are made in one tab.
        generation_steps: Denoising steps of each of them.
        changes: How often a stack of LoRAs is changed.
        drag_seconds: How long each thing is dragged in the pose editor.
        marked: How many pictures are marked and signed.
        lines: How many innocent prompts are read.
        faulty_runs: How many jobs are run with something going wrong.
        full: What is measured of full-size models.
    """

    shape: ModelShape = SD15
    side: int = 512
    steps: int = 4
    rounds: int = 3
    postcard_side: int = 256
    postcard_steps: int = 20
    postcard_rounds: int = 15
    starts: int = 5
    children: int = 2
    pictures: int = 20_000
    generations: int = 300
    generation_steps: int = 2
    changes: int = 200
    drag_seconds: float = 6.0
    marked: int = 500
    lines: int = 6_000
    faulty_runs: int = 100_000
    full: ModelsEffort = ModelsEffort()


@dataclass(frozen=True)
class Workbench:
    """Where things are.

    Attributes:
        models: Folder with the embedded model.
        work: Folder for the random model, pictures and file hashes; emptied by its owner.
    """

    effort: Effort
    models: Path
    work: Path

    def ours(self, device: Device) -> Ours:
        """An engine that finds the embedded model and the random one."""
        return Ours(device, (self.random_model.parent, self.models), self.work)

    @cached_property
    def random_model(self) -> Path:
        """The folder of the random model, written when it is first asked for."""
        folder = self.work / "models" / self.effort.shape.name
        if not folder.exists():
            write_random_model(folder, self.effort.shape)
        return folder
