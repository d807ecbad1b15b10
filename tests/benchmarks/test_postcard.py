from __future__ import annotations

from benchmarks import postcard
from benchmarks.workbench import Workbench


def test_a_warm_picture_is_timed_to_its_pixels_and_to_its_file(bench: Workbench):
    figures = {figure.what.partition(": ")[2]: figure for figure in postcard.run(bench)}
    decoded, saved = figures["request to decoded picture"], figures["request to saved file"]
    assert decoded.asked == postcard.ASKED_DECODED
    assert saved.asked == postcard.ASKED_SAVED
    assert decoded.samples["ours"][0] < saved.samples["ours"][0]
    share = figures["the preview's linear map, share of a step"]
    assert share.asked == postcard.ASKED_MAP
    assert isinstance(share.value, float)
    assert share.value > 0
    assert len(share.samples["map"]) == postcard.MAPS
    assert figures["previews with their check, share of the denoising"].unit == "%"
