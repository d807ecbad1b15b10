"""What the page's script draws: plain data, one object for each change.

The keys are read in `assets/page.js`, and nowhere else.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from webui.errors import WebuiError
from webui.events import Failed
from webui.ui.pictures import Picture
from webui.ui.story import Story, headline, stage_line


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

    def show(
        self,
        pictures: Sequence[Picture],
        *,
        story: Story | None = None,
        problem: Problem | None = None,
    ) -> dict[str, Any]:
        """The page's state.

        Args:
            pictures: The session's pictures, the newest first.
            story: The job that is watched, if any.
            problem: What kept the job from starting; a failed job's own error is in its story.
        """
        watched = story is not None
        story = story or Story()
        if isinstance(story.ending, Failed):
            problem = Problem.of(story.ending)
        started = story.started
        return {
            "number": next(self._numbers),
            "busy": watched and story.ending is None,
            "waiting": watched and story.ending is None and started is None,
            "headline": headline(story) if watched else "",
            "stages": stage_line(story),
            "progress": story.progress,
            "notices": list(story.notices),
            "width": started.width if started else None,
            "height": started.height if started else None,
            "preview": _data_url(story),
            "problem": {"message": problem.message, "field": problem.field} if problem else None,
            "pictures": [_shown(picture) for picture in pictures],
        }


def _data_url(story: Story) -> str | None:
    if story.preview is None:
        return None
    return "data:image/jpeg;base64," + base64.b64encode(story.preview.jpeg).decode("ascii")


def _shown(picture: Picture) -> dict[str, Any]:
    return {
        "id": picture.id,
        "url": f"pictures/{picture.id}.png",
        "name": picture.path.name,
        "seed": picture.seed,
        "width": picture.width,
        "height": picture.height,
        "prompt": picture.prompt,
    }
