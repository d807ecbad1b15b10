"""Models written as other programs write them, shapes alone."""

from __future__ import annotations

import torch

from benchmarks.ldm_layout import Tensors, ldm_unet, ldm_vae, open_clip

__all__ = [
    "Tensors",
    "bfl_flux",
    "bfl_flux2",
    "comfy_z_image",
    "ldm_unet",
    "ldm_vae",
    "meta",
    "mmdit",
    "open_clip",
]


def meta(*shape: int) -> torch.Tensor:
    """A tensor of which only the shape exists."""
    return torch.empty(shape, device="meta")


def _linear(name: str, out: int, inside: int) -> Tensors:
    return {f"{name}.weight": meta(out, inside), f"{name}.bias": meta(out)}


def bfl_flux(*, channels: int, guided: bool, width: int = 3072) -> Tensors:
    """FLUX.1's transformer by the names of its authors (`flux/model.py`), shapes alone."""
    made: Tensors = {
        **_linear("img_in", width, channels),
        **_linear("txt_in", width, 4096),
        **_linear("final_layer.linear", 64, width),
        **_linear("final_layer.adaLN_modulation.1", 2 * width, width),
    }
    inputs = {"time_in": 256, "vector_in": 768} | ({"guidance_in": 256} if guided else {})
    for name, inside in inputs.items():
        made |= _linear(f"{name}.in_layer", width, inside)
        made |= _linear(f"{name}.out_layer", width, width)
    for block in (f"double_blocks.{at}" for at in range(19)):
        for side in ("img", "txt"):
            made |= _linear(f"{block}.{side}_mod.lin", 6 * width, width)
            made |= _linear(f"{block}.{side}_attn.qkv", 3 * width, width)
            made |= _linear(f"{block}.{side}_attn.proj", width, width)
            made |= _linear(f"{block}.{side}_mlp.0", 4 * width, width)
            made |= _linear(f"{block}.{side}_mlp.2", width, 4 * width)
            for norm in ("query_norm", "key_norm"):
                made[f"{block}.{side}_attn.norm.{norm}.scale"] = meta(128)
    for block in (f"single_blocks.{at}" for at in range(38)):
        made |= _linear(f"{block}.modulation.lin", 3 * width, width)
        made |= _linear(f"{block}.linear1", 7 * width, width)
        made |= _linear(f"{block}.linear2", width, 5 * width)
        for norm in ("query_norm", "key_norm"):
            made[f"{block}.norm.{norm}.scale"] = meta(128)
    return made


def bfl_flux2(width: int, double: int, single: int, text: int, *, guided: bool) -> Tensors:
    """FLUX.2's transformer by the names of its authors, shapes alone; none has a bias."""
    shapes: dict[str, tuple[int, ...]] = {
        "img_in.weight": (width, 128),
        "txt_in.weight": (width, text),
        "final_layer.linear.weight": (128, width),
        "final_layer.adaLN_modulation.1.weight": (2 * width, width),
        "single_stream_modulation.lin.weight": (3 * width, width),
    }
    for name in ("time_in", "guidance_in") if guided else ("time_in",):
        shapes[f"{name}.in_layer.weight"] = (width, 256)
        shapes[f"{name}.out_layer.weight"] = (width, width)
    for side in ("img", "txt"):
        shapes[f"double_stream_modulation_{side}.lin.weight"] = (6 * width, width)
        for block in (f"double_blocks.{at}" for at in range(double)):
            shapes[f"{block}.{side}_attn.qkv.weight"] = (3 * width, width)
            shapes[f"{block}.{side}_attn.proj.weight"] = (width, width)
            shapes[f"{block}.{side}_mlp.0.weight"] = (6 * width, width)
            shapes[f"{block}.{side}_mlp.2.weight"] = (width, 3 * width)
            for norm in ("query_norm", "key_norm"):
                shapes[f"{block}.{side}_attn.norm.{norm}.scale"] = (128,)
    for block in (f"single_blocks.{at}" for at in range(single)):
        shapes[f"{block}.linear1.weight"] = (9 * width, width)
        shapes[f"{block}.linear2.weight"] = (width, 4 * width)
        for norm in ("query_norm", "key_norm"):
            shapes[f"{block}.norm.{norm}.scale"] = (128,)
    return {name: meta(*shape) for name, shape in shapes.items()}


def mmdit(depth: int, *, normed: bool, dual: int, side: int) -> Tensors:
    """Stable Diffusion 3's transformer by the names of its authors (`mmdit.py`), shapes alone.

    Args:
        normed: Whether queries and keys are normed.
        dual: How many blocks have a second attention.
        side: Of the table of positions.
    """
    width = 64 * depth
    made: Tensors = {
        "pos_embed": meta(1, side * side, width),
        "x_embedder.proj.weight": meta(width, 16, 2, 2),
        "x_embedder.proj.bias": meta(width),
        **_linear("context_embedder", width, 4096),
        **_linear("final_layer.linear", 64, width),
        **_linear("final_layer.adaLN_modulation.1", 2 * width, width),
    }
    for name, inside in (("t_embedder", 256), ("y_embedder", 2048)):
        made |= _linear(f"{name}.mlp.0", width, inside) | _linear(f"{name}.mlp.2", width, width)
    for at in range(depth):
        for part in ("x_block", "context_block"):
            block = f"joint_blocks.{at}.{part}"
            # The last block gives no text on.
            is_end = part == "context_block" and at == depth - 1
            twice = part == "x_block" and at < dual
            shifts = 2 if is_end else 9 if twice else 6
            made |= _linear(f"{block}.adaLN_modulation.1", shifts * width, width)
            for attention in ("attn", "attn2") if twice else ("attn",):
                made |= _linear(f"{block}.{attention}.qkv", 3 * width, width)
                if not is_end:
                    made |= _linear(f"{block}.{attention}.proj", width, width)
                for norm in ("ln_q", "ln_k") if normed else ():
                    made[f"{block}.{attention}.{norm}.weight"] = meta(64)
            if not is_end:
                made |= _linear(f"{block}.mlp.fc1", 4 * width, width)
                made |= _linear(f"{block}.mlp.fc2", width, 4 * width)
    return made


def comfy_z_image(tensors: Tensors) -> Tensors:
    """Z-Image's transformer as single files have it, queries, keys and values in one."""
    written: Tensors = {"norm_final.weight": meta(3840)}
    for name, tensor in tensors.items():
        new = name.replace("all_final_layer.2-1.", "final_layer.")
        new = new.replace("all_x_embedder.2-1.", "x_embedder.")
        for ours, theirs in (("to_out.0", "out"), ("norm_k", "k_norm"), ("norm_q", "q_norm")):
            new = new.replace(f".attention.{ours}.", f".attention.{theirs}.")
        if ".attention.to_q." in name:
            fused = [tensors[name.replace("to_q", f"to_{x}")] for x in "qkv"]
            written[new.replace("to_q", "qkv")] = torch.cat(fused)
        elif ".attention.to_k." not in name and ".attention.to_v." not in name:
            written[new] = tensor
    return written
