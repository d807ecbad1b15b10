"""Weight files of real models with their real names and shapes, and not a byte of weights.

The tensors of the original repositories' layouts are generated; files are as long as the real ones
and lie on the disk as holes.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

Shapes = dict[str, tuple[int, ...]]

_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "U8": 1, "I8": 1, "I16": 2, "F64": 8}


def put(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    dtype: str = "F16",
    dtypes: Mapping[str, str] | None = None,
    **metadata: str,
) -> Path:
    """A safetensors file of these tensors, all of one type but those in `dtypes`."""
    entries: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name, shape in shapes.items():
        kind = (dtypes or {}).get(name, dtype)
        begin, end = end, end + math.prod(shape) * _BYTES[kind]
        entries[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(entries).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return path


def put_gguf(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    dtype: str = "Q8_0",
    texts: Mapping[str, str] | None = None,
    originals: Mapping[str, tuple[int, ...]] | None = None,
    vocabulary: int = 0,
) -> Path:
    """A GGUF file of these tensors; those that no block divides are stored as F32.

    Args:
        originals: Shapes of tensors that are stored flatter than they are.
        vocabulary: Words in a list of texts among the metadata.
    """
    keys = [_text(key) + struct.pack("<I", 8) + _text(text) for key, text in (texts or {}).items()]
    for name, shape in (originals or {}).items():
        begin = _text(f"comfy.gguf.orig_shape.{name}") + struct.pack("<IIQ", 9, 5, len(shape))
        keys.append(begin + struct.pack(f"<{len(shape)}i", *shape))
    if vocabulary:
        words = b"".join(_text(f"word{n}") for n in range(vocabulary))
        keys.append(_text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, vocabulary) + words)
    tensors, end = b"", 0
    for name, shape in shapes.items():
        number, block, size = _GGUF[dtype]
        if math.prod(shape) % block or len(shape) < 2:
            number, block, size = _GGUF["F32"]
        tensors += _text(name) + struct.pack("<I", len(shape))
        tensors += struct.pack(f"<{len(shape)}Q", *reversed(shape)) + struct.pack(
            "<IQ", number, end
        )
        end += -(-math.prod(shape) // block * size // 32) * 32
    head = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(keys)) + b"".join(keys) + tensors
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(-(-len(head) // 32) * 32 + end)
    return path


_GGUF = {"F32": (0, 1, 4), "F16": (1, 1, 2), "Q8_0": (8, 32, 34), "Q4_K": (12, 256, 144)}


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def under(prefix: str, *groups: Shapes) -> Shapes:
    """The tensors with `prefix` before their names."""
    return {prefix + name: shape for group in groups for name, shape in group.items()}


def ldm_unet(
    context: int,
    *,
    inputs: int = 4,
    width: int = 320,
    levels: tuple[int, ...] = (1, 2, 4, 4),
    depths: tuple[int, ...] = (1, 1, 1, 0),
    middle: int = 1,
    sizes: int = 0,
) -> Shapes:
    """A UNet of `ldm/modules/diffusionmodules/openaimodel.py`, by default Stable Diffusion 1's."""
    return dict(_ldm_unet(context, inputs, width, levels, depths, middle, sizes))


def sdxl_unet(inputs: int = 4) -> Shapes:
    return ldm_unet(2048, inputs=inputs, levels=(1, 2, 4), depths=(0, 2, 10), middle=10, sizes=2816)


def refiner_unet() -> Shapes:
    return ldm_unet(1280, width=384, depths=(0, 4, 4, 0), middle=4, sizes=2560)


def sd1(inputs: int = 4) -> Shapes:
    return (
        under("model.diffusion_model.", ldm_unet(768, inputs=inputs))
        | under("first_stage_model.", vae())
        | under("cond_stage_model.transformer.", clip(768, 12))
    )


def sd2(inputs: int = 4) -> Shapes:
    return (
        under("model.diffusion_model.", ldm_unet(1024, inputs=inputs))
        | under("first_stage_model.", vae())
        | under("cond_stage_model.model.", open_clip(1024, 24))
    )


def sdxl(inputs: int = 4) -> Shapes:
    return (
        under("model.diffusion_model.", sdxl_unet(inputs))
        | under("first_stage_model.", vae())
        | under("conditioner.embedders.0.transformer.", clip(768, 12))
        | under("conditioner.embedders.1.model.", open_clip(1280, 32))
    )


