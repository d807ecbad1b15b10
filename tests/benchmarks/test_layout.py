from __future__ import annotations

import pytest

from benchmarks import layout
from benchmarks.workbench import Workbench
from webui.generation.devices import choose_device


def test_steps_and_decoding_are_compared_with_both_layouts(bench: Workbench):
    chosen, *compared = layout.run(bench)
    device = choose_device("cpu")
    assert chosen.value == f"{device.dtype_name}, {device.layout}"
    assert [figure.asked for figure in compared] == [
        layout.ASKED_STEP,
        layout.ASKED_DECODE,
        layout.ASKED_SAME,
        layout.ASKED_SAME,
    ]
    for figure in compared:
        # Two steps have one time between their ends.
        assert len(figure.samples["ours"]) == len(figure.samples["plain"]) == 1
        assert min(*figure.samples["ours"], *figure.samples["plain"]) > 0
    faster, slower = compared[1], compared[3]
    (ours,), (plain,) = faster.samples["ours"], faster.samples["plain"]
    assert faster.value == pytest.approx(plain / ours)
    (same,) = slower.samples["plain"]
    assert slower.value == pytest.approx((ours / same - 1) * 100)
