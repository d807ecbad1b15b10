from __future__ import annotations

from webui.generation.families import PIPELINES
from webui.library import pipeline_folders
from webui.ui.fetched import SERVED


def test_every_pipeline_that_is_run_is_fetched_and_taken_by_the_shelf() -> None:
    assert PIPELINES <= SERVED
    assert set(pipeline_folders.PIPELINES) >= PIPELINES