def refiner() -> Shapes:
    return (
        under("model.diffusion_model.", refiner_unet())
        | under("first_stage_model.", vae())
        | under("conditioner.embedders.0.model.", open_clip(1280, 32))
    )


def sd3(depth: int, *, twice: bool = False) -> Shapes:
    """The transformer of SD 3 and 3.5; `depth` gives its width too."""
    width = 64 * depth
    shapes: Shapes = {
        "pos_embed": (1, 384**2 if twice else 192**2, width),
        **_linear("y_embedder.mlp.0", width, 2048),
        **_linear("t_embedder.mlp.0", width, 256),
        **_linear("context_embedder", width, 4096),
        "x_embedder.proj.weight": (width, 16, 2, 2),
        "x_embedder.proj.bias": (width,),
        **_linear("final_layer.linear", 64, width),
    }
    for n in range(depth):
        for block in ("context_block", "x_block"):
            begin = f"joint_blocks.{n}.{block}"
            dual = twice and block == "x_block" and n < 13
            shapes |= _linear(f"{begin}.adaLN_modulation.1", (9 if dual else 6) * width, width)
            for attention in ("attn", "attn2") if dual else ("attn",):
                shapes |= _linear(f"{begin}.{attention}.qkv", 3 * width, width)
                shapes |= _linear(f"{begin}.{attention}.proj", width, width)
            shapes |= _linear(f"{begin}.mlp.fc1", 4 * width, width)
            shapes |= _linear(f"{begin}.mlp.fc2", width, 4 * width)
    return shapes


def flux(*, guidance: bool = True, inputs: int = 64, double: int = 19, single: int = 38) -> Shapes:
    """FLUX.1's transformer as Black Forest Labs publish it."""
    width = 3072
    shapes: Shapes = {
        **_linear("img_in", width, inputs),
        **_linear("txt_in", width, 4096),
        **_linear("time_in.in_layer", width, 256),
        **_linear("vector_in.in_layer", width, 768),
        **_linear("final_layer.linear", 64, width),
        **(_linear("guidance_in.in_layer", width, 256) if guidance else {}),
    }
    for n in range(double):
        for stream in ("img", "txt"):
            begin = f"double_blocks.{n}.{stream}"
            shapes |= _linear(f"{begin}_mod.lin", 6 * width, width)
            shapes |= _linear(f"{begin}_attn.qkv", 3 * width, width)
            shapes |= _linear(f"{begin}_attn.proj", width, width)
            shapes |= {f"{begin}_attn.norm.{w}_norm.scale": (128,) for w in ("query", "key")}
            shapes |= _linear(f"{begin}_mlp.0", 4 * width, width)
            shapes |= _linear(f"{begin}_mlp.2", width, 4 * width)
    for n in range(single):
        begin = f"single_blocks.{n}"
        shapes |= _linear(f"{begin}.linear1", 7 * width, width)
        shapes |= _linear(f"{begin}.linear2", width, 5 * width)
        shapes |= {f"{begin}.norm.{what}_norm.scale": (128,) for what in ("query", "key")}
        shapes |= _linear(f"{begin}.modulation.lin", 3 * width, width)
    return shapes


def flux2(width: int, context: int, double: int, single: int, *, guidance: bool = True) -> Shapes:
    """FLUX.2's transformer, which has no biases."""
    shapes: Shapes = {
        "img_in.weight": (width, 128),
        "txt_in.weight": (width, context),
        "time_in.in_layer.weight": (width, 256),
        "double_stream_modulation_img.lin.weight": (6 * width, width),
        "double_stream_modulation_txt.lin.weight": (6 * width, width),
        "single_stream_modulation.lin.weight": (3 * width, width),
        "final_layer.linear.weight": (128, width),
        **({"guidance_in.in_layer.weight": (width, 256)} if guidance else {}),
    }
    for n in range(double):
        for stream in ("img", "txt"):
            begin = f"double_blocks.{n}.{stream}"
            shapes[f"{begin}_attn.qkv.weight"] = (3 * width, width)
            shapes[f"{begin}_attn.proj.weight"] = (width, width)
            shapes |= {f"{begin}_attn.norm.{w}_norm.scale": (128,) for w in ("query", "key")}
            shapes[f"{begin}_mlp.0.weight"] = (6 * width, width)
            shapes[f"{begin}_mlp.2.weight"] = (width, 3 * width)
    for n in range(single):
        begin = f"single_blocks.{n}"
        shapes[f"{begin}.linear1.weight"] = (9 * width, width)
        shapes[f"{begin}.linear2.weight"] = (width, 4 * width)
        shapes |= {f"{begin}.norm.{what}_norm.scale": (128,) for what in ("query", "key")}
    return shapes


