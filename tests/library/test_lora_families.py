from __future__ import annotations

import pytest

from webui.library.headers import Header
from webui.library.lora_facts import LoraFacts, read_facts

JOINT = "transformer.transformer_blocks.{}.attn.to_q"


def facts_of(layers: dict[str, int], **said: str) -> LoraFacts:
    """Of a LoRA of rank 4 with such layers and the widths of what goes into them."""
    shapes = {f"{name}.lora_A.weight": (4, width) for name, width in layers.items()}
    shapes |= {f"{name}.lora_B.weight": (8, 4) for name in layers}
    return read_facts(Header(shapes, said, 0), None, file="a.safetensors")


@pytest.mark.parametrize(
    ("layers", "family"),
    [
        ({"transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj": 3072}, "Flux 2"),
        ({"lora_unet_transformer_blocks_0_ff_context_linear_in": 3072}, "Flux 2"),
        ({"diffusion_model.double_blocks.0.img_attn.qkv": 6144}, "Flux 2"),
        ({"lora_unet_single_blocks_3_linear2": 16384}, "Flux 2"),
        ({"diffusion_model.double_blocks.0.img_attn.qkv": 3072}, "Flux"),
        ({"lora_unet_single_blocks_3_linear2": 15360}, "Flux"),
        ({"diffusion_model.layers.0.attention.to_q": 3840}, "Z-Image"),
        ({"lora_unet_layers_7_feed_forward_w1": 3840}, "Z-Image"),
        ({"base_model.model.layers.0.adaLN_modulation.0": 256}, "Z-Image"),
        ({"transformer.transformer_blocks.0.img_mlp.net.0.proj": 3072}, "Qwen-Image"),
        ({"lora_unet_transformer_blocks_0_txt_mod_1": 3072}, "Qwen-Image"),
        ({"lycoris_transformer_blocks_0_attn_to_q": 3072}, "Flux"),
        ({"lycoris_single_transformer_blocks_0_attn_to_q": 3072}, "Flux"),
        ({JOINT.format(0): 3072, JOINT.format(19): 3072}, "Qwen-Image"),
        ({JOINT.format(0): 3072, JOINT.format(18): 3072}, "Flux"),
        ({JOINT.format(0): 2432, JOINT.format(19): 2432}, "SD 3"),
    ],
)
def test_a_lora_is_known_by_its_layers_and_their_widths(
    layers: dict[str, int], family: str
) -> None:
    facts = facts_of(layers)
    assert (facts.family, facts.parts) == (family, ("transformer",))


@pytest.mark.parametrize(
    ("layer", "first", "second", "family"),
    [
        ("lora_unet_double_blocks_0_img_attn_qkv", {"w1": (8, 8)}, {"w2": (2304, 768)}, "Flux 2"),
        ("lora_unet_double_blocks_0_img_attn_qkv", {"w1": (8, 8)}, {"w2": (1152, 384)}, "Flux"),
        (
            "lycoris_transformer_blocks_0_attn_to_q",
            {"w1_a": (16, 4), "w1_b": (4, 16)},
            {"w2_a": (152, 4), "w2_b": (4, 152)},
            "SD 3",
        ),
    ],
)
def test_a_lokr_is_as_wide_as_the_product_of_its_factors(
    layer: str, first: dict[str, tuple[int, ...]], second: dict[str, tuple[int, ...]], family: str
) -> None:
    shapes = {f"{layer}.lokr_{end}": shape for end, shape in (first | second).items()}
    facts = read_facts(Header(shapes, {}, 0), None, file="a.safetensors")
    assert (facts.family, facts.kind, facts.parts) == (family, "lokr", ("transformer",))


def test_where_both_fluxes_have_such_layers_the_metadata_decide() -> None:
    layers = {"diffusion_model.double_blocks.0.img_attn.qkv": 3072}
    said = {"modelspec.architecture": "Flux.2-klein-4b/lora"}
    assert facts_of(layers, **said).family == "Flux 2"
