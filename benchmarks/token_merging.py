"""Token merging for Stable Diffusion (Bolya and Hoffman, arXiv 2303.17604), to be measured.

It is none of the rungs of "Speed": what it gains (`benchmarks.speed`) is little beside what
it costs in likeness.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from diffusers.models.attention import BasicTransformerBlock


@contextmanager
def merged_tokens(unet: Any, share: float) -> Generator[None]:
    """Lets the UNet's widest self-attention layers see that share of their tokens merged.

    Args:
        share: Of all tokens, at most 0.75: one of every four stays as it is.
    """
    widest = _Widest(share)
    with ExitStack() as stack:
        for module in unet.modules():
            if isinstance(module, BasicTransformerBlock) and module.attn1 is not None:
                attention: Any = module.attn1
                attention.forward = widest.around(attention.forward)
                stack.callback(delattr, attention, "forward")
        yield


class _Widest:
    """Knows the largest number of tokens that any layer has had."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._tokens = 0

    def around(self, forward: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def merged(hidden_states: torch.Tensor, **others: Any) -> torch.Tensor:
            tokens = hidden_states.shape[1]
            self._tokens = max(self._tokens, tokens)
            side = int(tokens**0.5)
            if tokens < self._tokens or side * side != tokens or side % 2:
                return forward(hidden_states, **others)
            join, part = matching(hidden_states, side, int(tokens * self._share))
            return part(forward(join(hidden_states), **others))

        return merged


Change = Callable[[torch.Tensor], torch.Tensor]


def matching(metric: torch.Tensor, side: int, merged: int) -> tuple[Change, Change]:
    """What joins the tokens that are most alike, and what gives each of them the answer.

    Of every square of four tokens the first is what others are joined to.

    Args:
        metric: Of shape (batch, side * side, channels); what is alike is told by its angle.
        merged: How many are joined to another.
    """
    places = torch.arange(side * side, device=metric.device).view(side, side)
    targets = places[::2, ::2].flatten()
    is_source = torch.ones(side * side, dtype=torch.bool, device=metric.device)
    is_source[targets] = False
    sources = places.flatten()[is_source]
    unit = torch.nn.functional.normalize(metric, dim=-1)
    best, nearest = (unit[:, sources] @ unit[:, targets].transpose(1, 2)).max(-1)
    order = best.argsort(dim=-1, descending=True)
    gone, stay = order[:, :merged], order[:, merged:]
    to = nearest.gather(1, gone)

    def wide(index: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        return index[..., None].expand(-1, -1, like.shape[-1])

    def join(tokens: torch.Tensor) -> torch.Tensor:
        first, others = tokens[:, targets], tokens[:, sources]
        kept = others.gather(1, wide(stay, tokens))
        joined = others.gather(1, wide(gone, tokens))
        mean = first.scatter_reduce(1, wide(to, tokens), joined, "mean")
        return torch.cat([kept, mean], dim=1)

    def part(answer: torch.Tensor) -> torch.Tensor:
        kept, mean = answer.split([stay.shape[1], len(targets)], dim=1)
        others = torch.empty(
            len(answer), len(sources), answer.shape[-1], dtype=answer.dtype, device=answer.device
        )
        others.scatter_(1, wide(stay, answer), kept)
        others.scatter_(1, wide(gone, answer), mean.gather(1, wide(to, answer)))
        whole = torch.empty(
            len(answer), side * side, answer.shape[-1], dtype=answer.dtype, device=answer.device
        )
        whole[:, targets], whole[:, sources] = mean, others
        return whole

    return join, part