def z_image() -> Shapes:
    """Z-Image's transformer as ComfyUI has it."""
    width = 3840
    shapes: Shapes = {
        "cap_embedder.0.weight": (2560,),
        **_linear("cap_embedder.1", width, 2560),
        "cap_pad_token": (1, width),
        "x_pad_token": (1, width),
        **_linear("x_embedder", width, 64),
        **_linear("final_layer.linear", 64, width),
        **_linear("t_embedder.mlp.0", 1024, 256),
    }
    blocks = [f"layers.{n}" for n in range(30)]
    blocks += [f"{kind}_refiner.{n}" for kind in ("noise", "context") for n in range(2)]
    for block in blocks:
        if not block.startswith("context"):
            shapes |= _linear(f"{block}.adaLN_modulation.0", 4 * width, 256)
        shapes[f"{block}.attention.qkv.weight"] = (3 * width, width)
        shapes[f"{block}.attention.out.weight"] = (width, width)
        shapes |= {f"{block}.attention.{what}_norm.weight": (128,) for what in "qk"}
        shapes |= {f"{block}.attention_norm{n}.weight": (width,) for n in (1, 2)}
        shapes |= {f"{block}.feed_forward.w{n}.weight": (10240, width) for n in (1, 3)}
    return shapes


def qwen_image(depth: int = 60) -> Shapes:
    width = 3072
    shapes: Shapes = {
        "txt_norm.weight": (3584,),
        **_linear("img_in", width, 64),
        **_linear("txt_in", width, 3584),
        **_linear("time_text_embed.timestep_embedder.linear_1", width, 256),
        **_linear("norm_out.linear", 2 * width, width),
        **_linear("proj_out", 64, width),
    }
    for n in range(depth):
        begin = f"transformer_blocks.{n}"
        for stream in ("img", "txt"):
            shapes |= _linear(f"{begin}.{stream}_mod.1", 6 * width, width)
            shapes |= _linear(f"{begin}.{stream}_mlp.net.0.proj", 4 * width, width)
            shapes |= _linear(f"{begin}.{stream}_mlp.net.2", width, 4 * width)
        for layer in ("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "to_out.0"):
            shapes |= _linear(f"{begin}.attn.{layer}", width, width)
    return shapes


def vae(channels: int = 4) -> Shapes:
    """The VAE of Stable Diffusion; its successors differ in the channels of the latents."""
    shapes: Shapes = {
        **_convolution("encoder.conv_in", 128, 3),
        **_convolution("encoder.conv_out", 2 * channels, 512),
        **_convolution("decoder.conv_in", 512, channels),
        **_convolution("decoder.conv_out", 3, 128),
    }
    if channels == 4:
        shapes |= _convolution("quant_conv", 8, 8, 1) | _convolution("post_quant_conv", 4, 4, 1)
    if channels == 32:
        shapes |= {"bn.running_mean": (128,), "bn.running_var": (128,)}
    for side, direction, blocks in (("encoder", "down", 2), ("decoder", "up", 3)):
        for level, width in enumerate((128, 256, 512, 512)):
            for block in range(blocks):
                begin = f"{side}.{direction}.{level}.block.{block}"
                shapes |= _convolution(f"{begin}.conv1", width, width)
                shapes |= _convolution(f"{begin}.conv2", width, width)
        shapes |= {f"{side}.mid.attn_1.{w}.weight": (512, 512, 1, 1) for w in ("q", "k", "v")}
    return shapes


def wan_vae(channels: int = 16, width: int = 384, colours: int = 3) -> Shapes:
    """The VAE of Wan, which is Qwen-Image's too: what is around its blocks."""
    return {
        "encoder.conv1.weight": (width // 4, colours, 3, 3, 3),
        "conv2.weight": (channels, channels, 1, 1, 1),
        "decoder.conv1.weight": (width, channels, 3, 3, 3),
        "decoder.conv1.bias": (width,),
        "decoder.middle.0.residual.0.gamma": (width, 1, 1, 1),
        "decoder.head.2.weight": (colours, width // 4, 3, 3, 3),
        "decoder.head.2.bias": (colours,),
    }


def clip(width: int, depth: int, positions: int = 77) -> Shapes:
    """CLIP as transformers has it."""
    shapes: Shapes = {
        "text_model.embeddings.token_embedding.weight": (49408, width),
        "text_model.embeddings.position_embedding.weight": (positions, width),
        **_norm("text_model.final_layer_norm", width),
    }
    for n in range(depth):
        begin = f"text_model.encoder.layers.{n}"
        for layer in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _linear(f"{begin}.self_attn.{layer}", width, width)
        shapes |= _linear(f"{begin}.mlp.fc1", 4 * width, width)
        shapes |= _linear(f"{begin}.mlp.fc2", width, 4 * width)
        shapes |= _norm(f"{begin}.layer_norm1", width) | _norm(f"{begin}.layer_norm2", width)
    return shapes


def open_clip(width: int, depth: int) -> Shapes:
    shapes: Shapes = {
        "positional_embedding": (77, width),
        "token_embedding.weight": (49408, width),
        "text_projection": (width, width),
        **_norm("ln_final", width),
    }
    for n in range(depth):
        begin = f"transformer.resblocks.{n}"
        shapes |= {
            f"{begin}.attn.in_proj_weight": (3 * width, width),
            f"{begin}.attn.in_proj_bias": (3 * width,),
        }
        shapes |= _linear(f"{begin}.attn.out_proj", width, width)
        shapes |= _linear(f"{begin}.mlp.c_fc", 4 * width, width)
        shapes |= _linear(f"{begin}.mlp.c_proj", width, 4 * width)
        shapes |= _norm(f"{begin}.ln_1", width) | _norm(f"{begin}.ln_2", width)
    return shapes


def t5(width: int = 4096, depth: int = 24, *, languages: bool = False) -> Shapes:
    """The encoder of T5, with `languages` the one that knows many."""
    shapes: Shapes = {
        "shared.weight": (256384 if languages else 32128, width),
        "encoder.final_layer_norm.weight": (width,),
    }
    for n in range(depth):
        begin = f"encoder.block.{n}.layer.0.SelfAttention"
        shapes |= {f"{begin}.{what}.weight": (width, width) for what in "qkvo"}
        if languages or n == 0:
            shapes[f"{begin}.relative_attention_bias.weight"] = (32, 64)
    return shapes


def language_model(
    width: int,
    depth: int,
    *,
    query_norm: bool,
    prefix: str = "model.",
    vocabulary: int = 151936,
    inner: int = 9_728,
) -> Shapes:
    shapes: Shapes = {"embed_tokens.weight": (vocabulary, width), "norm.weight": (width,)}
    for n in range(depth):
        begin = f"layers.{n}"
        shapes |= {f"{begin}.self_attn.{w}_proj.weight": (width, width) for w in "qkvo"}
        shapes |= {f"{begin}.mlp.{w}_proj.weight": (inner, width) for w in ("gate", "up")}
        shapes[f"{begin}.mlp.down_proj.weight"] = (width, inner)
        shapes[f"{begin}.input_layernorm.weight"] = (width,)
        if query_norm:
            shapes |= {f"{begin}.self_attn.{what}_norm.weight": (128,) for what in "qk"}
    return under(prefix, shapes)


def qwen3_vl(width: int, prefix: str = "model.visual.") -> Shapes:
    """Qwen3-VL as ComfyUI has it: Qwen3 by its sizes, with an encoder of pictures beside."""
    visual: Shapes = {
        "deepstack_merger_list.0.norm.weight": (4096,),
        "merger.linear_fc2.weight": (width, 4096),
    }
    return language_model(width, 36, query_norm=True) | under(prefix, visual)


def nvfp4(shapes: Shapes, layers: tuple[str, ...]) -> tuple[Shapes, dict[str, str]]:
    """Shapes and types of a model of which ComfyUI has packed these layers, two numbers to a byte,
    each sixteen with a scale."""
    packed = dict(shapes)
    types: dict[str, str] = {}
    for layer in layers:
        rows, width = shapes[f"{layer}.weight"]
        packed |= {
            f"{layer}.weight": (rows, width // 2),
            f"{layer}.weight_scale": (rows, width // 16),
            f"{layer}.weight_scale_2": (),
            f"{layer}.comfy_quant": (19,),
        }
        types |= {
            f"{layer}.weight": "U8",
            f"{layer}.weight_scale": "F8_E4M3",
            f"{layer}.weight_scale_2": "F32",
            f"{layer}.comfy_quant": "U8",
        }
    return packed, types


def bnb_nf4(shapes: Shapes, but: tuple[str, ...] = ()) -> tuple[Shapes, dict[str, str]]:
    """Shapes and types of a model as bitsandbytes packs it, two numbers to a byte."""
    packed: Shapes = {}
    types: dict[str, str] = {}
    for name, shape in shapes.items():
        if len(shape) != 2 or not name.endswith(".weight") or name in but:
            packed[name] = shape
            continue
        count = math.prod(shape)
        packed[name] = ((count + 1) // 2, 1)
        packed[f"{name}.absmax"] = (math.ceil(count / 64),)
        packed[f"{name}.quant_map"] = (16,)
        packed[f"{name}.quant_state.bitsandbytes__nf4"] = (105,)
        types |= {
            name: "U8",
            f"{name}.absmax": "F32",
            f"{name}.quant_map": "F32",
            f"{name}.quant_state.bitsandbytes__nf4": "U8",
        }
    return packed, types


def _linear(name: str, outputs: int, inputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _convolution(name: str, outputs: int, inputs: int, size: int = 3) -> Shapes:
    return {f"{name}.weight": (outputs, inputs, size, size), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _ldm_unet(
    context: int,
    inputs: int,
    width: int,
    levels: tuple[int, ...],
    depths: tuple[int, ...],
    middle: int,
    sizes: int,
) -> Iterator[tuple[str, tuple[int, ...]]]:
    time = 4 * width
    yield from _linear("time_embed.0", time, width).items()
    yield from _linear("time_embed.2", time, time).items()
    if sizes:
        yield from _linear("label_emb.0.0", time, sizes).items()
        yield from _linear("label_emb.0.2", time, time).items()
    yield from _convolution("input_blocks.0.0", width, inputs).items()
    widths, at, now = [width], 0, width
    for level, (times, depth) in enumerate(zip(levels, depths, strict=True)):
        for _ in range(2):
            at += 1
            yield from _residual(f"input_blocks.{at}.0", now, width * times, time)
            now = width * times
            widths.append(now)
            if depth:
                yield from _transformer(f"input_blocks.{at}.1", now, depth, context)
        if level < len(levels) - 1:
            at += 1
            yield from _convolution(f"input_blocks.{at}.0.op", now, now).items()
            widths.append(now)
    yield from _residual("middle_block.0", now, now, time)
    yield from _transformer("middle_block.1", now, middle, context)
    yield from _residual("middle_block.2", now, now, time)
    at = 0
    for level in reversed(range(len(levels))):
        for block in range(3):
            yield from _residual(
                f"output_blocks.{at}.0", now + widths.pop(), width * levels[level], time
            )
            now = width * levels[level]
            if depths[level]:
                yield from _transformer(f"output_blocks.{at}.1", now, depths[level], context)
            if level and block == 2:
                place = 2 if depths[level] else 1
                yield from _convolution(f"output_blocks.{at}.{place}.conv", now, now).items()
            at += 1
    yield from _norm("out.0", width).items()
    yield from _convolution("out.2", 4, width).items()


def _residual(
    begin: str, inputs: int, outputs: int, time: int
) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from _norm(f"{begin}.in_layers.0", inputs).items()
    yield from _convolution(f"{begin}.in_layers.2", outputs, inputs).items()
    yield from _linear(f"{begin}.emb_layers.1", outputs, time).items()
    yield from _norm(f"{begin}.out_layers.0", outputs).items()
    yield from _convolution(f"{begin}.out_layers.3", outputs, outputs).items()
    if inputs != outputs:
        yield from _convolution(f"{begin}.skip_connection", outputs, inputs, 1).items()


def _transformer(
    begin: str, width: int, depth: int, context: int
) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from _norm(f"{begin}.norm", width).items()
    yield from _linear(f"{begin}.proj_in", width, width).items()
    yield from _linear(f"{begin}.proj_out", width, width).items()
    for n in range(depth):
        block = f"{begin}.transformer_blocks.{n}"
        for norm in ("norm1", "norm2", "norm3"):
            yield from _norm(f"{block}.{norm}", width).items()
        for attention, inputs in (("attn1", width), ("attn2", context)):
            yield f"{block}.{attention}.to_q.weight", (width, width)
            yield f"{block}.{attention}.to_k.weight", (width, inputs)
            yield f"{block}.{attention}.to_v.weight", (width, inputs)
            yield from _linear(f"{block}.{attention}.to_out.0", width, width).items()
        yield from _linear(f"{block}.ff.net.0.proj", 8 * width, width).items()
        yield from _linear(f"{block}.ff.net.2", width, 4 * width).items()
