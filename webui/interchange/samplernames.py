"""Samplers and schedules as A1111 and its kin spell them, to and from our own names.

Only what is the same method is taken for ours: DPM++ 2S a, DPM++ 3M SDE, Restart and others have no
counterpart here, and a sampler that merely looks alike would make another picture.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from webui.request import SAMPLERS, SCHEDULES, SamplerName, ScheduleName

SCHEDULE_TYPES: Mapping[ScheduleName, str] = MappingProxyType(
    {
        "normal": "Normal",
        "karras": "Karras",
        "exponential": "Exponential",
        "beta": "Beta",
        "sgm uniform": "SGM Uniform",
    }
)
"""Our schedules in A1111's spelling."""

SAMPLERS_RENAMED: Mapping[SamplerName, str] = MappingProxyType({"PNDM": "PLMS"})
"""Samplers that A1111 calls otherwise; all others have the same name or none there."""

_SAMPLERS: Mapping[str, SamplerName] = MappingProxyType(
    {
        **{name.casefold(): name for name in SAMPLERS},
        **{theirs.casefold(): ours for ours, theirs in SAMPLERS_RENAMED.items()},
    }
)

_SCHEDULES: Mapping[str, ScheduleName] = MappingProxyType(
    {
        **{name: name for name in SCHEDULES},
        # Uniform is k-diffusion's spacing over the timesteps, which Normal repeats.
        "uniform": "normal",
        "sgmuniform": "sgm uniform",
    }
)

_RESPELT = (
    (re.compile(r"[_\s]+"), " "),
    (re.compile(r"^k (?=\S)"), ""),
    (re.compile(r" ancestral\b"), " a"),
    (re.compile(r"\bdpmpp\b"), "dpm++"),
    (re.compile(r"\bdpm 2\b"), "dpm2"),
    (re.compile(r"\buni pc\b"), "unipc"),
    (re.compile(r" gpu$"), ""),
)
"""k-diffusion's and ComfyUI's identifiers into the words of the page's names."""

_LONGEST = 60
"""Characters; no sampler's name comes near it."""


def read_sampler(name: str) -> tuple[SamplerName | None, ScheduleName | None]:
    """Our sampler for a name such as "DPM++ 2M Karras" or "k_euler_a"; and the schedule in it.

    Either is `None` where it is not named or there is none like it here.
    """
    folded = _folded(name)
    if folded in _SAMPLERS:
        return _SAMPLERS[folded], None
    for ending, schedule in _SCHEDULES.items():
        if folded.endswith(f" {ending}"):
            return _SAMPLERS.get(folded.removesuffix(f" {ending}")), schedule
    return None, None


def read_schedule(name: str) -> ScheduleName | None:
    """Our schedule for a "Schedule type", or `None` where there is none like it."""
    return _SCHEDULES.get(_folded(name))


def _folded(name: str) -> str:
    folded = name[:_LONGEST].strip().casefold()
    for pattern, spelling in _RESPELT:
        folded = pattern.sub(spelling, folded)
    return folded
