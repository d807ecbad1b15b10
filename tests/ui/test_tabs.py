from __future__ import annotations

from webui.events import Finished
from webui.generator import Session
from webui.jobs import Job
from webui.request import GenerationRequest
from webui.ui.tabs import Tabs


def job(session: str = "me") -> Job:
    return Job(GenerationRequest(), Session(id=session), lambda _: None)


def test_a_tab_finds_its_own_unfinished_job_and_no_other_tab_does() -> None:
    tabs, mine = Tabs(lambda _: None), job()
    tabs.asked("left", mine)
    assert tabs.own("me", "left") is mine
    assert tabs.own("me", "right") is None
    assert tabs.own("somebody else", "left") is None
    mine.add(Finished(saved=0, withheld=0, seconds=0))
    assert tabs.own("me", "left") is None


def test_a_job_that_nobody_watches_can_be_taken_over() -> None:
    mine = job()
    tabs = Tabs(lambda session: mine if session == "me" else None)
    with tabs.watching(mine), tabs.watching(mine):
        assert tabs.orphan("me") == (mine, False)
    assert tabs.orphan("me") == (mine, True)
    assert tabs.orphan("somebody else") == (None, False)


def test_one_of_two_watchers_leaving_is_not_enough() -> None:
    mine = job()
    tabs = Tabs(lambda _: mine)
    with tabs.watching(mine):
        with tabs.watching(mine):
            pass
        assert tabs.orphan("me") == (mine, False)
