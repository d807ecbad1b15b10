from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from safetensors.torch import save

from tests.families import tiny, tiny_modern
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


def changed(folder: Path, module: Any, tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The weights that a LoRA of these tensors changes, as they are then."""
    folder.mkdir(parents=True)
    (folder / "a.safetensors").write_bytes(save(dict(tensors)))
    shelf = LoraShelf((folder,), HashBook(folder / "hashes.json"))
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
