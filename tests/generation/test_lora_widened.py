"""LoRAs on weights that are packed or in fp8: on what they are widened to, as it is computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.hooks.group_offloading import apply_group_offloading

from tests.generation.lora_cases import (
    CASES,
    CONV,
    KOHYA_CONV,
    LINEAR,
    conv_lora,
    kohya,
    normal,
    put,
    tiny_model,
)
from tests.generation.shipped_models import make_small
from tests.generation.test_gguf_files import (
    Packed,
    eight_bits,
    first,
    inputs,
    load_transformer,
    reference,
    write_gguf,
)
from tests.generation.test_single_files import narrow_flux, no_network
from webui.generation.compiling import BlockCompiler
from webui.generation.fp8 import store_in_fp8
from webui.generation.loras import Loras, Strength
from webui.generation.widening import Widening, is_packed, widening_of

pytestmark = pytest.mark.usefixtures(no_network.__name__, narrow_flux.__name__)

Tensors = dict[str, torch.Tensor]


def outcome(net: Any, said: dict[str, Any]) -> torch.Tensor:
    with torch.inference_mode():
        return first(net(**said))


def wide(net: torch.nn.Module, name: str) -> torch.Tensor:
    """What a layer computes with now."""
    widening = widening_of(net, name)
    assert isinstance(widening, Widening)
    weight = widening.widened(net.get_parameter(name))
    return weight if widening.change is None else widening.change(weight)


def for_layers(whole: Tensors, names: Sequence[str], size: float) -> tuple[Tensors, Tensors]:
    """A LoRA for those layers, and its deltas by the names of the weights."""
    tensors: Tensors = {}
    deltas: Tensors = {}
    for number, name in enumerate(names):
        out, inner = whole[name].shape
        down, up = normal(4, inner, seed=number), normal(out, 4, seed=number + 1) * size
        path = name.removesuffix(".weight")
        tensors |= {f"transformer.{path}.lora_A.weight": down}
        tensors |= {f"transformer.{path}.lora_B.weight": up}
        deltas[name] = up @ down
    return tensors, deltas


@pytest.mark.parametrize("config", ["flux-dev", "qwen-image", "z-image-turbo", "sd3.5-medium"])
def test_a_lora_acts_on_a_gguf_as_on_what_it_stands_for(tmp_path: Path, config: str) -> None:
    small = make_small(config, tmp_path, alone=True)
    packed = Packed(dict(small.weights["transformer"]), eight_bits)
    write_gguf(small, "transformer", packed)
    net = load_transformer(small)
    names = [name for name, weight in net.named_parameters() if is_packed(weight)]
    tensors, deltas = for_layers(packed.whole, names, 0.1)
    said = inputs(net)
    plain = outcome(net, said)
    loras = Loras({"transformer": net})
    found = loras.take("a", put(tmp_path, tensors))
    assert (found.matched, found.total, dict(found.misfits)) == (len(names), len(names), {})
    for strength in (1.0, 0.5, -0.5):
        loras.merge("transformer", [Strength("a", strength)])
        assert loras.kept_bytes == sum(4 * 4 * sum(packed.whole[name].shape) for name in names)
        merged = {
            n: w + strength * deltas[n] if n in deltas else w for n, w in packed.whole.items()
        }
        expected = outcome(reference(small, "transformer", merged), said)
        torch.testing.assert_close(outcome(net, said), expected, rtol=1e-3, atol=1e-4)
        assert (expected - plain).abs().max() > 0.01
    sizes = loras.measure(["a"]).sizes("a")
    assert max(sizes.values()) > 0
    loras.merge("transformer", [])
    assert torch.equal(outcome(net, said), plain)
    assert loras.kept_bytes == 0


@pytest.mark.parametrize("kind", ["leaf_level", "block_level"])
def test_a_lora_acts_on_a_gguf_that_is_brought_in_piece_by_piece(tmp_path: Path, kind: str) -> None:
    small = make_small("flux-dev", tmp_path, alone=True)
    packed = Packed(dict(small.weights["transformer"]), eight_bits)
    write_gguf(small, "transformer", packed)
    net = load_transformer(small)
    said = inputs(net)
    names = [name for name, weight in net.named_parameters() if is_packed(weight)]
    loras = Loras({"transformer": net})
    loras.take("a", put(tmp_path, for_layers(packed.whole, names, 0.1)[0]))
    plain = outcome(net, said)
    loras.merge("transformer", [Strength("a", 1.0)])
    expected = outcome(net, said)
    cpu = torch.device("cpu")
    blocks = 1 if kind == "block_level" else None
    apply_group_offloading(
        net,
        onload_device=cpu,
        offload_device=cpu,
        offload_type=kind,
        num_blocks_per_group=blocks,
    )
    assert torch.equal(outcome(net, said), expected)
    loras.forget_merged("transformer")
    assert torch.equal(outcome(net, said), plain)
    loras.merge("transformer", [Strength("a", 1.0)])
    assert torch.equal(outcome(net, said), expected)


def unet_in_fp8() -> torch.nn.Module:
    unet = tiny_model()["unet"]
    store_in_fp8(unet, torch.float32)
    return unet


@pytest.mark.parametrize(
    ("path", "make", "delta"),
    [
        (LINEAR, kohya(), CASES["kohya without alpha"].delta),
        (CONV, conv_lora, CASES["LoCon"].delta),
        *((CASES[name].path, CASES[name].make, CASES[name].delta) for name in ("LoKr", "DoRA")),
    ],
)
def test_a_small_change_of_a_weight_in_fp8_is_not_rounded_away(
    tmp_path: Path,
    path: str,
    make: Callable[[], Tensors],
    delta: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    unet = unet_in_fp8()
    name = f"{path}.weight"
    stored = unet.get_parameter(name).clone()
    base = wide(unet, name)
    loras = Loras({"unet": unet})
    assert loras.take("a", put(tmp_path, make())).matched == 1
    strength = 0.0025
    loras.merge("unet", [Strength("a", strength)])
    added = wide(unet, name) - base
    expected = delta(base) * strength
    torch.testing.assert_close(added, expected, rtol=1e-3, atol=1e-6)
    assert expected.abs().max() > 1e-4
    assert torch.equal(unet.get_parameter(name).float(), stored.float())
    loras.merge("unet", [])
    assert torch.equal(wide(unet, name), base)
    assert loras.kept_bytes == 0


def test_a_unet_in_fp8_computes_with_what_a_lora_adds(tmp_path: Path) -> None:
    unet: Any = unet_in_fp8()
    said: dict[str, Any] = {
        "sample": normal(1, 4, 8, 8),
        "timestep": torch.tensor([5]),
        "encoder_hidden_states": normal(1, 4, unet.config.cross_attention_dim),
        "return_dict": False,
    }
    plain = outcome(unet, said)
    loras = Loras({"unet": unet})
    loras.take("a", put(tmp_path, conv_lora()))
    loras.merge("unet", [Strength("a", 0.25)])
    ours = outcome(unet, said)
    widened = tiny_model()["unet"]
    for name, weight in widened.named_parameters():
        widening = widening_of(unet, name)
        weight.data.copy_(unet.get_parameter(name) if widening is None else wide(unet, name))
    assert torch.equal(ours, outcome(widened, said))
    assert (ours - plain).abs().max() > 1e-3
    loras.merge("unet", [])
    assert torch.equal(outcome(unet, said), plain)


def test_a_layer_that_is_cut_short_has_its_own_weight_again(tmp_path: Path) -> None:
    unet = unet_in_fp8()
    loras = Loras({"unet": unet})
    loras.take("a", put(tmp_path, conv_lora()))
    loras.merge("unet", [Strength("a", 1.0)])
    layer: Any = unet.get_submodule(CONV)
    with pytest.raises(RuntimeError):
        layer(normal(1, 3, 8, 8))
    assert layer.weight.dtype is torch.float8_e4m3fn
    assert isinstance(layer.weight, torch.nn.Parameter)


def test_a_bias_beside_a_weight_in_fp8_is_merged(tmp_path: Path) -> None:
    unet = unet_in_fp8()
    before = unet.get_parameter(f"{CONV}.bias").clone()
    loras = Loras({"unet": unet})
    loras.take("a", put(tmp_path, conv_lora() | {f"{KOHYA_CONV}.diff_b": normal(16)}))
    loras.merge("unet", [Strength("a", 0.5)])
    torch.testing.assert_close(unet.get_parameter(f"{CONV}.bias"), before + normal(16) * 0.5)


def test_compiled_blocks_of_a_gguf_compute_with_what_a_lora_adds(tmp_path: Path) -> None:
    small = make_small("flux-dev", tmp_path, alone=True)
    packed = Packed(dict(small.weights["transformer"]), eight_bits)
    write_gguf(small, "transformer", packed)
    net = load_transformer(small)
    said = inputs(net)
    names = [name for name, weight in net.named_parameters() if is_packed(weight)]
    loras = Loras({"transformer": net})
    loras.take("a", put(tmp_path, for_layers(packed.whole, names, 0.1)[0]))
    compiler = BlockCompiler(net, backend="eager")
    for strength in (1.0, 0.5):
        loras.merge("transformer", [Strength("a", strength)])
        expected = outcome(net, said)
        with compiler.on():
            torch.testing.assert_close(outcome(net, said), expected, rtol=1e-3, atol=1e-4)
    assert compiler.trouble is None
