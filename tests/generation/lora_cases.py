"""LoRA files written by hand for a tiny model, each with its delta computed naively beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from benchmarks.random_models import parts
from tests.benchmarks.conftest import TINY
from webui.library.hashes import HashBook
from webui.library.lora_facts import LoraPart
from webui.library.loras import LoraCard, LoraShelf

ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0"
LINEAR = f"{ATTENTION}.attn2.to_k"
CONV = "down_blocks.0.resnets.0.conv1"
NORM = f"{ATTENTION}.norm1"
TEXT = "encoder.layers.0.self_attn.q_proj"

Tensors = dict[str, torch.Tensor]


def tiny_model(dtype: torch.dtype = torch.float32) -> dict[LoraPart, torch.nn.Module]:
    """UNet and text encoder with random weights, the UNet's convolutions channels last."""
    untyped: Any = torch
    with untyped.random.fork_rng(devices=()):
        untyped.manual_seed(0)
        networks = parts(TINY)
    unet, text_encoder = networks["unet"], networks["text_encoder"]
    for network in (unet, text_encoder):
        network.to(dtype).eval().requires_grad_(False)
    unet.to(memory_format=torch.channels_last)
    return {"unet": unet, "text_encoder": text_encoder}


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape) * 131 + seed)
    return torch.randn(*shape, generator=generator) * 0.3


def put(folder: Path, tensors: Tensors, name: str = "ink", **metadata: str) -> LoraCard:
    """The LoRA as a file on a shelf."""
    (folder / "loras").mkdir(exist_ok=True)
    plain = {key: value.contiguous() for key, value in tensors.items()}
    (folder / "loras" / f"{name}.safetensors").write_bytes(save(plain, metadata or None))
    return shelf(folder).find(name)


def shelf(folder: Path) -> LoraShelf:
    return LoraShelf((folder / "loras",), HashBook(folder / "hashes.json"))


def put_peft(folder: Path, tensors: Tensors, config: Mapping[str, object]) -> LoraCard:
    where = folder / "loras" / "night"
    where.mkdir(parents=True, exist_ok=True)
    (where / "adapter_model.safetensors").write_bytes(save(tensors))
    (where / "adapter_config.json").write_text(json.dumps(config))
    return shelf(folder).find("night")


def mangled(path: str) -> str:
    return path.replace(".", "_")


@dataclass(frozen=True)
class Case:
    """A way to write one layer's LoRA.

    Attributes:
        make: The file's tensors from the layer's weight.
        delta: What they add to the weight at strength 1, by the definition of the kind.
    """

    path: str
    make: Callable[[], Tensors]
    delta: Callable[[torch.Tensor], torch.Tensor]
    part: LoraPart = "unet"
    metadata: dict[str, str] = field(default_factory=dict[str, str])
    config: Mapping[str, object] | None = None


