"""What each rung of the choice "Speed" leaves out, and which calls of the denoiser that concerns.

Pure arithmetic on noise levels. A level is the deviation of the noise relative to the signal; how
far two levels are apart is told as an angle, since a sample of constant variance is turned from
noise (a quarter turn) to picture (0), and what a network predicts changes with that turn.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import atan, inf
from types import MappingProxyType
from typing import NamedTuple

from webui.request import SpeedName
from webui.settings import PlanName


class Gain(NamedTuple):
    """What a rung does to the embedded model's pictures (`python -m webui bench speed`).

    Attributes:
        times: How many times as fast the denoising is.
        likeness: PSNR against the pictures made in full, in dB; the median.
    """

    times: float
    likeness: float


@dataclass(frozen=True)
class Rung:
    """What a choice has the denoiser do.

    Attributes:
        compiled: Whether its repeated blocks go through torch's compiler.
        guided_from, guided_to: Noise levels between which it is guided, where guidance is on;
            elsewhere the negative prompt is not run (Kynkäänniemi et al., arXiv 2404.07724). No
            rung stops it at the highest levels: pictures are composed otherwise without it.
        reach: Radians within which what its deep blocks answered is used again (DeepCache, Ma et
            al., arXiv 2312.00858; for transformers, as first block caching does it).
        reused_to: Noise level up to which it is; above, the composition is still settling.
    """

    compiled: bool = False
    guided_from: float = 0.0
    guided_to: float = inf
    reach: float = 0.0
    reused_to: float = inf

    @property
    def guides_always(self) -> bool:
        """Whether every call is guided where guidance is on."""
        return self.guided_from == 0 and self.guided_to == inf

    @property
    def leaves_out(self) -> bool:
        """Whether some calls are not run whole."""
        return self.reach > 0 or not self.guides_always


RUNGS: Mapping[SpeedName, Rung] = MappingProxyType(
    {
        "full": Rung(),
        "compiled": Rung(compiled=True),
        "quick": Rung(guided_from=1.0, reach=0.3, reused_to=3.0),
        "quickest": Rung(guided_from=5.0, reach=0.4, reused_to=10.0),
    }
)

GAINS: Mapping[SpeedName, Gain] = MappingProxyType(
    {
        "compiled": Gain(0.9, 49.0),
        "quick": Gain(1.5, 33.0),
        "quickest": Gain(2.2, 28.0),
    }
)
"""Of every rung but "full", which is what the others are measured against."""


class Call(NamedTuple):
    """One call of the denoiser.

    Attributes:
        guided: Whether the negative prompt is run too.
        reused: Whether the deep blocks answer as they did in the call before.
    """

    guided: bool
    reused: bool


def plan_calls(
    rung: Rung, levels: Sequence[float], state: Callable[[int], Hashable], *, guided: bool
) -> tuple[Call, ...]:
    """What is run in each call of the denoiser.

    Args:
        levels: Noise level of each call.
        state: What else the deep blocks' answer hangs on in a call (prompts, LoRAs, ControlNets):
            it is used again only while that is the same.
        guided: Whether guidance is on.
    """
    calls: list[Call] = []
    computed: tuple[float, Hashable] | None = None
    for number, level in enumerate(levels):
        is_guided = guided and rung.guided_from < level <= rung.guided_to
        kind = (is_guided, state(number))
        reused = (
            computed is not None
            and computed[1] == kind
            and level <= rung.reused_to
            and abs(atan(level) - computed[0]) < rung.reach
        )
        if not reused:
            computed = (atan(level), kind)
        calls.append(Call(is_guided, reused))
    return tuple(calls)


def fitting(
    rung: Rung, laid_out: Sequence[PlanName], trouble: str | None = None
) -> tuple[Rung, str | None]:
    """What of a rung can be done with models that are laid out in memory so.

    Args:
        trouble: Why their blocks cannot be compiled, where that is known.

    Returns:
        The rung without what cannot be done, and a sentence about that, if there is any.
    """
    if rung.compiled and trouble is not None:
        return replace(rung, compiled=False), CANNOT_COMPILE.format(reason=trouble)
    if rung.compiled and not {"resident", "turns", "drop"}.issuperset(laid_out):
        return replace(rung, compiled=False), _NOT_COMPILED
    if rung.reach and "stream" in laid_out:
        # What is brought in next is brought in by the block before, which may not be run.
        return replace(rung, reach=0.0), _NOT_REUSED
    return rung, None


def name_of(rung: Rung, asked: SpeedName) -> SpeedName:
    """The choice that does just this anywhere; what was asked for where there is none."""
    for name, one in RUNGS.items():
        if one == rung:
            return name
    return asked


_NOT_COMPILED = (
    "Speed: the model's blocks are not compiled, since its weights are brought in, or widened,"
    " while it runs; the picture is made at full."
)
_NOT_REUSED = (
    "Speed: no blocks are left out, since the model's weights are brought in group by group while"
    " it runs; only guidance is."
)
NOTHING_SPARED = (
    "Speed: with so few steps there was nothing to leave out; the picture is made in full."
)
COMPILING = (
    "Speed: the model's blocks are compiled during the first step, which may take a minute or more;"
    " pictures after it do not wait."
)
CANNOT_COMPILE = (
    "Speed: the model's blocks cannot be compiled here, so they are run as they are: {reason}"
)


def spares(calls: Sequence[Call], *, guided: bool) -> bool:
    """Whether anything is left out in any of the calls."""
    return any(call.reused or (guided and not call.guided) for call in calls)
