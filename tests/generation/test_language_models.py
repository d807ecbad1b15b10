"""Of language models that read prompts no more is loaded, and counted, than is run."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import diffusers
import pytest
import torch
import transformers
from safetensors import torch as safetensors

from tests.fakes import NO_CONTENT
from tests.families.tiny_modern import mistral3, qwen3, qwen25_vl
from tests.generation.test_packed import pack
from webui.errors import BrokenFileError
from webui.generation.conversions import convert_text_encoder
from webui.generation.file_parts import load_part
from webui.generation.language_models import LAYERS_READ, PromptReader
from webui.generation.weight_sizes import sizes_for
from webui.library.checkpoints import Checkpoint

D: Any = diffusers
T: Any = transformers
load_file: Any = cast(Any, safetensors).load_file
save_file: Any = cast(Any, safetensors).save_file
seed: Any = cast(Any, torch).manual_seed
Tensors = dict[str, torch.Tensor]


class Encoder(NamedTuple):
    """A text encoder that is published with more than is run of it, small.

    Attributes:
        pipeline: What it reads for.
        layers: Those that are run.
        begins: How the names of its language model begin.
    """

    make: Callable[[], Any]
    pipeline: str
    layers: int
    begins: str = "model."

    @property
    def model(self) -> Any:
        seed(4)
        return self.make().eval()

    def pruned(self, model: Any, more: int = 0) -> Tensors:
        """The tensors of a file that lacks what is not run, by ComfyUI's names."""
        whole = len(model.get_decoder().layers)
        layers = self.layers + more
        behind = (f"{self.begins}layers.{at}." for at in range(layers, whole))
        last = (f"{self.begins}norm.",) if self.layers < whole else ()
        left_out = (*behind, *last, "lm_head", "model.visual", "model.vision", "model.multi")
        names = (name for name in model.state_dict() if not name.startswith(left_out))
        state = model.state_dict()
        return {name.replace(self.begins, "model."): state[name].clone() for name in names}


_TIED = {"tie_word_embeddings": True}
ENCODERS = MappingProxyType(
    {
        "dev": Encoder(lambda: mistral3(33), "Flux2Pipeline", 30, "model.language_model."),
        "klein": Encoder(lambda: qwen3(30, T.Qwen3ForCausalLM, **_TIED), "Flux2KleinPipeline", 27),
        "qwen-image": Encoder(qwen25_vl, "QwenImagePipeline", 2, "model.language_model."),
        # One of another class than is published, which is read to its end but one.
        "z-image": Encoder(lambda: qwen3(30, T.Qwen3ForCausalLM), "ZImagePipeline", 30),
    }
)


