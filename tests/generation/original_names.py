"""Networks by the names that their authors gave the tensors, from diffusers' names.

Sources: the authors' own code, `flux/model.py` (FLUX.1), `flux2/model.py` (FLUX.2),
`mmdit.py` of Stable Diffusion 3, Lumina's `model.py` as ComfyUI has it (Z-Image) and Wan's
`vae.py` (Qwen-Image); nothing here is taken from what is tested with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch

Tensors = dict[str, torch.Tensor]
Rules = Iterable[tuple[str, str]]

_PART = re.compile(r"@(\d)")
"""Behind a name: the how manieth tensor it is of those that the authors have in one."""


def prefixed(prefix: str, tensors: Tensors) -> Tensors:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _renamed(tensors: Tensors, rules: Rules) -> Tensors:
    """All rules applied to each name, one after the other; what belongs in one tensor joined."""
    joined: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        for old, new in rules:
            name = re.sub(old, new, name)
        part = _PART.search(name)
        joined.setdefault(_PART.sub("", name), {})[part[1] if part else ""] = tensor
    return {
        name: torch.cat([parts[at] for at in sorted(parts)])
        if len(parts) > 1
        else parts.popitem()[1]
        for name, parts in joined.items()
    }


def _shift_first(tensors: Tensors, *names: str) -> Tensors:
    """The authors compute a shift and a scale, diffusers in these layers a scale and a shift."""
    turned = {
        full: torch.cat([*reversed(tensors[full].chunk(2))])
        for full in tensors
        if full.rpartition(".")[0] in names
    }
    return tensors | turned


_FLUX: Rules = (
    (r"^x_embedder\.", "img_in."),
    (r"^context_embedder\.", "txt_in."),
    (r"^time_(?:text_embed|guidance_embed)\.timestep_embedder\.", "time_in."),
    (r"^time_(?:text_embed|guidance_embed)\.guidance_embedder\.", "guidance_in."),
    (r"^time_text_embed\.text_embedder\.", "vector_in."),
    (r"_in\.linear_1\.", "_in.in_layer."),
    (r"_in\.linear_2\.", "_in.out_layer."),
    (r"^norm_out\.linear\.", "final_layer.adaLN_modulation.1."),
    (r"^proj_out\.", "final_layer.linear."),
    (r"^(\w+_stream_modulation\w*)\.linear\.", r"\1.lin."),
    (r"^single_transformer_blocks\.", "single_blocks."),
    (r"^(single_blocks\.\d+)\.norm\.linear\.", r"\1.modulation.lin."),
    (r"^(single_blocks\.\d+)\.attn\.to_q\.", r"\1.linear1@0."),
    (r"^(single_blocks\.\d+)\.attn\.to_k\.", r"\1.linear1@1."),
    (r"^(single_blocks\.\d+)\.attn\.to_v\.", r"\1.linear1@2."),
    (r"^(single_blocks\.\d+)\.proj_mlp\.", r"\1.linear1@3."),
    (r"^(single_blocks\.\d+)\.attn\.to_qkv_mlp_proj\.", r"\1.linear1."),
    (r"^(single_blocks\.\d+)\.(?:proj_out|attn\.to_out)\.", r"\1.linear2."),
    (r"^(single_blocks\.\d+)\.attn\.norm_", r"\1.norm.norm_"),
    (r"^transformer_blocks\.", "double_blocks."),
    (r"\.norm1\.linear\.", ".img_mod.lin."),
    (r"\.norm1_context\.linear\.", ".txt_mod.lin."),
    (r"\.attn\.to_q\.", ".img_attn.qkv@0."),
    (r"\.attn\.to_k\.", ".img_attn.qkv@1."),
    (r"\.attn\.to_v\.", ".img_attn.qkv@2."),
    (r"\.attn\.add_q_proj\.", ".txt_attn.qkv@0."),
    (r"\.attn\.add_k_proj\.", ".txt_attn.qkv@1."),
    (r"\.attn\.add_v_proj\.", ".txt_attn.qkv@2."),
    (r"\.attn\.to_out\.0\.", ".img_attn.proj."),
    (r"\.attn\.to_add_out\.", ".txt_attn.proj."),
    (r"\.attn\.norm_added_", ".txt_attn.norm.norm_"),
    (r"\.attn\.norm_", ".img_attn.norm.norm_"),
    (r"\.norm\.norm_q\.weight$", ".norm.query_norm.scale"),
    (r"\.norm\.norm_k\.weight$", ".norm.key_norm.scale"),
    (r"\.ff\.(?:net\.0\.proj|linear_in)\.", ".img_mlp.0."),
    (r"\.ff\.(?:net\.2|linear_out)\.", ".img_mlp.2."),
    (r"\.ff_context\.(?:net\.0\.proj|linear_in)\.", ".txt_mlp.0."),
    (r"\.ff_context\.(?:net\.2|linear_out)\.", ".txt_mlp.2."),
)


def bfl(tensors: Tensors) -> Tensors:
    """The transformer of FLUX.1 or FLUX.2."""
    return _shift_first(_renamed(tensors, _FLUX), "final_layer.adaLN_modulation.1")


_MMDIT: Rules = (
    (r"^pos_embed\.pos_embed$", "pos_embed"),
    (r"^pos_embed\.proj\.", "x_embedder.proj."),
    (r"^time_text_embed\.timestep_embedder\.", "t_embedder."),
    (r"^time_text_embed\.text_embedder\.", "y_embedder."),
    (r"_embedder\.linear_1\.", "_embedder.mlp.0."),
    (r"_embedder\.linear_2\.", "_embedder.mlp.2."),
    (r"^norm_out\.linear\.", "final_layer.adaLN_modulation.1."),
    (r"^proj_out\.", "final_layer.linear."),
    (r"^transformer_blocks\.", "joint_blocks."),
    (r"\.norm1\.linear\.", ".x_block.adaLN_modulation.1."),
    (r"\.norm1_context\.linear\.", ".context_block.adaLN_modulation.1."),
    (r"\.(attn2?)\.to_q\.", r".x_block.\1.qkv@0."),
    (r"\.(attn2?)\.to_k\.", r".x_block.\1.qkv@1."),
    (r"\.(attn2?)\.to_v\.", r".x_block.\1.qkv@2."),
    (r"\.attn\.add_q_proj\.", ".context_block.attn.qkv@0."),
    (r"\.attn\.add_k_proj\.", ".context_block.attn.qkv@1."),
    (r"\.attn\.add_v_proj\.", ".context_block.attn.qkv@2."),
    (r"\.(attn2?)\.to_out\.0\.", r".x_block.\1.proj."),
    (r"\.attn\.to_add_out\.", ".context_block.attn.proj."),
    (r"\.attn\.norm_added_([qk])\.", r".context_block.attn.ln_\1."),
    (r"\.(attn2?)\.norm_([qk])\.", r".x_block.\1.ln_\2."),
    (r"\.ff\.net\.0\.proj\.", ".x_block.mlp.fc1."),
    (r"\.ff\.net\.2\.", ".x_block.mlp.fc2."),
    (r"\.ff_context\.net\.0\.proj\.", ".context_block.mlp.fc1."),
    (r"\.ff_context\.net\.2\.", ".context_block.mlp.fc2."),
)


def mmdit(tensors: Tensors) -> Tensors:
    """The transformer of Stable Diffusion 3, whose last block gives no text on."""
    written = _renamed(tensors, _MMDIT)
    last = max(int(name.split(".")[1]) for name in written if name.startswith("joint_blocks."))
    return _shift_first(
        written,
        "final_layer.adaLN_modulation.1",
        f"joint_blocks.{last}.context_block.adaLN_modulation.1",
    )


_LUMINA: Rules = (
    (r"^all_final_layer\.2-1\.", "final_layer."),
    (r"^all_x_embedder\.2-1\.", "x_embedder."),
    (r"\.attention\.to_q\.", ".attention.qkv@0."),
    (r"\.attention\.to_k\.", ".attention.qkv@1."),
    (r"\.attention\.to_v\.", ".attention.qkv@2."),
    (r"\.attention\.to_out\.0\.", ".attention.out."),
    (r"\.attention\.norm_([qk])\.", r".attention.\1_norm."),
)


def lumina(tensors: Tensors) -> Tensors:
    """The transformer of Z-Image, with the norm beside that nothing uses."""
    unused = torch.ones_like(tensors["layers.0.attention_norm1.weight"])
    return _renamed(tensors, _LUMINA) | {"norm_final.weight": unused}


_WAN: Rules = (
    (r"^quant_conv\.", "conv1."),
    (r"^post_quant_conv\.", "conv2."),
    (r"\.conv_in\.", ".conv1."),
    (r"\.norm_out\.", ".head.0."),
    (r"\.conv_out\.", ".head.2."),
    (r"\.down_blocks\.", ".downsamples."),
    (r"\.mid_block\.resnets\.0\.", ".middle.0."),
    (r"\.mid_block\.attentions\.0\.", ".middle.1."),
    (r"\.mid_block\.resnets\.1\.", ".middle.2."),
    (r"\.(middle|downsamples|upsamples)\.(\d+)\.norm1\.", r".\1.\2.residual.0."),
    (r"\.(middle|downsamples|upsamples)\.(\d+)\.conv1\.", r".\1.\2.residual.2."),
    (r"\.(middle|downsamples|upsamples)\.(\d+)\.norm2\.", r".\1.\2.residual.3."),
    (r"\.(middle|downsamples|upsamples)\.(\d+)\.conv2\.", r".\1.\2.residual.6."),
    (r"\.conv_shortcut\.", ".shortcut."),
)


def wan_vae(tensors: Tensors) -> Tensors:
    """The VAE of Qwen-Image: the decoder's levels are one row, each ending with its enlarging."""
    places = [re.match(r"decoder\.up_blocks\.(\d+)\.(\w+)\.(\d+)\.", name) for name in tensors]
    order = sorted({(int(p[1]), p[2] == "upsamplers", int(p[3])) for p in places if p})

    def flat(name: str) -> str:
        place = re.match(r"decoder\.up_blocks\.(\d+)\.(\w+)\.(\d+)\.(.+)", name)
        if place is None:
            return name
        at = order.index((int(place[1]), place[2] == "upsamplers", int(place[3])))
        return f"decoder.upsamples.{at}.{place[4]}"

    return _renamed({flat(name): tensor for name, tensor in tensors.items()}, _WAN)
