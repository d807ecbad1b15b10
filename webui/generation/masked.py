"""Where a picture is painted anew, as ControlNets are shown it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from webui.generation.canvas import Canvas


@dataclass(frozen=True)
class Masked:
    """A picture of which a part is painted anew.

    Attributes:
        picture: In -1..1, of shape (1, 3, height, width) of what the model works on.
        mask: Where it is painted anew, of shape (1, 1, height, width).
    """

    picture: torch.Tensor
    mask: torch.Tensor

    @staticmethod
    def on(canvas: Canvas | None) -> Masked | None:
        """That of a canvas; None where all of it, or nothing that was there, is painted anew."""
        if canvas is None or canvas.mask is None:
            return None
        pixels = torch.as_tensor(canvas.worked(canvas.picture)).permute(2, 0, 1)[None]
        mask = torch.as_tensor(canvas.worked_mask() >= 0.5)[None, None]
        return Masked(pixels.float() / 127.5 - 1, mask)

    @property
    def emptied(self) -> torch.Tensor:
        """The picture, grey where it is painted anew."""
        return self.picture * ~self.mask

    def kept(self, latents: torch.Tensor) -> torch.Tensor:
        """1 for latents that have nothing to do with what is painted anew, else 0, of shape
        (1, 1, height, width) of `latents`."""
        side = self.mask.shape[-1] // latents.shape[-1]
        return 1 - torch.nn.functional.max_pool2d(self.mask.to(latents), side)
