from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders import lora_conversion_utils
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from safetensors.torch import save

from tests.families import tiny, tiny_modern
from tests.generation.original_names import bfl, mmdit
from webui.generation.lora_names import Layer, Stacked, spellings
from webui.generation.loras import Loras, Strength
from webui.library.hashes import HashBook
from webui.library.loras import LoraShelf

# diffusers declares tuples of a fixed length.
FLUX_TRANSFORMER: Any = FluxTransformer2DModel
SD3_TRANSFORMER: Any = SD3Transformer2DModel


def transformer(kind: str) -> Any:
    with tiny.same_weights():
        match kind:
            case "flux2":
                return tiny_modern.flux2_transformer(guidance=True)
            case "flux":
                return FLUX_TRANSFORMER(
                    in_channels=64,
                    num_layers=1,
                    num_single_layers=1,
                    attention_head_dim=16,
                    num_attention_heads=2,
                    joint_attention_dim=32,
                    pooled_projection_dim=32,
                    guidance_embeds=True,
                    axes_dims_rope=(4, 4, 8),
                )
            case "sd3":
                return SD3_TRANSFORMER(
                    sample_size=8,
                    num_layers=2,
                    attention_head_dim=8,
                    num_attention_heads=4,
                    joint_attention_dim=32,
                    caption_projection_dim=32,
                    pooled_projection_dim=32,
                    pos_embed_max_size=16,
                    dual_attention_layers=(0,),
                )
            case "z-image":
                return tiny_modern.z_image_transformer()
            case _:
                return tiny_modern.qwen_image_transformer()


def put(folder: Path, tensors: Mapping[str, torch.Tensor]) -> LoraShelf:
    """A shelf with a LoRA of these tensors, called "a"."""
    folder.mkdir(parents=True)
    plain = {name: tensor.contiguous() for name, tensor in tensors.items()}
    (folder / "a.safetensors").write_bytes(save(plain))
    return LoraShelf((folder,), HashBook(folder / "hashes.json"))


