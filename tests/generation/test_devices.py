from __future__ import annotations

import pytest
import torch

from webui.errors import StartError
from webui.generation.devices import choose_device, has_bf16_units


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"amx_bf16": True}, True),
        ({"avx512_bf16": True}, True),
        ({"bf16": True}, True),
        ({"avx512_bf16": False, "avx2": True}, False),
        ({}, False),
    ],
)
def test_bf16_units_are_recognised(capabilities: dict[str, object], expected: bool):
    assert has_bf16_units(capabilities) is expected


def test_the_cpu_takes_the_format_it_has_units_for():
    device = choose_device("cpu")
    units = has_bf16_units(torch.cpu.get_capabilities())
    assert device.dtype is (torch.bfloat16 if units else torch.float32)
    assert device.layout == "channels_last"


def test_an_asked_format_wins():
    device = choose_device("cpu", "float32")
    assert device.dtype is torch.float32
    assert device.dtype_name == "float32"
    assert device.reason == "as asked"


def test_a_device_that_is_not_here_is_one_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(StartError, match="There is no cuda device here"):
        choose_device("cuda")
