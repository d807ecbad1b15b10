"""What the page's script draws of a job: plain data, one object for each change.

The keys are read in `assets/page/job.js`, and nowhere else.
"""

from __future__ import annotations

import base64
import itertools
from dataclasses import dataclass, field
from typing import Any

from webui.errors import WebuiError
from webui.events import Failed
from webui.jobs import Job
from webui.ui.pictures import Picture
from webui.ui.story import Story, headline, memory_line, stage_line
from webui.ui.texts import Texts


@dataclass(frozen=True)
class Problem:
    """One sentence, and the field it is about where there is one."""

    message: str
    field: str | None = None

    @staticmethod
    def of(error: WebuiError | Failed) -> Problem:
        """The problem an error or a failed job is."""
        return Problem(message=error.message, field=error.field)


@dataclass(frozen=True)
class Views:
    """Makes views, each different from the one before.

    Gradio tells the browser only of values that changed, and two equal answers to two clicks
    (the same mistake twice) must both arrive.
    """

    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def idle(self, *, problem: Problem | None = None) -> dict[str, Any]:
        """No job is watched.

        Args:
            problem: What kept a job from starting.
        """
        return self._view(Story(), problem=problem)

    def of_job(
        self, job: Job, story: Story, latest: Picture | None, say: Texts, *, taken_over: bool
    ) -> dict[str, Any]:
        """How a job is going.

        Args:
            latest: The newest picture it has saved.
            taken_over: Whether another tab asked for it, which is gone.
        """
        problem = Problem.of(story.ending) if isinstance(story.ending, Failed) else None
        started = story.started
        return self._view(story, problem=problem) | {
            "job": job.id,
            "busy": story.ending is None,
            "waiting": story.ending is None and started is None,
            "headline": headline(story, say),
            "stages": stage_line(story, say),
            "memory": memory_line(story, say),
            "width": started.width if started else None,
            "height": started.height if started else None,
            "latest": shown(latest) if latest else None,
            "loras": [lora.model_dump(exclude={"event"}) for lora in story.loras],
            "stack": story.stack.model_dump(mode="json") if story.stack else None,
            "hints": {str(hint.control): _data_url(hint.jpeg) for hint in story.hints},
            "asked": job.request.model_dump(mode="json") if taken_over else None,
        }

    def _view(self, story: Story, *, problem: Problem | None) -> dict[str, Any]:
        return {
            "number": next(self._numbers),
            "job": None,
            "busy": False,
            "waiting": False,
            "headline": "",
            "stages": "",
            "memory": "",
            "progress": story.progress,
            "notices": list(story.notices),
            "width": None,
            "height": None,
            "preview": _data_url(story.preview.jpeg) if story.preview else None,
            "loras": [],
            "stack": None,
            "hints": {},
            "saved": len(story.saved),
            "latest": None,
            "asked": None,
            "problem": {"message": problem.message, "field": problem.field} if problem else None,
        }


def _data_url(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


def shown(picture: Picture) -> dict[str, Any]:
    """A picture of the session as the script gets it."""
    return {
        "id": picture.id,
        "url": f"pictures/{picture.id}.png",
        "thumbnail": f"pictures/{picture.id}/thumbnail.webp",
        "name": picture.path.name,
        "seed": picture.seed,
        "width": picture.width,
        "height": picture.height,
        "prompt": picture.prompt,
    }