def low(width: int, out: int, rank: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    return normal(rank, width), normal(out, rank, seed=1)


def named(down: str, up: str, **more: torch.Tensor) -> Callable[[], Tensors]:
    """A plain product for `LINEAR` (32 wide in, 16 out) under the given names."""

    def make() -> Tensors:
        a, b = low(32, 16)
        return {down: a, up: b} | more

    return make


def product(scale: float, width: int = 32, out: int = 16) -> Callable[[torch.Tensor], torch.Tensor]:
    def delta(weight: torch.Tensor) -> torch.Tensor:
        a, b = low(width, out)
        return (b @ a * scale).reshape(weight.shape)

    return delta


KOHYA = f"lora_unet_{mangled(LINEAR)}"
SGM = "lora_unet_input_blocks_1_1_transformer_blocks_0_attn2_to_k"
COMFY = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k"
COMFY_TEXT = f"text_encoders.clip_l.transformer.text_model.{TEXT}"
KOHYA_CONV = f"lora_unet_{mangled(CONV)}"
KOHYA_TEXT = f"lora_te_text_model_{mangled(TEXT)}"
TWO = torch.tensor(2.0)
PREFIX = "base_model.model."


def conv_lora() -> Tensors:
    return {
        f"{KOHYA_CONV}.lora_down.weight": normal(3, 16, 3, 3),
        f"{KOHYA_CONV}.lora_up.weight": normal(16, 3, 1, 1),
        f"{KOHYA_CONV}.alpha": TWO,
    }


def conv_delta(weight: torch.Tensor) -> torch.Tensor:
    up, down = normal(16, 3, 1, 1)[:, :, 0, 0], normal(3, 16, 3, 3)
    return torch.einsum("or,rikl->oikl", up, down) * 2 / 3


def tucker() -> Tensors:
    return {
        f"{KOHYA_CONV}.lora_down.weight": normal(3, 16, 1, 1),
        f"{KOHYA_CONV}.lora_mid.weight": normal(3, 3, 3, 3),
        f"{KOHYA_CONV}.lora_up.weight": normal(16, 3, 1, 1),
        f"{KOHYA_CONV}.alpha": TWO,
    }


def tucker_delta(weight: torch.Tensor) -> torch.Tensor:
    up, mid, down = normal(16, 3, 1, 1), normal(3, 3, 3, 3), normal(3, 16, 1, 1)
    whole = torch.zeros(16, 16, 3, 3)
    for m in range(3):
        for n in range(3):
            outer = torch.outer(up[:, m, 0, 0], down[n, :, 0, 0])
            whole += outer[:, :, None, None] * mid[m, n]
    return whole * 2 / 3


def loha(prefix: str = KOHYA, inner: int = 32) -> Tensors:
    return {
        f"{prefix}.hada_w1_a": normal(16, 2, seed=1),
        f"{prefix}.hada_w1_b": normal(2, inner, seed=2),
        f"{prefix}.hada_w2_a": normal(16, 2, seed=3),
        f"{prefix}.hada_w2_b": normal(2, inner, seed=4),
        f"{prefix}.alpha": torch.tensor(1.0),
    }


def loha_delta(weight: torch.Tensor) -> torch.Tensor:
    inner = weight[0].numel()
    first = normal(16, 2, seed=1) @ normal(2, inner, seed=2)
    second = normal(16, 2, seed=3) @ normal(2, inner, seed=4)
    return (first * second / 2).reshape(weight.shape)


def loha_tucker() -> Tensors:
    return {
        f"{KOHYA_CONV}.hada_w1_a": normal(2, 16, seed=1),
        f"{KOHYA_CONV}.hada_w1_b": normal(2, 16, seed=2),
        f"{KOHYA_CONV}.hada_w2_a": normal(2, 16, seed=3),
        f"{KOHYA_CONV}.hada_w2_b": normal(2, 16, seed=4),
        f"{KOHYA_CONV}.hada_t1": normal(2, 2, 3, 3, seed=5),
        f"{KOHYA_CONV}.hada_t2": normal(2, 2, 3, 3, seed=6),
        f"{KOHYA_CONV}.alpha": torch.tensor(2.0),
    }


def loha_tucker_delta(weight: torch.Tensor) -> torch.Tensor:
    whole: list[torch.Tensor] = []
    for n in (1, 2):
        a, b, t = normal(2, 16, seed=2 * n - 1), normal(2, 16, seed=2 * n), normal(2, 2, 3, 3)
        t = normal(2, 2, 3, 3, seed=4 + n)
        one = torch.zeros(16, 16, 3, 3)
        for i in range(2):
            for j in range(2):
                one += torch.outer(a[i], b[j])[:, :, None, None] * t[i, j]
        whole.append(one)
    return whole[0] * whole[1]


def lokr() -> Tensors:
    return {
        f"{KOHYA}.lokr_w1": normal(4, 4),
        f"{KOHYA}.lokr_w2_a": normal(4, 2),
        f"{KOHYA}.lokr_w2_b": normal(2, 8),
        f"{KOHYA}.alpha": torch.tensor(1.0),
    }


def lokr_delta(weight: torch.Tensor) -> torch.Tensor:
    return torch.kron(normal(4, 4), normal(4, 2) @ normal(2, 8)) / 2


def lokr_whole() -> Tensors:
    return {
        f"{KOHYA_CONV}.lokr_w1": normal(4, 4),
        f"{KOHYA_CONV}.lokr_w2": normal(4, 4, 3, 3),
        f"{KOHYA_CONV}.alpha": torch.tensor(7.0),
    }


def lokr_whole_delta(weight: torch.Tensor) -> torch.Tensor:
    whole = torch.zeros(weight.shape)
    for a in range(4):
        for b in range(4):
            whole[4 * a : 4 * a + 4, 4 * b : 4 * b + 4] = normal(4, 4)[a, b] * normal(4, 4, 3, 3)
    return whole


def lokr_tucker() -> Tensors:
    return {
        f"{KOHYA_CONV}.lokr_w1_a": normal(4, 2),
        f"{KOHYA_CONV}.lokr_w1_b": normal(2, 4),
        f"{KOHYA_CONV}.lokr_w2_a": normal(2, 4, seed=1),
        f"{KOHYA_CONV}.lokr_w2_b": normal(2, 4, seed=2),
        f"{KOHYA_CONV}.lokr_t2": normal(2, 2, 3, 3),
        f"{KOHYA_CONV}.alpha": torch.tensor(2.0),
    }


def lokr_tucker_delta(weight: torch.Tensor) -> torch.Tensor:
    a, b, t = normal(2, 4, seed=1), normal(2, 4, seed=2), normal(2, 2, 3, 3)
    second = torch.zeros(4, 4, 3, 3)
    for i in range(2):
        for j in range(2):
            second += torch.outer(a[i], b[j])[:, :, None, None] * t[i, j]
    first = normal(4, 2) @ normal(2, 4)
    whole = torch.zeros(weight.shape)
    for x in range(4):
        for y in range(4):
            whole[4 * x : 4 * x + 4, 4 * y : 4 * y + 4] = first[x, y] * second
    return whole


def dora_delta(
    weight: torch.Tensor, *, by_input: bool = False, scale: float = 2 / 3
) -> torch.Tensor:
    turned = weight + product(scale)(weight)
    lengths = turned.square().sum(0 if by_input else 1, keepdim=True).sqrt()
    magnitude = 1 + (normal(1, 32) if by_input else normal(16, 1)).abs()
    return turned * magnitude / lengths - weight


def kohya(module: str = KOHYA, **more: torch.Tensor) -> Callable[[], Tensors]:
    extra = {f"{module}.{name}": value for name, value in more.items()}
    return named(f"{module}.lora_down.weight", f"{module}.lora_up.weight", **extra)


def text_lora(down: str, up: str) -> Callable[[], Tensors]:
    return lambda: dict(zip((down, up), low(32, 32), strict=True))


PEFT_TEXT = f"{PREFIX}text_model.{TEXT}"
PEFT = f"{PREFIX}{LINEAR}"
CASES: dict[str, Case] = {
    "kohya": Case(LINEAR, kohya(alpha=TWO), product(2 / 3)),
    "kohya without alpha": Case(LINEAR, kohya(), product(1)),
    "kohya in SGM's names": Case(LINEAR, kohya(SGM, alpha=TWO), product(2 / 3)),
    "kohya, text encoder": Case(
        TEXT,
        text_lora(f"{KOHYA_TEXT}.lora_down.weight", f"{KOHYA_TEXT}.lora_up.weight"),
        product(1, 32, 32),
        "text_encoder",
    ),
    "ComfyUI": Case(LINEAR, kohya(COMFY, alpha=TWO), product(2 / 3)),
    "ComfyUI, convolution": Case(
        CONV,
        lambda: {"diffusion_model.input_blocks.1.0.in_layers.2.diff": normal(16, 16, 3, 3)},
        lambda weight: normal(16, 16, 3, 3),
    ),
    "ComfyUI, text encoder": Case(
        TEXT,
        text_lora(f"{COMFY_TEXT}.lora_down.weight", f"{COMFY_TEXT}.lora_up.weight"),
        product(1, 32, 32),
        "text_encoder",
    ),
    "SimpleTuner": Case(
        LINEAR,
        lambda: {
            f"lycoris_{mangled(LINEAR)}.{key.rpartition('.')[2]}": value
            for key, value in lokr().items()
        },
        lokr_delta,
    ),
    "diffusers": Case(
        LINEAR, named(f"unet.{LINEAR}.lora_A.weight", f"unet.{LINEAR}.lora_B.weight"), product(1)
    ),
    "diffusers with metadata": Case(
        LINEAR,
        named(f"unet.{LINEAR}.lora_A.weight", f"unet.{LINEAR}.lora_B.weight"),
        product(2),
        metadata={"lora_adapter_metadata": json.dumps({"unet.r": 3, "unet.lora_alpha": 6})},
    ),
    "diffusers, before peft": Case(
        LINEAR,
        named(f"unet.{LINEAR}.lora.down.weight", f"unet.{LINEAR}.lora.up.weight"),
        product(1),
    ),
    "diffusers, processors": Case(
        LINEAR,
        named(
            f"{ATTENTION}.attn2.processor.to_k_lora.down.weight",
            f"{ATTENTION}.attn2.processor.to_k_lora.up.weight",
        ),
        product(1),
    ),
    "diffusers, text encoder": Case(
        TEXT,
        text_lora(
            f"text_encoder.text_model.{TEXT}.lora_linear_layer.down.weight",
            f"text_encoder.text_model.{TEXT}.lora_linear_layer.up.weight",
        ),
        product(1, 32, 32),
        "text_encoder",
    ),
    "peft": Case(
        LINEAR,
        named(f"{PEFT}.lora_A.weight", f"{PEFT}.lora_B.weight"),
        product(4),
        config={"peft_type": "LORA", "r": 3, "lora_alpha": 12},
    ),
    "peft, alpha of its own": Case(
        LINEAR,
        named(f"{PEFT}.lora_A.weight", f"{PEFT}.lora_B.weight"),
        product(2),
        config={"r": 3, "lora_alpha": 12, "alpha_pattern": {"attn2.to_k": 6, "to_q": 1}},
    ),
    "peft, alpha by the first pattern that fits": Case(
        LINEAR,
        named(f"{PEFT}.lora_A.weight", f"{PEFT}.lora_B.weight"),
        product(2),
        config={
            "r": 3,
            "lora_alpha": 12,
            "alpha_pattern": {
                "attn2": 1,
                r"^down_blocks\.\d+\..*attn[23]\.to_(k|v)": 6,
                ".*to_k": 2,
            },
        },
    ),
    "peft, alpha by a pattern in the text encoder": Case(
        TEXT,
        text_lora(f"{PEFT_TEXT}.lora_A.weight", f"{PEFT_TEXT}.lora_B.weight"),
        product(4, 32, 32),
        "text_encoder",
        config={"r": 3, "lora_alpha": 6, "alpha_pattern": {"^text_model.*q_proj": 12}},
    ),
    "peft, rank by a pattern": Case(
        LINEAR,
        lambda: {f"{PEFT}.lokr_w1": normal(4, 4), f"{PEFT}.lokr_w2": normal(4, 8)},
        lambda weight: torch.kron(normal(4, 4), normal(4, 8)) * 3,
        config={"r": 8, "alpha": 6, "rank_pattern": {r"attn\d.to_[kv]": 2}},
    ),
    "peft, rank-stabilised": Case(
        LINEAR,
        named(f"{PEFT}.lora_A.weight", f"{PEFT}.lora_B.weight"),
        product(4 / 3**0.5),
        config={"r": 3, "lora_alpha": 4, "use_rslora": True},
    ),
    "peft, text encoder": Case(
        TEXT,
        text_lora(f"{PEFT_TEXT}.lora_A.weight", f"{PEFT_TEXT}.lora_B.weight"),
        product(2, 32, 32),
        "text_encoder",
        config={"r": 3, "lora_alpha": 6},
    ),
    "peft, DoRA": Case(
        LINEAR,
        named(
            f"{PEFT}.lora_A.weight",
            f"{PEFT}.lora_B.weight",
            **{f"{PEFT}.lora_magnitude_vector": 1 + normal(16, 1).abs().flatten()},
        ),
        lambda weight: dora_delta(weight, scale=2.0),
        config={"r": 3, "lora_alpha": 6, "use_dora": True},
    ),
    "LoCon": Case(CONV, conv_lora, conv_delta),
    "LoCon, Tucker": Case(CONV, tucker, tucker_delta),
    "LoHa": Case(LINEAR, loha, loha_delta),
    "LoHa, convolution": Case(CONV, lambda: loha(KOHYA_CONV, 144), loha_delta),
    "LoHa, Tucker": Case(CONV, loha_tucker, loha_tucker_delta),
    "LoKr": Case(LINEAR, lokr, lokr_delta),
    "LoKr, whole": Case(CONV, lokr_whole, lokr_whole_delta),
    "LoKr, Tucker": Case(CONV, lokr_tucker, lokr_tucker_delta),
    "DoRA": Case(LINEAR, kohya(alpha=TWO, dora_scale=1 + normal(16, 1).abs()), dora_delta),
    "DoRA by input": Case(
        LINEAR,
        kohya(alpha=TWO, dora_scale=1 + normal(1, 32).abs()),
        lambda weight: dora_delta(weight, by_input=True),
    ),
    "full": Case(LINEAR, lambda: {f"{KOHYA}.diff": normal(16, 32)}, lambda weight: normal(16, 32)),
    "full, norm": Case(
        NORM, lambda: {f"lora_unet_{mangled(NORM)}.w_norm": normal(16)}, lambda weight: normal(16)
    ),
}
