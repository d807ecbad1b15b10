"""What one architecture needs to be run through diffusers' text-to-image pipeline of it.

Every way of making a picture (from words alone, from a picture, under a mask, steered) goes through
that one pipeline; what differs between architectures is how text is encoded, which arguments carry
it, and how the loop's latents relate to those of the VAE.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch

from webui.generation.prompts import ParsedPrompt
from webui.generation.sampling import Sampling
from webui.library.lora_facts import LoraPart


class Encoding(NamedTuple):
    """A prompt as a model's text encoders give it.

    Attributes:
        tokens: Of shape (tokens, width).
        pooled: Of shape (width,), for models that take the prompt as a whole too.
    """

    tokens: torch.Tensor
    pooled: torch.Tensor | None = None


@dataclass(frozen=True)
class Conditioning:
    """What the denoising follows; no negative where guidance is off."""

    prompt: Encoding
    negative_prompt: Encoding | None


class Backbone(ABC):
    """One architecture. Stateless: `pipe` is always the loaded pipeline with its components.

    Latents are of shape (batch, channels, height, width) as its VAE gives them, scaled as its
    denoiser takes them, everywhere but inside the pipeline's loop.

    Attributes:
        denoiser: Name of the component that predicts the noise.
        encoders: Names of the text encoders, in order.
    """

    denoiser: ClassVar[LoraPart]
    encoders: ClassVar[tuple[LoraPart, ...]]

    @property
    def parts(self) -> tuple[LoraPart, ...]:
        """Components that a LoRA can change."""
        return (self.denoiser, *self.encoders)

    @abstractmethod
    def encode(self, pipe: Any, prompt: ParsedPrompt, clip_skip: int) -> Encoding:
        """The prompt's encoding, in the denoiser's number format and on its device.

        Raises:
            BadRequestError: `clip_skip` reaches past the first layer.
        """

    @abstractmethod
    def seen(self, pipe: Any, prompt: ParsedPrompt) -> str:
        """What the encoders really see of a prompt, as text."""

    def condition(
        self,
        pipe: Any,  # noqa: ARG002
        prompts: Sequence[ParsedPrompt],
        encode: Callable[[ParsedPrompt], Encoding],
    ) -> Conditioning:
        """The prompt and, where there is guidance, the negative prompt, fit for one batch.

        Args:
            encode: `Backbone.encode`, which remembers what it has encoded.
        """
        prompt, *negative = (encode(prompt) for prompt in prompts)
        return Conditioning(prompt, negative[0] if negative else None)

    @abstractmethod
    def arguments(
        self, pipe: Any, conditioning: Conditioning, sampling: Sampling, count: int
    ) -> dict[str, Any]:
        """The pipeline's arguments for text and guidance, for a batch of `count` pictures."""

    def spacing(
        self,
        pipe: Any,  # noqa: ARG002
        shape: tuple[int, int, int],  # noqa: ARG002
        steps: int,  # noqa: ARG002
    ) -> dict[str, Any]:
        """What the pipeline tells its scheduler's `set_timesteps` beside the number of steps.

        Args:
            shape: The latents' (`latents_shape`), which the noise levels of some models hang on.
        """
        return {}

    def latents_shape(self, pipe: Any, width: int, height: int) -> tuple[int, int, int]:
        """Channels, height and width of the latents of a picture of so many pixels."""
        scale = pipe.vae_scale_factor
        return pipe.vae.config.latent_channels, height // scale, width // scale

    def noise(self, shape: tuple[int, int, int], generator: torch.Generator) -> torch.Tensor:
        """Noise of deviation 1 for the latents of one picture, of that `latents_shape`."""
        return torch.randn(shape, generator=generator)

    def given(self, pipe: Any, latents: torch.Tensor) -> torch.Tensor:
        """Latents as the pipeline is given them to start from."""
        return self.packed(pipe, latents)

    def packed(self, pipe: Any, latents: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """Latents as the pipeline's loop holds them."""
        return latents

    def unpacked(
        self,
        pipe: Any,  # noqa: ARG002
        latents: torch.Tensor,
        shape: tuple[int, int, int],  # noqa: ARG002
    ) -> torch.Tensor:
        """The loop's latents as `Backbone` has them, of that `latents_shape`."""
        return latents

    def takes_channels(self, pipe: Any) -> bool:
        """Whether the denoiser was made for inpainting, and takes mask and picture beside."""
        latents, _, _ = self.latents_shape(pipe, 8, 8)
        return pipe.components[self.denoiser].config.in_channels == 2 * latents + 1

    def channels(
        self,
        pipe: Any,  # noqa: ARG002
        picture: torch.Tensor,
        mask: torch.Tensor,
        hidden: torch.Tensor,  # noqa: ARG002
    ) -> torch.Tensor:
        """What such a denoiser sees beside the latents, of their height and width.

        Args:
            picture: Latents of the picture with grey under the mask.
            mask: 1 = painted anew, of shape (1, 1, height, width) of the latents.
            hidden: The same of the pixels.
        """
        return torch.cat([mask, picture], dim=1)

    def widened(self, sample: torch.Tensor, channels: torch.Tensor) -> torch.Tensor:
        """What the denoiser is given in a call, with `channels` put behind."""
        more = channels.to(sample).expand(sample.shape[0], -1, -1, -1)
        return torch.cat([sample, more], dim=1)

    def from_latents(
        self, pipe: Any, latents: torch.Tensor, width: int, height: int
    ) -> dict[str, Any]:
        """The pipeline's arguments for what its loop starts from.

        Args:
            latents: Divided by the scheduler's `init_noise_sigma`, by which pipelines multiply.
            width, height: Pixels of the picture.
        """
        return {"latents": self.given(pipe, latents), "width": width, "height": height}

    def encode_picture(self, pipe: Any, planes: torch.Tensor) -> torch.Tensor:
        """The most likely latents of a picture of shape (1, 3, height, width) in -1..1.

        They are in the denoiser's number format, which need not be the VAE's.
        """
        vae = pipe.vae
        latents = vae.encode(planes.to(vae.dtype)).latent_dist.mode()
        latents = latents - (getattr(vae.config, "shift_factor", None) or 0)
        return self.fit(pipe, latents * vae.config.scaling_factor)

    def fit(self, pipe: Any, latents: torch.Tensor) -> torch.Tensor:
        """Latents in the denoiser's number format."""
        return latents.to(pipe.components[self.denoiser].dtype)

    def decode_latents(self, pipe: Any, latents: torch.Tensor) -> torch.Tensor:
        """The picture of shape (1, 3, height, width) in about -1..1, in float32."""
        vae = pipe.vae
        plain = latents.to(vae.dtype) / vae.config.scaling_factor
        shift = getattr(vae.config, "shift_factor", None) or 0
        return vae.decode(plain + shift, return_dict=False)[0].float()