def write_encoder(folder: Path, encoder: Encoder, model: Any, way: str) -> Path:
    """The encoder's file or folder, written in one of the ways they come.

    Where these weights are rounded, the model's are too.
    """
    if way == "folder":
        return folder / "text_encoder"
    if way == "packed folder":
        (weights,) = (folder / "text_encoder").glob("*.safetensors")
        stored, whole = pack(load_file(weights))
        save_file(stored, weights)
        model.load_state_dict(convert_text_encoder(whole, model), strict=False)
        config = folder / "text_encoder" / "config.json"
        packing = {"quantization_config": {"quant_method": "bitsandbytes"}}
        config.write_text(json.dumps(json.loads(config.read_text()) | packing))
        return weights.parent
    more = {"pruned": 0, "less pruned": 1}.get(way)
    whole = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    file = folder / "a.safetensors"
    save_file(whole if more is None else encoder.pruned(model, more), file)
    return file


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("way", ["pruned", "less pruned", "whole", "folder", "packed folder"])
def test_of_a_language_model_no_more_is_read_than_is_run(
    tmp_path: Path, name: str, way: str
) -> None:
    encoder = ENCODERS[name]
    model = encoder.model
    kind = type(model).__name__
    model.save_pretrained(tmp_path / "text_encoder")
    index = {"_class_name": encoder.pipeline, "text_encoder": ["transformers", kind]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").write_text("{}")
    place = write_encoder(tmp_path, encoder, model, way)
    checkpoint = Checkpoint("a", tmp_path, encoder.pipeline, key="a", content=NO_CONTENT)
    ours = load_part(place, ("transformers", kind), checkpoint, "text_encoder", torch.float32)
    needed = encoder.pruned(model)
    weights = sum(weight.nbytes for weight in ours.parameters())
    assert weights == sum(tensor.nbytes for tensor in needed.values())
    assert not any("lm_head" in name for name in ours.state_dict())
    if place.is_dir():
        assert sizes_for(checkpoint, "P", torch.float32).text == weights
    ids = torch.tensor([[3, 4, 5, 250]])
    asked: dict[str, Any] = {"output_hidden_states": True, "use_cache": False}
    found, expected = (each(ids, **asked).hidden_states for each in (ours, model))
    assert len(found) == encoder.layers + 1
    alike = torch.equal if way != "packed folder" else partial(torch.allclose, atol=1e-4)
    assert all(alike(found[at], expected[at]) for at in range(encoder.layers + 1))


def test_a_language_model_that_lacks_layers_that_are_run_is_told(tmp_path: Path) -> None:
    encoder = ENCODERS["klein"]
    model = encoder.model
    model.save_pretrained(tmp_path / "text_encoder")
    checkpoint = Checkpoint("a", tmp_path, encoder.pipeline, key="a", content=NO_CONTENT)
    file = tmp_path / "a.safetensors"
    save_file(encoder.pruned(model, -1), file)
    named = ("transformers", "Qwen3ForCausalLM")
    with pytest.raises(BrokenFileError, match="incomplete"):
        load_part(file, named, checkpoint, "text_encoder", torch.float32)


def test_a_language_models_folder_that_another_program_has_packed_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "text_encoder"
    ENCODERS["klein"].model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    packing = {"quantization_config": {"quant_method": "fp8"}}
    (folder / "config.json").write_text(json.dumps(config | packing))
    checkpoint = Checkpoint("mine", tmp_path, "P", key="a", content=NO_CONTENT)
    named = ("transformers", "Qwen3ForCausalLM")
    with pytest.raises(BrokenFileError, match="text_encoder of the model 'mine' is packed by fp8"):
        load_part(folder, named, checkpoint, "text_encoder", torch.float32)


def test_of_a_language_models_folder_the_plain_version_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "text_encoder"
    model = ENCODERS["klein"].model
    model.save_pretrained(folder)
    for weight in model.parameters():
        weight.data.zero_()
    model.save_pretrained(folder, variant="fp16")
    checkpoint = Checkpoint("a", tmp_path, "P", key="a", content=NO_CONTENT)
    named = ("transformers", "Qwen3ForCausalLM")
    ours = load_part(folder, named, checkpoint, "text_encoder", torch.float32)
    assert all(weight.any() for weight in ours.parameters())


@pytest.mark.parametrize(
    ("name", "is_run"),
    [
        *(("blk.26.attn_q.weight", True), ("blk.27.attn_q.weight", False)),
        *(("token_embd.weight", True), ("output_norm.weight", False), ("output.weight", False)),
        *(("model.layers.27.mlp.up_proj.weight.absmax", False), ("lm_head.weight", False)),
        *(("model.language_model.layers.26.x", True), ("language_model.model.norm.weight", False)),
        *(("visual.blocks.3.x", False), ("model.vision_tower.layers.3.x", False)),
        *(("model.layers.3.self_attn.q_norm.weight", True), ("blk.3.ffn_norm.weight", True)),
    ],
)
def test_what_is_run_is_known_by_every_name_it_has(name: str, *, is_run: bool) -> None:
    reader = PromptReader("Qwen3ForCausalLM", {"num_hidden_layers": 36}, "Flux2KleinPipeline")
    assert reader.runs(name) is is_run
    # Of other classes nothing is left out.
    assert PromptReader("T5EncoderModel", {"num_hidden_layers": 36}, "FluxPipeline").runs(name)


def test_the_layers_that_are_read_are_those_that_diffusers_reads() -> None:
    asked = {"Flux2": D.Flux2Pipeline, "Flux2Klein": D.Flux2KleinPipeline}
    for start, pipeline in asked.items():
        said = inspect.signature(pipeline.encode_prompt).parameters["text_encoder_out_layers"]
        assert max(said.default) == LAYERS_READ[start]
    assert asked.keys() == LAYERS_READ.keys()
