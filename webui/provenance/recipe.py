"""Everything that is needed to make a picture again, as its file keeps it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from webui.request import GenerationRequest

KEY = "easel"
"""Our own key of the PNG text; the value is one JSON object."""

SCHEMA = 1


@dataclass(frozen=True)
class UsedLora:
    """A LoRA that had a part in a picture.

    Attributes:
        name: As the request calls it.
        sha256: Hex digest of its file.
        auto_v3: First 12 digits of the digest of its tensors, by which other tools know it.
    """

    name: str
    sha256: str
    auto_v3: str


@dataclass(frozen=True)
class UsedEmbedding:
    """A textual-inversion embedding that a picture's prompts name.

    Attributes:
        name: As the shelf calls it.
        sha256: Hex digest of its file.
    """

    name: str
    sha256: str

    @property
    def auto_v2(self) -> str:
        """First 10 digits, by which other tools know it."""
        return self.sha256[:10]


@dataclass(frozen=True)
class UsedPart:
    """A network that a model's single file lacks.

    Attributes:
        part: What diffusers calls it, such as "text_encoder_2".
        file: Name of the file or folder that it was taken from.
    """

    part: str
    file: str


@dataclass(frozen=True)
class Recipe:
    """Everything needed to make one picture again.

    Attributes:
        request: The request that makes this picture alone; size and seed are filled in.
        model_sha256: Hex digest of the model's weights.
        loras: The LoRAs that were merged into them.
        embeddings: The embeddings that stood in the prompts.
        refiner_sha256: The same of the model that made the last steps, if there was one.
        vae_sha256: The same of the VAE that was used in place of the model's own, if one was.
        parts: The networks that the model's file lacks, and that were taken from elsewhere.
        versions: Package name to version, ours among them as "easel".
        device: As torch spells it.
        dtype: Number format of the weights.
        layout: Memory layout of the convolutions.
        attention: Name of the attention processor, which picks the kernel.
        memory: How the model lay in memory: 8-bit weights and tiles change pictures a little.
        tainted: Whether anything from outside had a part in it; see `webui.safety.taint`.
    """

    request: GenerationRequest
    model_sha256: str
    versions: dict[str, str]
    device: str
    dtype: str
    layout: str
    attention: str
    tainted: bool
    loras: tuple[UsedLora, ...] = ()
    refiner_sha256: str | None = None
    memory: str = "resident"
    vae_sha256: str | None = None
    embeddings: tuple[UsedEmbedding, ...] = ()
    parts: tuple[UsedPart, ...] = ()

    def to_json(self) -> str:
        """One JSON object: schema, request, tainted, each model, its parts, loras, embeddings,
        versions, engine.
        """
        return json.dumps(
            {
                "schema": SCHEMA,
                "request": self.request.model_dump(mode="json"),
                "tainted": self.tainted,
                "model": {"name": self.request.model, "sha256": self.model_sha256},
                "refiner": None
                if self.refiner_sha256 is None
                else {"name": self.request.refiner, "sha256": self.refiner_sha256},
                "vae": None
                if self.vae_sha256 is None
                else {"name": self.request.vae, "sha256": self.vae_sha256},
                "parts": [asdict(part) for part in self.parts],
                "loras": [{"name": lora.name, "sha256": lora.sha256} for lora in self.loras],
                "embeddings": [
                    {"name": one.name, "sha256": one.sha256, "auto_v2": one.auto_v2}
                    for one in self.embeddings
                ],
                "versions": self.versions,
                "engine": {
                    "device": self.device,
                    "dtype": self.dtype,
                    "layout": self.layout,
                    "attention": self.attention,
                    "memory": self.memory,
                },
            },
            ensure_ascii=False,
        )
