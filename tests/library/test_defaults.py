from __future__ import annotations

from webui.library.defaults import DEFAULTS, fitting
from webui.library.sources import HubSource, source_of
from webui.settings import GIB


def test_without_a_card_nothing_is_offered() -> None:
    assert fitting(None) == ()
    assert fitting(GIB) == ()


def test_what_fits_is_offered_the_best_last() -> None:
    assert [one.rank for one in fitting(4 * GIB)] == ["small"]
    # What is sold as 6 GB.
    assert [one.rank for one in fitting(int(5.8 * GIB))] == ["small", "standard"]
    assert [one.rank for one in fitting(24 * GIB)] == ["small", "standard", "large"]


def test_every_default_names_one_thing_of_a_repository() -> None:
    for one in DEFAULTS:
        source = source_of(one.source)
        assert isinstance(source, HubSource)
        assert source.file
        assert one.licence
    sizes = [one.size for one in DEFAULTS]
    assert sizes == sorted(sizes)
