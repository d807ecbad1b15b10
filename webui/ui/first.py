"""What a machine with nothing but the built-in model is offered, when somebody looks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from webui.library.catalogue import Card
from webui.library.defaults import Default, fitting
from webui.library.outward import Outward
from webui.library.sources import HUB


class FirstModels:
    """Offers models as long as there are none but the built-in one.

    Args:
        cards: All there is on the shelves.
        built_in: Name of the model that comes with Easel.
        memory: Bytes of the graphics card's memory; `None` where there is no card.
    """

    def __init__(
        self,
        cards: Callable[[], Sequence[Card]],
        built_in: str,
        memory: Callable[[], int | None],
        outward: Outward,
        hub: str = HUB,
    ) -> None:
        self._cards = cards
        self._built_in = built_in
        self._memory = memory
        self._outward = outward
        self._hub = hub
        self._lock = threading.Lock()
        self._known: tuple[int | None] | None = None

    def offered(self) -> tuple[Default, ...]:
        """What would run well here, the best last; nothing without a graphics card."""
        if any(card.kind == "model" and card.name != self._built_in for card in self._cards()):
            return ()
        return fitting(self._memory_once())

    def within_reach(self) -> bool:
        """Whether it could be fetched now: looks for the network."""
        return self._outward.reaches(self._hub)

    def _memory_once(self) -> int | None:
        with self._lock:
            if self._known is None:
                self._known = (self._memory(),)
            return self._known[0]
