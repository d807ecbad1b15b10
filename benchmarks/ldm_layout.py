"""Tensors by the names they have in single files: the inverse of diffusers' conversion.

Source of the names: `diffusers/loaders/single_file_utils.py` (0.42), read backwards.
"""

from __future__ import annotations

import re

import torch

Tensors = dict[str, torch.Tensor]

_UNET_NAMES = (
    (r"^time_embedding\.linear_1", "time_embed.0"),
    (r"^time_embedding\.linear_2", "time_embed.2"),
    (r"^add_embedding\.linear_1", "label_emb.0.0"),
    (r"^add_embedding\.linear_2", "label_emb.0.2"),
    (r"^conv_in", "input_blocks.0.0"),
    (r"^conv_norm_out", "out.0"),
    (r"^conv_out", "out.2"),
)
_RESNET = (
    (".norm1.", ".in_layers.0."),
    (".conv1.", ".in_layers.2."),
    (".time_emb_proj.", ".emb_layers.1."),
    (".norm2.", ".out_layers.0."),
    (".conv2.", ".out_layers.3."),
    (".conv_shortcut.", ".skip_connection."),
)


def ldm_unet(tensors: Tensors, layers: int, prefix: str = "model.diffusion_model.") -> Tensors:
    """A UNet with so many resnets a level, as LDM and SGM name its tensors."""
    step = layers + 1

    def renamed(name: str) -> str:
        for pattern, new in _UNET_NAMES:
            name = re.sub(pattern, new, name)
        match = re.match(r"(down|mid|up)_block(?:s\.(\d+))?\.(\w+)\.(\d+)\.(.+)", name)
        if match is None:
            return name
        side, level, kind, at, rest = (
            match[1],
            int(match[2] or 0),
            match[3],
            int(match[4]),
            match[5],
        )
        if kind == "resnets":
            for old, new in _RESNET:
                rest = f".{rest}".replace(old, new).removeprefix(".")
        if side == "mid":
            return f"middle_block.{1 if kind == 'attentions' else 2 * at}.{rest}"
        if side == "down":
            if kind == "downsamplers":
                return f"input_blocks.{step * (level + 1)}.0.{rest.replace('conv.', 'op.')}"
            return f"input_blocks.{step * level + at + 1}.{int(kind == 'attentions')}.{rest}"
        if kind == "upsamplers":
            has_attention = any(n.startswith(f"up_blocks.{level}.attentions") for n in tensors)
            return f"output_blocks.{step * level + layers}.{1 + has_attention}.{rest}"
        return f"output_blocks.{step * level + at}.{int(kind == 'attentions')}.{rest}"

    return {prefix + renamed(name): tensor for name, tensor in tensors.items()}


def ldm_vae(tensors: Tensors, levels: int, prefix: str = "first_stage_model.") -> Tensors:
    """A VAE of so many levels, its attention as convolutions of one pixel."""
    written: Tensors = {}
    for name, tensor in tensors.items():
        new = re.sub(
            r"decoder\.up_blocks\.(\d+)", lambda m: f"decoder.up.{levels - 1 - int(m[1])}", name
        )
        new = re.sub(r"encoder\.down_blocks\.(\d+)", r"encoder.down.\1", new)
        new = re.sub(r"mid_block\.resnets\.(\d+)", lambda m: f"mid.block_{int(m[1]) + 1}", new)
        new = new.replace("mid_block.attentions.0", "mid.attn_1").replace("resnets.", "block.")
        new = new.replace("samplers.0.", "sample.").replace("conv_shortcut", "nin_shortcut")
        new = new.replace("conv_norm_out", "norm_out")
        if "attn_1" in new:
            new = new.replace("group_norm", "norm").replace("to_out.0", "proj_out")
            new = re.sub(r"\.to_([qkv])\.", r".\1.", new)
            if new.endswith("weight") and ".norm." not in new:
                tensor = tensor[:, :, None, None]
        written[prefix + new] = tensor
    return written


def open_clip(tensors: Tensors, prefix: str) -> Tensors:
    """A CLIP text encoder as OpenCLIP names its tensors, queries, keys and values in one."""
    plain = {name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}
    written: Tensors = {}
    for name, tensor in plain.items():
        new = re.sub(r"^encoder\.layers\.", "transformer.resblocks.", name)
        for old, other in (
            ("layer_norm1", "ln_1"),
            ("layer_norm2", "ln_2"),
            ("mlp.fc1", "mlp.c_fc"),
            ("mlp.fc2", "mlp.c_proj"),
            ("self_attn.out_proj", "attn.out_proj"),
            ("final_layer_norm", "ln_final"),
            ("embeddings.token_embedding", "token_embedding"),
            ("embeddings.position_embedding.weight", "positional_embedding"),
        ):
            new = new.replace(old, other)
        if name == "text_projection.weight":
            written[f"{prefix}text_projection"] = tensor.T.contiguous()
        elif "self_attn.q_proj" in name:
            fused = torch.cat([plain[name.replace("q_proj", f"{x}_proj")] for x in "qkv"])
            written[prefix + new.replace("self_attn.q_proj.", "attn.in_proj_")] = fused
        elif not re.search(r"self_attn\.[kv]_proj", name):
            written[prefix + new] = tensor
    return written
