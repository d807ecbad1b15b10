"""What `serve` tells the engine of how it can be reached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from webui.cli import main, serving
from webui.errors import StartError
from webui.settings import Settings


class Stopped(Exception):  # noqa: N818
    """The server would now be started."""


@pytest.mark.parametrize(
    ("flags", "exposed"),
    [
        ((), False),
        (("--host", "localhost"), False),
        (("--host", "0.0.0.0"), True),
        (("--share",), True),
    ],
)
def test_the_engine_knows_whether_others_can_reach_the_page(
    flags: tuple[str, ...], exposed: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told: list[Settings] = []

    def process(_: Any, settings: Settings) -> Any:
        told.append(settings)
        raise Stopped

    monkeypatch.setattr("webui.process.EngineProcess", process)
    shared: list[bool] = []
    # It would hold for the process of the tests.
    monkeypatch.setattr("webui.process.heap.share_one_arena", lambda: shared.append(True))
    with pytest.raises(Stopped):
        main(["serve", "--port", "0", "--no-browser", "--outputs", str(tmp_path), *flags])
    assert told[0].exposed is exposed
    assert shared == [True]


def test_the_flag_holds_the_level_lower(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told: list[Settings] = []

    def process(_: Any, settings: Settings) -> Any:
        told.append(settings)
        raise Stopped

    monkeypatch.setattr("webui.process.EngineProcess", process)
    # It would hold for the process of the tests.
    monkeypatch.setattr("webui.process.heap.share_one_arena", lambda: None)
    for flag in ([], ["--max-level", "1"]):
        with pytest.raises(Stopped):
            main(["serve", "--port", "0", "--no-browser", "--outputs", str(tmp_path), *flag])
    assert [settings.max_level for settings in told] == [None, 1]


@pytest.mark.parametrize("hours", ["0", "-1", "169", "nan"])
def test_a_share_link_has_an_end(
    hours: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked = ["serve", "--port", "0", "--share", "--share-hours", hours, "--outputs", str(tmp_path)]
    assert main(asked) == StartError.exit_code
    assert "--share-hours" in capsys.readouterr().err
    assert serving.MOST_HOURS == 168
