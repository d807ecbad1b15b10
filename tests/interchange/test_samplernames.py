from __future__ import annotations

import pytest

from webui.interchange.samplernames import (
    SAMPLERS_RENAMED,
    SCHEDULE_TYPES,
    read_sampler,
    read_schedule,
)
from webui.request import SAMPLERS, SCHEDULES, SamplerName, ScheduleName


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_what_is_written_is_read(sampler: SamplerName, schedule: ScheduleName) -> None:
    theirs = SAMPLERS_RENAMED.get(sampler, sampler)
    assert read_sampler(theirs) == (sampler, None)
    assert read_schedule(SCHEDULE_TYPES[schedule]) == schedule
    assert read_sampler(f"{theirs} {SCHEDULE_TYPES[schedule]}") == (sampler, schedule)


@pytest.mark.parametrize(
    ("name", "sampler", "schedule"),
    [
        ("DPM++ 2M Karras", "DPM++ 2M", "karras"),
        ("DPM++ 2M SDE Exponential", "DPM++ 2M SDE", "exponential"),
        ("DPM2 a Karras", "DPM2 a", "karras"),
        ("PLMS", "PNDM", None),
        ("euler A", "Euler a", None),
        ("k_euler_a", "Euler a", None),
        ("euler_ancestral", "Euler a", None),
        ("k_dpm_2_ancestral", "DPM2 a", None),
        ("dpmpp_2m_sde_gpu", "DPM++ 2M SDE", None),
        ("dpmpp_2m_karras", "DPM++ 2M", "karras"),
        ("uni_pc", "UniPC", None),
        ("DPM++ 2M SGMUniform", "DPM++ 2M", "sgm uniform"),
        ("DPM++ 2S a Karras", None, "karras"),
        ("DPM++ 3M SDE Exponential", None, "exponential"),
        ("DPM++ 2M SDE Heun", None, None),
        ("Restart", None, None),
        ("DPM adaptive", None, None),
        ("", None, None),
        ("karras", None, None),
        ("k" * 1_000_000, None, None),
    ],
)
def test_other_spellings(name: str, sampler: str | None, schedule: str | None) -> None:
    assert read_sampler(name) == (sampler, schedule)


@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        ("Karras", "karras"),
        ("Uniform", "normal"),
        ("sgm_uniform", "sgm uniform"),
        ("Simple", None),
        ("Align Your Steps", None),
        ("Automatic", None),
    ],
)
def test_schedule_types(name: str, schedule: str | None) -> None:
    assert read_schedule(name) == schedule