def changed(folder: Path, module: Any, tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The weights that a LoRA of these tensors changes, as they are then."""
    shelf = put(folder, tensors)
    before = {name: weight.clone() for name, weight in module.named_parameters()}
    loras = Loras({"transformer": module})
    with torch.no_grad():
        read = loras.take("a", shelf.find("a"))
        assert read.matched == read.total
        loras.merge("transformer", (Strength("a", 1.0),))
        after = {
            name: weight.clone()
            for name, weight in module.named_parameters()
            if not torch.equal(weight, before[name])
        }
        loras.merge("transformer", ())
    assert all(torch.equal(weight, before[name]) for name, weight in module.named_parameters())
    return after


QKV = ("to_q", "to_k", "to_v")
FUSED = (
    ("flux2", "double_blocks.0.img_attn.qkv", [f"transformer_blocks.0.attn.{n}" for n in QKV]),
    (
        "flux2",
        "double_blocks.0.txt_attn.qkv",
        [f"transformer_blocks.0.attn.add_{n}_proj" for n in "qkv"],
    ),
    ("flux", "double_blocks.0.img_attn.qkv", [f"transformer_blocks.0.attn.{n}" for n in QKV]),
    (
        "flux",
        "single_blocks.0.linear1",
        [f"single_transformer_blocks.0.{n}" for n in (*(f"attn.{n}" for n in QKV), "proj_mlp")],
    ),
    ("sd3", "joint_blocks.0.x_block.attn2.qkv", [f"transformer_blocks.0.attn2.{n}" for n in QKV]),
    (
        "sd3",
        "joint_blocks.1.context_block.attn.qkv",
        [f"transformer_blocks.1.attn.add_{n}_proj" for n in "qkv"],
    ),
    ("z-image", "layers.0.attention.qkv", [f"layers.0.attention.{n}" for n in QKV]),
    (
        "z-image",
        "context_refiner.0.attention.qkv",
        [f"context_refiner.0.attention.{n}" for n in QKV],
    ),
)


@pytest.mark.parametrize(("kind", "own", "ours"), FUSED)
@pytest.mark.parametrize(
    "form", ["diffusion_model.{}.lora_{}.weight", "lora_unet_{}.lora_{}.weight"]
)
def test_a_layer_for_several_changes_each_by_its_own_rows(
    tmp_path: Path, kind: str, own: str, ours: list[str], form: str
) -> None:
    module = transformer(kind)
    weights = [module.get_parameter(f"{path}.weight") for path in ours]
    down = torch.randn(4, weights[0].shape[1])
    ups = [torch.randn(len(weight), 4) for weight in weights]
    name = own.replace(".", "_") if "unet" in form else own
    a, b = ("down", "up") if "unet" in form else ("A", "B")
    fused = {form.format(name, a): down, form.format(name, b): torch.cat(ups)}
    apart = {
        f"transformer.{path}.lora_{letter}.weight": tensor
        for path, up in zip(ours, ups, strict=True)
        for letter, tensor in (("A", down.clone()), ("B", up))
    }
    together = changed(tmp_path / "fused", module, fused)
    single = changed(tmp_path / "apart", module, apart)
    assert together.keys() == single.keys() == {f"{path}.weight" for path in ours}
    assert all(torch.equal(together[path], single[path]) for path in single)


def test_a_layer_for_several_may_be_a_dora_or_a_loha(tmp_path: Path) -> None:
    module = transformer("z-image")
    ours = [f"layers.0.attention.{name}" for name in QKV]
    inner = module.get_parameter(f"{ours[0]}.weight").shape[1]
    total = sum(len(module.get_parameter(f"{path}.weight")) for path in ours)
    name = "diffusion_model.layers.0.attention.qkv"
    dora = {
        f"{name}.lora_down.weight": torch.randn(4, inner),
        f"{name}.lora_up.weight": torch.randn(total, 4),
        f"{name}.dora_scale": torch.rand(total, 1) + 1,
    }
    loha = {f"{name}.hada_w{n}_a": torch.randn(total, 4) for n in (1, 2)}
    loha |= {f"{name}.hada_w{n}_b": torch.randn(4, inner) for n in (1, 2)}
    for kind, tensors in (("dora", dora), ("loha", loha)):
        after = changed(tmp_path / kind, module, tensors)
        assert after.keys() == {f"{path}.weight" for path in ours}


def lokr(total: int, inner: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Factors of which no layer's outputs end where a block of the product does, and the product:
    one is whole and the other itself a product of rank 3."""
    first, a, b = torch.randn(2, 2), torch.randn(total // 2, 3), torch.randn(3, inner // 2)
    factors = {"lokr_w1": first, "lokr_w2_a": a, "lokr_w2_b": b, "alpha": torch.tensor(1.5)}
    return factors, torch.kron(first, a @ b) * 0.5


def lokr_of_long_factors(total: int, inner: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    a, b, second = torch.randn(total // 2, 3), torch.randn(3, inner), torch.randn(2, 1)
    factors = {"lokr_w1_a": a, "lokr_w1_b": b, "lokr_w2": second, "alpha": torch.tensor(3.0)}
    return factors, torch.kron(a @ b, second)


def loha_with_cores(total: int, inner: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    factors: dict[str, torch.Tensor] = {"alpha": torch.tensor(2.0)}
    whole = torch.ones(total, inner)
    for n in (1, 2):
        a, b, core = torch.randn(2, total), torch.randn(2, inner), torch.randn(2, 2, 1, 1)
        factors |= {f"hada_w{n}_a": a, f"hada_w{n}_b": b, f"hada_t{n}": core}
        whole = whole * (a.T @ core[:, :, 0, 0] @ b)
    return factors, whole


@pytest.mark.parametrize(("kind", "own", "ours"), FUSED)
@pytest.mark.parametrize("make", [lokr, lokr_of_long_factors, loha_with_cores])
@pytest.mark.parametrize("form", ["diffusion_model.{}.{}", "lora_unet_{}.{}"])
def test_of_a_product_that_cannot_be_taken_apart_each_layer_has_its_rows(
    tmp_path: Path, kind: str, own: str, ours: list[str], make: Any, form: str
) -> None:
    module = transformer(kind)
    weights = [module.get_parameter(f"{path}.weight").clone() for path in ours]
    outputs = [len(weight) for weight in weights]
    factors, whole = make(sum(outputs), weights[0].shape[1])
    name = own.replace(".", "_") if "unet" in form else own
    after = changed(tmp_path / "a", module, {form.format(name, k): v for k, v in factors.items()})
    assert after.keys() == {f"{path}.weight" for path in ours}
    for path, weight, rows in zip(ours, weights, whole.split(outputs), strict=True):
        torch.testing.assert_close(after[f"{path}.weight"], weight + rows, rtol=1e-5, atol=1e-5)


def test_the_lengths_of_such_a_layer_are_those_of_its_own_rows(tmp_path: Path) -> None:
    module = transformer("flux2")
    ours = [f"transformer_blocks.0.attn.{name}" for name in QKV]
    weight = torch.cat([module.get_parameter(f"{path}.weight") for path in ours]).clone()
    factors, whole = lokr(*weight.shape)
    lengths = torch.rand(len(weight), 1) + 1
    name = "lora_unet_double_blocks_0_img_attn_qkv"
    tensors = {f"{name}.{end}": value for end, value in (factors | {"dora_scale": lengths}).items()}
    after = changed(tmp_path / "a", module, tensors)
    turned = weight + whole
    torch.testing.assert_close(
        torch.cat([after[f"{path}.weight"] for path in ours]),
        turned * lengths / turned.square().sum(1, keepdim=True).sqrt(),
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [((2, 2), (49, 16)), ((2, 4), (24, 16)), ((4, 2), (48, 16)), ((3, 1), (32, 16))],
)
def test_a_product_of_another_shape_fits_none_of_the_layers(
    tmp_path: Path, first: tuple[int, int], second: tuple[int, int]
) -> None:
    tensors = {
        "lora_unet_double_blocks_0_img_attn_qkv.lokr_w1": torch.randn(first),
        "lora_unet_double_blocks_0_img_attn_qkv.lokr_w2": torch.randn(second),
    }
    module = transformer("flux")
    read = Loras({"transformer": module}).take("a", put(tmp_path / "a", tensors).find("a"))
    assert (read.matched, dict(read.misfits)) == (0, {"has layers of another shape": 1})


def test_lengths_over_the_outputs_of_several_layers_are_not_taken_for_each_ones(
    tmp_path: Path,
) -> None:
    module = transformer("flux")
    tensors = {
        "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": torch.randn(4, 32),
        "lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight": torch.randn(96, 4),
        "lora_unet_double_blocks_0_img_attn_qkv.dora_scale": torch.rand(1, 32) + 1,
    }
    read = Loras({"transformer": module}).take("a", put(tmp_path / "a", tensors).find("a"))
    assert (read.matched, dict(read.misfits)) == (0, {"cannot be changed in this way": 1})


def fused_by_diffusers(kind: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights that diffusers' own loading and fusing of a LoRA in its names gives."""
    module = transformer(kind)
    before = {name: weight.clone() for name, weight in module.named_parameters()}
    module.load_lora_adapter(tensors, prefix="transformer")
    module.fuse_lora()
    weights = {
        name.replace(".base_layer.", "."): weight for name, weight in module.named_parameters()
    }
    return {
        name: weights[name]
        for name, weight in before.items()
        if not torch.equal(weight, weights[name])
    }


def check_same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, weight in one.items():
        torch.testing.assert_close(weight, other[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("prefix", ["", "diffusion_model."])
def test_xlabs_loras_are_what_diffusers_makes_of_them(tmp_path: Path, prefix: str) -> None:
    layers = {
        "double_blocks.0.processor.qkv_lora1": (32, 96),
        "double_blocks.0.processor.qkv_lora2": (32, 96),
        "double_blocks.0.processor.proj_lora1": (32, 32),
        "double_blocks.0.processor.proj_lora2": (32, 32),
        "single_blocks.0.processor.qkv_lora": (32, 96),
        "single_blocks.0.processor.proj_lora": (160, 32),
    }
    tensors = {
        f"{prefix}{layer}.{end}.weight": torch.randn(shape)
        for layer, (inner, outer) in layers.items()
        for end, shape in (("down", (4, inner)), ("up", (outer, 4)))
    }
    facts = put(tmp_path / "card", tensors).find("a").facts
    assert (facts.kind, facts.rank, facts.parts) == ("lora", 4, ("transformer",))
    convert: Any = vars(lora_conversion_utils)["_convert_xlabs_flux_lora_to_diffusers"]
    after = changed(tmp_path / "a", transformer("flux"), tensors)
    check_same(after, fused_by_diffusers("flux", convert(dict(tensors))))
    assert len(after) == 12


def test_the_last_norm_of_kohyas_flux_is_what_diffusers_makes_of_it(tmp_path: Path) -> None:
    layers = {"final_layer_adaLN_modulation_1": 64, "double_blocks_0_img_attn_qkv": 96}
    tensors = {
        f"lora_unet_{layer}.lora_{end}.weight": torch.randn(shape)
        for layer, outer in layers.items()
        for end, shape in (("down", (4, 32)), ("up", (outer, 4)))
    }
    convert: Any = vars(lora_conversion_utils)["_convert_kohya_flux_lora_to_diffusers"]
    converted = {
        f"transformer.{key.removeprefix('transformer.')}": value
        for key, value in convert(dict(tensors)).items()
    }
    after = changed(tmp_path / "a", transformer("flux"), tensors)
    check_same(after, fused_by_diffusers("flux", converted))
    assert "norm_out.linear.weight" in after


LAST = "final_layer.adaLN_modulation.1"
SWAPPED = (
    ("flux", LAST, "norm_out.linear", bfl),
    ("flux2", LAST, "norm_out.linear", bfl),
    ("sd3", LAST, "norm_out.linear", mmdit),
    (
        "sd3",
        "joint_blocks.1.context_block.adaLN_modulation.1",
        "transformer_blocks.1.norm1_context.linear",
        mmdit,
    ),
    (
        "sd3",
        "joint_blocks.0.context_block.adaLN_modulation.1",
        "transformer_blocks.0.norm1_context.linear",
        mmdit,
    ),
)


@pytest.mark.parametrize(("kind", "own", "ours", "original"), SWAPPED)
@pytest.mark.parametrize("make", [None, lokr])
def test_a_norm_changes_as_the_makers_own_layer_would(
    tmp_path: Path, kind: str, own: str, ours: str, original: Any, make: Any
) -> None:
    """diffusers' loader of LoRAs for FLUX.2 leaves out the swap that its loader of models makes."""
    module = transformer(kind)
    layer = module.get_submodule(ours)
    expected = original(dict(module.state_dict()))[f"{own}.weight"].clone()
    outer, inner = expected.shape
    if make is None:
        down, up = torch.randn(4, inner), torch.randn(outer, 4)
        factors, whole = {"lora_A.weight": down, "lora_B.weight": up}, up @ down
        if layer.bias is not None:
            factors["lora_B.bias"] = torch.randn(outer)
    else:
        factors, whole = make(outer, inner)
    tensors = {f"diffusion_model.{own}.{end}": value for end, value in factors.items()}
    # No real file has this layer alone, by which nothing is recognised.
    block = {"sd3": "joint_blocks.0.x_block.attn.proj"}.get(kind, "double_blocks.0.img_attn.proj")
    unchanged = torch.zeros_like(module.get_parameter("transformer_blocks.0.attn.to_out.0.weight"))
    tensors[f"diffusion_model.{block}.diff"] = unchanged
    written: dict[str, torch.Tensor] = dict(module.state_dict())
    after = changed(tmp_path / "a", module, tensors)
    assert f"{ours}.weight" in after
    now = original(written | after)
    torch.testing.assert_close(now[f"{own}.weight"], expected + whole, rtol=1e-5, atol=1e-5)
    if "lora_B.bias" in factors:
        bias = original(written)[f"{own}.bias"] + factors["lora_B.bias"]
        torch.testing.assert_close(now[f"{own}.bias"], bias)


@pytest.mark.parametrize("kind", ["flux", "sd3", "flux2", "z-image", "qwen-image"])
def test_every_layer_has_the_names_that_trainers_write(kind: str) -> None:
    module = transformer(kind)
    table = spellings({"transformer": module})
    layers = {
        layer
        for target in table.values()
        for layer in (target.layers if isinstance(target, Stacked) else (target,))
    }
    weights = {
        name.removesuffix(".weight")
        for name, _ in module.named_parameters()
        if name.endswith(".weight")
    }
    assert {layer.path for layer in layers} == weights
    for path in weights:
        layer = Layer("transformer", path)
        mangled = path.replace(".", "_")
        for name in (
            path,
            f"transformer.{path}",
            f"diffusion_model.{path}",
            f"base_model.model.{path}",
            f"lora_unet_{mangled}",
            f"lycoris_{mangled}",
        ):
            assert table[name] == layer


OWN = {
    "flux": [
        "double_blocks.0.img_attn.proj",
        "double_blocks.0.img_mod.lin",
        "double_blocks.0.txt_mlp.2",
        "single_blocks.0.linear2",
        "single_blocks.0.modulation.lin",
        "img_in",
        "vector_in.in_layer",
        "guidance_in.out_layer",
        "final_layer.linear",
    ],
    "sd3": [
        "joint_blocks.0.x_block.mlp.fc1",
        "joint_blocks.0.context_block.mlp.fc2",
        "joint_blocks.1.x_block.adaLN_modulation.1",
        "t_embedder.mlp.0",
        "y_embedder.mlp.2",
        "final_layer.linear",
    ],
    "flux2": [
        "double_blocks.0.img_attn.proj",
        "double_blocks.0.txt_mlp.2",
        "single_blocks.0.linear1",
        "single_blocks.0.linear2",
        "img_in",
        "txt_in",
        "time_in.in_layer",
        "guidance_in.out_layer",
        "double_stream_modulation_img.lin",
        "final_layer.linear",
    ],
    "z-image": ["noise_refiner.0.attention.out", "x_embedder", "final_layer.linear"],
}


@pytest.mark.parametrize(("kind", "names"), OWN.items())
def test_the_makers_own_names_are_known(kind: str, names: list[str]) -> None:
    module = transformer(kind)
    table = spellings({"transformer": module})
    for name in names:
        target = table[f"diffusion_model.{name}"]
        assert isinstance(target, Layer)
        assert table[f"lora_unet_{name.replace('.', '_')}"] == target
        module.get_parameter(f"{target.path}.weight")
