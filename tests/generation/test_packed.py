"""What bitsandbytes and llama.cpp have packed, unpacked without them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import gguf
import pytest
import torch
import transformers
from gguf import GGMLQuantizationType as Kind
from safetensors import torch as safetensors

from tests.fakes import NO_CONTENT
from tests.generation.test_loading_transformers import (
    FluxFiles,
    Tensors,
    checkpoint_of,
    load,
    picture,
    prefixed,
    qwen3,
    seed,
    state,
)
from webui.errors import BrokenFileError
from webui.generation import four_bits
from webui.generation.file_parts import load_part
from webui.generation.weight_sizes import sizes_for
from webui.library.checkpoints import Checkpoint
from webui.library.recognised_files import FileReader

save_file: Any = cast(Any, safetensors).save_file
G: Any = gguf
T: Any = transformers

NF4 = torch.tensor(
    [
        *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
        *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
        *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
        *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
    ]
)
"""The values of the published format (arXiv 2305.14314, appendix E)."""


@pytest.fixture
def flux(tmp_path: Path) -> FluxFiles:
    return FluxFiles(tmp_path)


def packed(name: str, weight: torch.Tensor, *, nested: bool = False) -> tuple[Tensors, Any]:
    """A weight as bitsandbytes packs it, and what it stands for by the published formula."""
    flat = weight.to(torch.float32).flatten()
    filled = torch.cat([flat, torch.zeros(-len(flat) % 64)]).view(-1, 64)
    scales = filled.abs().amax(1)
    said: dict[str, Any] = {"blocksize": 64, "shape": list(weight.shape), "dtype": "bfloat16"}
    beside: Tensors = {".quant_map": NF4.clone()}
    if nested:
        table, offset = torch.linspace(-1, 1, 256), scales.mean()
        largest = (scales - offset).abs().max().repeat(-(-len(scales) // 256))
        at = ((scales - offset) / largest[0])[:, None].sub(table).abs().argmin(1)
        said |= {"nested_blocksize": 256, "nested_offset": offset.item()}
        beside |= {".absmax": at.to(torch.uint8), ".nested_absmax": largest}
        beside[".nested_quant_map"] = table
        scales = table[at] * largest[0] + offset.item()
    else:
        beside[".absmax"] = scales
    codes = (filled / scales[:, None]).unsqueeze(-1).sub(NF4).abs().argmin(-1)
    expected = (NF4[codes] * scales[:, None]).flatten()[: len(flat)].view(weight.shape)
    pairs = codes.flatten()[: len(flat) + len(flat) % 2].view(-1, 2)
    beside[""] = (pairs[:, 0] * 16 + pairs[:, 1]).to(torch.uint8)[:, None]
    beside[four_bits.MARKS[0]] = torch.tensor([*json.dumps(said).encode()], dtype=torch.uint8)
    return {f"{name}{end}": tensor for end, tensor in beside.items()}, expected


def pack(tensors: Tensors, *, nested: bool = False) -> tuple[Tensors, Tensors]:
    """All matrices packed, the rest as it is; and what that is once unpacked."""
    stored: Tensors = {}
    whole: Tensors = {}
    for name, tensor in tensors.items():
        if tensor.ndim == 2:
            more, whole[name] = packed(name, tensor, nested=nested)
            stored |= more
        else:
            stored[name] = whole[name] = tensor
    return stored, whole


@pytest.mark.parametrize("nested", [False, True])
def test_a_single_file_packed_in_4_bits_is_the_model_it_stands_for(
    flux: FluxFiles, nested: bool
) -> None:
    stored, whole = pack(state(flux.pipe, "transformer"), nested=nested)
    prefix = "model.diffusion_model."
    checkpoint = flux.write(prefixed(prefix, stored))
    pipe = load(checkpoint, flux.others)
    found = state(pipe, "transformer")
    assert found.keys() == whole.keys()
    assert all(torch.equal(found[name], whole[name]) for name in whole)
    assert torch.isfinite(picture(pipe)).all()
    sizes = sizes_for(checkpoint, "Flux", torch.bfloat16)
    assert sizes.denoiser == 2 * sum(tensor.numel() for tensor in whole.values())


@pytest.mark.parametrize("count", [1, 63, 64, 65, 129])
def test_a_weight_that_does_not_fill_its_blocks_is_whole(count: int) -> None:
    tensors, expected = packed("w", torch.randn(count))
    assert torch.equal(four_bits.unpacked(tensors, torch.float32)["w"], expected)


def test_a_weight_in_8_bits_is_its_numbers_times_their_rows_largest() -> None:
    weight, rows = torch.randint(-127, 128, (4, 6), dtype=torch.int8), torch.rand(4)
    tensors = {
        "a.weight": weight,
        "a.SCB": rows,
        "a.weight_format": torch.zeros((), dtype=torch.uint8),
    }
    found = four_bits.unpacked(tensors, torch.float32)
    assert found.keys() == {"a.weight"}
    assert torch.equal(found["a.weight"], weight * (rows / 127)[:, None])
    tensors["a.weight_format"] += 1
    with pytest.raises(ValueError, match="old graphics card"):
        four_bits.unpacked(tensors, torch.float32)


def said(**changes: object) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        mark = f"w{four_bits.MARKS[0]}"
        values = json.loads(bytes(cast(Any, tensors[mark]).tolist())) | changes
        text = json.dumps({k: v for k, v in values.items() if v is not None})
        tensors[mark] = torch.tensor([*text.encode()], dtype=torch.uint8)

    return change


def without(name: str) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        del tensors[name]

    return change


DAMAGES: Mapping[str, Callable[[Tensors], None]] = MappingProxyType(
    {
        "shape": said(shape=[64, 65]),
        "no shape": said(shape=None),
        "block": said(blocksize=0),
        "blocks": said(blocksize=32),
        "nested block": said(nested_blocksize=8),
        "no JSON": lambda t: t.update(
            {f"w{four_bits.MARKS[0]}": torch.zeros(3, dtype=torch.uint8)}
        ),
        "no table": without("w.quant_map"),
        "no scales": without("w.absmax"),
        "no nested table": without("w.nested_quant_map"),
    }
)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_packing_is_said(damage: str) -> None:
    tensors, _ = packed("w", torch.randn(64, 64), nested=True)
    DAMAGES[damage](tensors)
    with pytest.raises(ValueError, match=r"\w"):
        four_bits.unpacked(tensors, torch.float32)


def test_a_damaged_file_is_named(flux: FluxFiles) -> None:
    stored, _ = pack(state(flux.pipe, "transformer"))
    stored.pop("x_embedder.weight.absmax")
    with pytest.raises(BrokenFileError, match=r"\.safetensors is damaged: what x_embedder"):
        load(flux.write(stored), flux.others)


def write_folder(flux: FluxFiles, folder: Path, **how: object) -> Tensors:
    """The whole model as a folder, its T5 and transformer packed; what the latter stands for."""
    flux.pipe.save_pretrained(folder)
    whole: Tensors = {}
    for part in ("text_encoder_2", "transformer"):
        (weights,) = (folder / part).glob("*.safetensors")
        stored, whole = pack(state(flux.pipe, part))
        stored.pop("encoder.embed_tokens.weight", None)
        names = sorted(stored)
        weights.unlink()
        # A shard may end between a weight and what it is packed with.
        for at, some in enumerate((names[: len(names) // 2], names[len(names) // 2 :])):
            save_file({name: stored[name] for name in some}, folder / part / f"{at}.safetensors")
        config = folder / part / "config.json"
        packing = {"quantization_config": {"quant_method": "bitsandbytes"} | how}
        config.write_text(json.dumps(json.loads(config.read_text()) | packing))
    return whole


def test_a_folder_packed_by_bitsandbytes_is_unpacked(flux: FluxFiles, tmp_path: Path) -> None:
    folder = tmp_path / "packed"
    whole = write_folder(flux, folder)
    assert FileReader().read(folder).recognised.problem is None
    pipe = load(Checkpoint("packed", folder, "FluxPipeline", key="p", content=NO_CONTENT))
    found = state(pipe, "transformer")
    assert all(torch.equal(found[name], whole[name]) for name in whole)
    assert torch.isfinite(picture(pipe)).all()


def test_a_folder_packed_by_another_program_says_so(flux: FluxFiles, tmp_path: Path) -> None:
    folder = tmp_path / "packed"
    write_folder(flux, folder, quant_method="torchao")
    problem = "is packed by torchao, which is not read here: take its bf16"
    assert problem in (FileReader().read(folder).recognised.problem or "")
    with pytest.raises(BrokenFileError, match=problem):
        load(Checkpoint("packed", folder, "FluxPipeline", key="p", content=NO_CONTENT))


@pytest.mark.parametrize("quant_type", ["nf4", "fp4"])
@pytest.mark.parametrize("nested", [False, True])
def test_bitsandbytes_itself_unpacks_to_the_same(quant_type: str, nested: bool) -> None:
    functional: Any = pytest.importorskip("bitsandbytes.functional")
    weight = torch.randn(96, 128)
    data, how = functional.quantize_4bit(
        weight, blocksize=64, quant_type=quant_type, compress_statistics=nested
    )
    tensors: Tensors = {"w": data} | {f"w.{k}": v for k, v in how.as_dict(packed=True).items()}
    ours = four_bits.unpacked(tensors, torch.float32)["w"]
    assert torch.allclose(ours, functional.dequantize_4bit(data, how), rtol=0, atol=1e-6)


def write_gguf(
    path: Path, model: Any, architecture: Any, begins: str, *, heads: tuple[int, int] | None = None
) -> Tensors:
    """A text encoder by the names of the gguf package; what its weights stand for.

    Args:
        begins: What transformers puts before the names that the package knows.
        heads: Of queries, and of keys and values, where llama.cpp turns their rows.
    """
    writer = G.GGUFWriter(str(path), G.MODEL_ARCH_NAMES[architecture])
    if heads is not None:
        writer.add_head_count(heads[0])
        writer.add_head_count_kv(heads[1])
    names = G.get_tensor_name_map(architecture, 8)
    whole: Tensors = {}
    for name, tensor in model.state_dict().items():
        if name == "encoder.embed_tokens.weight":
            continue
        known = names.get_name(begins + name.removeprefix("model."), (".weight", ".bias"))
        assert known is not None, name
        data = tensor.to(torch.float32).numpy()
        which = {"attn_q.weight": 0, "attn_k.weight": 1}.get(known.split(".", 2)[-1])
        if heads is not None and which is not None:
            # As `LlamaModel.permute` of llama.cpp's convert_hf_to_gguf.py.
            split = data.reshape(heads[which], 2, len(data) // heads[which] // 2, -1)
            data = split.swapaxes(1, 2).reshape(data.shape)
        if tensor.ndim == 2 and tensor.shape[1] % 32 == 0 and heads is None:
            stored = G.quants.quantize(data, Kind.Q8_0)
            writer.add_tensor(known, stored, raw_dtype=Kind.Q8_0)
            whole[name] = cast(Any, torch).from_numpy(G.quants.dequantize(stored, Kind.Q8_0))
        else:
            writer.add_tensor(known, data)
            whole[name] = tensor
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return whole


def gated_t5() -> Any:
    """As T5 v1.1 is built."""
    config = T.T5Config(
        vocab_size=64,
        d_model=32,
        d_ff=48,
        d_kv=8,
        num_heads=4,
        num_layers=2,
        feed_forward_proj="gated-gelu",
    )
    return T.T5EncoderModel(config)


def mistral() -> Any:
    config = T.MistralConfig(
        vocab_size=64,
        hidden_size=64,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
    )
    return T.MistralModel(config)


ENCODERS = MappingProxyType(
    {
        "T5": (gated_t5, gguf.MODEL_ARCH.T5ENCODER, "", None),
        "Qwen3": (lambda: T.Qwen3Model(qwen3()), gguf.MODEL_ARCH.QWEN3, "model.", None),
        "Mistral": (mistral, gguf.MODEL_ARCH.LLAMA, "model.", (4, 2)),
    }
)


@pytest.mark.parametrize("what", ENCODERS)
def test_a_text_encoder_as_gguf_is_the_one_it_stands_for(tmp_path: Path, what: str) -> None:
    seed(6)
    make, architecture, begins, heads = ENCODERS[what]
    model = make()
    whole = write_gguf(tmp_path / "a.gguf", model, architecture, begins, heads=heads)
    model.config.save_pretrained(tmp_path / "text_encoder")
    checkpoint = Checkpoint("a", tmp_path, "P", tmp_path / "no", {}, key="a", content=NO_CONTENT)
    named = ("transformers", type(model).__name__)
    ours = load_part(tmp_path / "a.gguf", named, checkpoint, "text_encoder", torch.float32)
    found = ours.state_dict()
    assert all(torch.equal(found[name], whole[name]) for name in whole)
    ids = torch.tensor([[3, 4, 5]])
    expected = model.eval()(ids).last_hidden_state
    assert torch.allclose(ours(ids).last_hidden_state, expected, atol=0.05)


def test_a_gguf_of_another_kind_is_named(flux: FluxFiles, tmp_path: Path) -> None:
    file = tmp_path / "a.gguf"
    writer = G.GGUFWriter(str(file), "clip")
    writer.add_tensor("v.blk.0.weight", torch.ones(4).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(BrokenFileError, match="no text encoder that is known"):
        load(
            checkpoint_of(flux.write(state(flux.pipe, "transformer")).file or file, flux.config),
            flux.others | {"text_encoder_2": file},
        )
