"""A level above strict on the real engine: reached with all that it takes, and lost at once.

The pictures are of a house; the classifiers are tiny, made to answer that all is well.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch as files
import torch

from tests.guards import use_guard
from tests.safety.models import save_vit
from tests.test_engine import Scripted, saved, silent
from webui.clearance import NO_TEXTS, Admitted, Texts
from webui.cli.building import build_engine
from webui.engine import Engine
from webui.events import Event, Failed, Notice
from webui.generator import Cancel, Session
from webui.levels import Level
from webui.provenance.certificate import trust_in
from webui.provenance.verify import verify_file
from webui.request import GenerationRequest
from webui.safety.audit import FOLDER, verify_log
from webui.safety.ceilings import notice
from webui.safety.grants import EPOCH_FILE, Epoch
from webui.safety.guard import Guard
from webui.safety.operator import FILE
from webui.safety.slots import WEIGHTS, folder_hash
from webui.settings import ROOT, Settings
from webui.standing import Declare, GiveUp, Look, SendLink, Standing

REQUEST = GenerationRequest(prompt="a house on a meadow by day", seed=3, steps=4)
PAGE = "http://127.0.0.1:7860"


def put_calm_guard(folder: Path, labels: tuple[str, str]) -> None:
    """A classifier that is all but sure of the first label, whatever it is shown."""
    save_vit(folder, labels)
    reading: Any = files
    weights = reading.load_file(folder / WEIGHTS)
    weights["classifier.weight"] *= 0.3
    weights["classifier.bias"] = torch.tensor([3.0, -3.0])
    reading.save_file(weights, folder / WEIGHTS, {"format": "pt"})


@dataclass(frozen=True)
class House:
    """An engine at whose gate level 1 can be reached."""

    engine: Engine
    state: Path
    printed: list[str]

    def standing(self, session: Session) -> Standing:
        answer = self.engine.answer(Look(), session)
        assert isinstance(answer, Standing)
        return answer

    def grant(self, session: Session) -> None:
        """Makes the owner's statement."""
        self.engine.answer(SendLink(address=PAGE), session)
        token = self.printed[-1].partition("#owner=")[2].strip()
        self.engine.answer(Declare(token=token), session)

    def run(self, session: Session, request: GenerationRequest = REQUEST) -> list[Event]:
        return list(self.engine.generate(request, session, Cancel()))

    def log(self) -> list[dict[str, object]]:
        """All lines of the audit log."""
        files = sorted((self.state / FOLDER).glob("*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    models, state = folder / "models", folder / "state"
    shutil.copytree(ROOT / "models" / "postcard", models / "postcard")
    put_calm_guard(models / "guards" / "nsfw", ("normal", "nsfw"))
    put_calm_guard(models / "guards" / "face-age", ("30-39", "20-29"))
    pins = {
        "nsfw": folder_hash("nsfw", models / "guards" / "nsfw"),
        "face-age": folder_hash("face age", models / "guards" / "face-age"),
    }
    state.mkdir()
    policy = state / FILE
    lines = ["max_level = 2", "[guards]", *(f'{slot} = "{pin}"' for slot, pin in pins.items())]
    policy.write_text("\n".join(lines))
    policy.chmod(0o600)
    printed: list[str] = []

    def note(line: str, *, flush: bool) -> None:
        printed.append(line)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("webui.cli.building.print", note, raising=False)
        settings = Settings(models=models, outputs=folder / "outputs", state=state)
        engine = build_engine(settings, silent)
        yield House(engine, state, printed)
        engine.close()


def asking(level: Level, name: str = "owner") -> Session:
    return Session(id=name, previews=False, level=level)


def notices(events: list[Event]) -> list[str]:
    return [event.message for event in events if isinstance(event, Notice)]


def effective(house: House) -> list[object]:
    return [line["effective"] for line in house.log() if line["event"] == "dequeued"]


def test_the_real_guard_with_classifiers_lets_a_house_through_at_level_1(house: House) -> None:
    session = asking(1, "first")
    before = house.standing(session)
    assert before.level == 0
    assert before.levels[1].held_by == ("grant",)
    assert set(before.levels[2].held_by) == {"grant", "guards"}
    assert set(before.levels[2].missing) == {"explicit", "text"}
    assert notice("grant") in notices(house.run(session))
    assert effective(house)[-1] == 0

    house.grant(session)
    after = house.standing(session)
    assert (after.level, after.grant and after.grant.method) == (1, "owner")
    events = house.run(session)
    assert notices(events) == []
    assert effective(house)[-1] == 1
    (picture,) = saved(events)
    found = verify_file(Path(picture.path), trust_in(house.state))
    assert found.verdict == "whole"
    assert found.credentials.lineage is not None
    assert found.credentials.lineage["tainted"] is False
    released = [line for line in house.log() if line["event"] == "released"]
    assert released[-1]["files"] == [picture.sha256]
    assert verify_log(house.state / FOLDER).is_whole


def test_a_grant_is_one_sessions_alone_and_a_level_not_asked_for_is_not_used(house: House) -> None:
    owner, other = asking(1, "mine"), asking(1, "other")
    house.grant(owner)
    house.run(other)
    assert effective(house)[-1] == 0
    house.run(asking(0, "mine"))
    assert effective(house)[-1] == 0
    assert notice("guards") in notices(house.run(asking(2, "mine")))
    assert effective(house)[-1] == 1
    house.engine.answer(GiveUp(), owner)
    house.run(owner)
    assert effective(house)[-1] == 0


def test_a_grant_revoked_during_a_job_counts_for_its_next_picture(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = asking(1, "revoked")
    house.grant(session)
    levels: list[Level] = []
    screen = Guard.screen

    def noting(self: Guard, data: bytes, level: Level, *rest: object) -> object:
        levels.append(level)
        if len(levels) == 1:
            # As `policy revoke` does from another process.
            Epoch(house.state / EPOCH_FILE).end()
        return screen(self, data, level, *rest)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(Guard, "screen", noting)
    house.run(session, REQUEST.model_copy(update={"count": 3}))
    assert levels[0] == 1
    assert len(levels) >= 3
    assert set(levels[1:]) == {0}
    assert house.standing(session).grant is None


def test_without_its_log_nothing_is_above_strict(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = asking(1, "unlogged")
    house.grant(session)
    use_guard(house.engine, monkeypatch, AtLevel(1))
    log = house.state / FOLDER
    log.rename(log.with_name("away"))
    log.write_text("a file in the folder's place")
    try:
        (end,) = house.run(session)[-1:]
        assert isinstance(end, Failed)
        assert "cannot be written" in end.message
        monkeypatch.undo()
        events = house.run(session)
        assert len(saved(events)) == 1, "the strict level goes on"
        assert notice("guards") in notices(events)
    finally:
        log.unlink()
        log.with_name("away").rename(log)


class AtLevel(Scripted):
    """A guard that admits at a level, as the gate had it before its log failed."""

    def __init__(self, level: Level) -> None:
        super().__init__()
        self._level = level

    def admit(
        self,
        request: GenerationRequest,
        session: Session,
        *,
        tainted: bool = False,
        texts: Texts = NO_TEXTS,
    ) -> Admitted:
        return replace(
            super().admit(request, session, tainted=tainted, texts=texts), level=self._level
        )
