"""What every family has to show, shown by each."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.families.benches import CHECKS, ROWS, RowsBench, bench_of
from webui.generation.families import FAMILIES

NAMES = tuple(check.__name__ for check in CHECKS)


@pytest.fixture(scope="module")
def bench(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RowsBench]:
    with bench_of(ROWS[request.param], tmp_path_factory.mktemp("family")) as made:
        yield made


@pytest.mark.parametrize("check", CHECKS, ids=NAMES)
@pytest.mark.parametrize("bench", ROWS, indirect=True)
def test_it_does_what_every_family_does(
    bench: RowsBench, check: Callable[[RowsBench], None]
) -> None:
    reason = bench.row.left_out.get(check.__name__)
    if reason is not None:
        pytest.skip(reason)
    check(bench)


def test_each_family_has_a_bench_and_what_it_leaves_out_has_a_reason() -> None:
    benched = [row.family.name for row in ROWS.values()]
    assert [family.name for family in FAMILIES if family.name not in benched] == []
    for name, row in ROWS.items():
        assert set(row.left_out) <= set(NAMES), name
        assert all(reason.endswith(".") for reason in row.left_out.values()), name
        steered = "check_control" not in row.left_out
        assert steered == (row.net is not None), name
        if "controls" in row.family.unused:
            assert not steered, name
