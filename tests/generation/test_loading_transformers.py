"""Denoisers that come alone, packed or in fp8, with what else they need found on disk."""

from __future__ import annotations

import json
import shutil
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import diffusers
import gguf
import pytest
import torch
import transformers
from safetensors import torch as safetensors

from tests.fakes import NO_CONTENT
from tests.families.tiny_modern import byte_tokenizer, write_flux2_dev
from webui.errors import NotFoundError
from webui.generation.clip_tokenizers import PAD_ZERO, clip_tokenizer
from webui.generation.devices import Device, held_by
from webui.generation.file_parts import load_part
from webui.generation.loading import load_pipe
from webui.generation.mistral_tokenizers import MISTRAL_TEMPLATE
from webui.generation.rereading import Rereader
from webui.library.checkpoints import Checkpoint

D: Any = diffusers
T: Any = transformers
save_file: Any = cast(Any, safetensors).save_file
seed: Any = cast(Any, torch).manual_seed
Tensors = dict[str, torch.Tensor]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def clip(width: int = 32, *, projects: bool = False, act: str = "quick_gelu") -> Any:
    config = T.CLIPTextConfig(
        vocab_size=49408,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=width,
        hidden_act=act,
        bos_token_id=49406,
        eos_token_id=49407,
    )
    return (T.CLIPTextModelWithProjection if projects else T.CLIPTextModel)(config)


def t5(width: int = 32) -> Any:
    return T.T5EncoderModel(
        T.T5Config(vocab_size=112, d_model=width, d_kv=8, d_ff=37, num_layers=2, num_heads=4)
    )


def words(cls: str) -> Any:
    """A tokenizer of a class, of a few words."""
    if cls.startswith("T5"):
        pieces = ["<pad>", "</s>", "<unk>", "\u2581a", "\u2581cat"]
        return T.T5Tokenizer(vocab=[(piece, -float(at)) for at, piece in enumerate(pieces)])
    tokens = ["a", "c", "t", "<unk>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokens += (f"<{at}>" for at in range(len(tokens), 64))
    return T.Qwen2Tokenizer(
        vocab={token: at for at, token in enumerate(tokens)},
        merges=[],
        chat_template="{% if enable_thinking %}{% endif %}{{ messages[0].content }}",
    )


def kl(latent: int = 4) -> Any:
    return D.AutoencoderKL(
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=latent,
        layers_per_block=1,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.1,
        scaling_factor=0.4,
    )


def flux_pipe() -> Any:
    seed(3)
    return D.FluxPipeline(
        scheduler=D.FlowMatchEulerDiscreteScheduler(),
        vae=kl(),
        text_encoder=clip(),
        tokenizer=clip_tokenizer(),
        text_encoder_2=t5(),
        tokenizer_2=words("T5TokenizerFast"),
        transformer=D.FluxTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=4,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            axes_dims_rope=(4, 4, 8),
        ),
    )


def sd3_pipe() -> Any:
    seed(4)
    return D.StableDiffusion3Pipeline(
        scheduler=D.FlowMatchEulerDiscreteScheduler(),
        vae=kl(),
        text_encoder=clip(projects=True),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip(64, projects=True, act="gelu"),
        tokenizer_2=clip_tokenizer(PAD_ZERO),
        text_encoder_3=t5(96),
        tokenizer_3=words("T5TokenizerFast"),
        transformer=D.SD3Transformer2DModel(
            sample_size=16,
            patch_size=1,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=4,
            joint_attention_dim=96,
            caption_projection_dim=64,
            pooled_projection_dim=96,
            pos_embed_max_size=16,
        ),
    )


def qwen3() -> Any:
    return T.Qwen3Config(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
    )


def z_image_pipe() -> Any:
    seed(5)
    return D.ZImagePipeline(
        scheduler=D.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=kl(16),
        text_encoder=T.Qwen3Model(qwen3()),
        tokenizer=words("Qwen2TokenizerFast"),
        transformer=D.ZImageTransformer2DModel(
            dim=64,
            n_layers=1,
            n_refiner_layers=1,
            n_heads=4,
            n_kv_heads=4,
            cap_feat_dim=32,
            axes_dims=[4, 4, 8],
            axes_lens=[256, 64, 64],
        ),
    )


def state(pipe: Any, part: str) -> Tensors:
    return {name: t.clone().contiguous() for name, t in pipe.components[part].state_dict().items()}


def prefixed(prefix: str, tensors: Tensors) -> Tensors:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def write_config(pipe: Any, folder: Path, classes: dict[str, str] | None = None) -> Path:
    """A configuration as they are shipped, with the tokenizers' published classes."""
    pipe.save_pretrained(folder)
    for file in folder.rglob("*.safetensors"):
        file.unlink()
    for part in folder.glob("tokenizer*"):
        shutil.rmtree(part)
    index = json.loads((folder / "model_index.json").read_text())
    for part, cls in (classes or {}).items():
        index[part] = ["transformers", cls]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def write_words(folder: Path, cls: str) -> Path:
    words(cls).save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    said = json.loads(file.read_text())
    file.write_text(json.dumps({**said, "tokenizer_class": cls}))
    return folder


def checkpoint_of(file: Path, config: Path) -> Checkpoint:
    index = json.loads((config / "model_index.json").read_text())
    return Checkpoint(
        file.stem, config, index["_class_name"], file, {}, key=file.stem, content=NO_CONTENT
    )


def load(checkpoint: Checkpoint, others: dict[str, Path] | None = None) -> Any:
    return load_pipe(checkpoint, checkpoint.pipeline, torch.float32, others=others or {})


def same(ours: Any, theirs: Any, part: str) -> bool:
    found, expected = state(ours, part), state(theirs, part)
    return found.keys() == expected.keys() and all(
        torch.equal(found[name], expected[name]) for name in expected
    )


def picture(pipe: Any, **more: Any) -> torch.Tensor:
    pipe.set_progress_bar_config(disable=True)
    for component in pipe.components.values():
        if isinstance(component, torch.nn.Module):
            component.eval()
            for weight in component.parameters():
                # Mapped weights lie at addresses with which torch rounds otherwise.
                weight.data = weight.data.clone()
    made = pipe(
        "a cat",
        num_inference_steps=2,
        height=32,
        width=32,
        max_sequence_length=16,
        generator=torch.Generator().manual_seed(5),
        output_type="pt",
        **more,
    )
    return made.images


class FluxFiles:
    """A FLUX.1 as people have it: the transformer alone, everything else in files of its own."""

    def __init__(self, folder: Path) -> None:
        self.pipe = flux_pipe()
        self.config = write_config(
            self.pipe, folder / "configs" / "flux-dev", {"tokenizer_2": "T5TokenizerFast"}
        )
        self.models = folder / "models"
        self.models.mkdir()
        parts = folder / "parts"
        parts.mkdir()
        self.others = {
            "vae": parts / "ae.safetensors",
            "text_encoder": parts / "clip_l.safetensors",
            "text_encoder_2": parts / "t5.safetensors",
            "tokenizer_2": parts / "t5-tokenizer",
        }
        save_file(state(self.pipe, "vae"), self.others["vae"])
        short = {
            n.removeprefix("text_model."): t for n, t in state(self.pipe, "text_encoder").items()
        }
        save_file(prefixed("text_model.", short), self.others["text_encoder"])
        t5_names = state(self.pipe, "text_encoder_2")
        t5_names.pop("encoder.embed_tokens.weight", None)
        save_file(t5_names, self.others["text_encoder_2"])
        words("T5TokenizerFast").save_pretrained(self.others["tokenizer_2"])

    def write(self, tensors: Tensors, name: str = "flux.safetensors") -> Checkpoint:
        save_file(tensors, self.models / name)
        return checkpoint_of(self.models / name, self.config)


@pytest.fixture
def flux(tmp_path: Path) -> FluxFiles:
    return FluxFiles(tmp_path)


def test_a_flux_of_separate_files_gives_the_folders_pictures(flux: FluxFiles) -> None:
    for prefix in ("", "model.diffusion_model."):
        checkpoint = flux.write(prefixed(prefix, state(flux.pipe, "transformer")))
        pipe = load(checkpoint, flux.others)
        assert torch.equal(picture(pipe), picture(flux.pipe))


def test_what_a_flux_lacks_is_named(flux: FluxFiles) -> None:
    checkpoint = flux.write(state(flux.pipe, "transformer"))
    others = {part: place for part, place in flux.others.items() if part == "vae"}
    with pytest.raises(NotFoundError) as caught:
        load(checkpoint, others)
    folder = flux.models / "text_encoders"
    assert caught.value.message == (
        "The file flux.safetensors needs more: put a CLIP text encoder, the T5 text encoder (t5xxl)"
        " and the T5 tokenizer (which the Library downloads from"
        f" PixArt-alpha/PixArt-XL-2-1024-MS/tokenizer) into {folder}."
    )
    with pytest.raises(NotFoundError) as caught:
        load(checkpoint, {part: flux.others[part] for part in ("text_encoder_2", "tokenizer_2")})
    assert caught.value.message == (
        f"The file flux.safetensors needs more: put a CLIP text encoder into {folder} and the VAE"
        f" of FLUX.1 into {flux.models / 'vae'}."
    )


def test_what_a_flux_lacks_is_found_in_a_folder_beside_it_and_in_the_hubs_cache(
    flux: FluxFiles, tmp_path: Path
) -> None:
    checkpoint = flux.write(state(flux.pipe, "transformer"))
    for folder in (
        flux.models / "another",
        tmp_path / "hub" / "models--owner--name" / "snapshots" / "0" / "",
    ):
        flux.pipe.save_pretrained(folder)
        shutil.copy(flux.config / "model_index.json", folder)
        assert torch.equal(picture(load(checkpoint)), picture(flux.pipe))
        shutil.rmtree(folder)


def test_a_part_of_another_size_is_not_taken(flux: FluxFiles) -> None:
    checkpoint = flux.write(state(flux.pipe, "transformer"))
    other = D.FluxPipeline(**{**flux.pipe.components, "text_encoder": clip(64)})
    other.save_pretrained(flux.models / "another")
    shutil.copy(flux.config / "model_index.json", flux.models / "another")
    with pytest.raises(NotFoundError, match="needs more: put a CLIP text encoder into"):
        load(checkpoint)


def test_fp8_stays_as_it_is_stored_and_is_computed_with_in_the_asked_format(
    flux: FluxFiles,
) -> None:
    fp8 = torch.float8_e4m3fn
    whole = state(flux.pipe, "transformer")
    stored = {n: t.to(fp8) if t.ndim == 2 else t.to(torch.bfloat16) for n, t in whole.items()}
    checkpoint = flux.write(stored)
    pipe = load(checkpoint, flux.others)
    weights = dict(pipe.transformer.named_parameters())
    assert weights["transformer_blocks.0.attn.to_q.weight"].dtype is fp8
    assert weights["transformer_blocks.0.attn.norm_q.weight"].dtype is torch.float32
    assert pipe.transformer.dtype is torch.float32, "as what it computes in"
    full = D.FluxTransformer2DModel.from_config(flux.pipe.transformer.config)
    full.load_state_dict({name: tensor.to(torch.float32) for name, tensor in stored.items()})
    expected = D.FluxPipeline(**{**flux.pipe.components, "transformer": full})
    assert torch.equal(picture(pipe), picture(expected))
    assert weights["transformer_blocks.0.attn.to_q.weight"].dtype is fp8
    assert weights["transformer_blocks.0.attn.to_q.bias"].dtype is torch.float32


def test_fp8_with_scales_is_multiplied_out(flux: FluxFiles) -> None:
    whole = state(flux.pipe, "transformer")
    names = [n for n, t in whole.items() if t.ndim == 2]
    stored = dict(whole)
    for name in names:
        scale = whole[name].abs().max() / 448
        stored[name] = (whole[name] / scale).to(torch.float8_e4m3fn)
        stored[name.replace(".weight", ".scale_weight")] = scale
    stored["scaled_fp8"] = torch.zeros(2).to(torch.float8_e4m3fn)
    pipe = load(flux.write(stored), flux.others)
    found = state(pipe, "transformer")
    assert found.keys() == whole.keys()
    for name in names:
        assert found[name].dtype is torch.float32
        assert torch.allclose(found[name], whole[name], rtol=0.07, atol=1e-3)


def write_gguf(path: Path, tensors: Tensors) -> None:
    writer: Any = gguf.GGUFWriter(str(path), "flux")
    for name, tensor in tensors.items():
        data = tensor.to(torch.float32).numpy()
        if tensor.ndim == 2 and tensor.shape[1] % 32 == 0:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, cast(Any, gguf).quants.quantize(data, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_stays_packed_and_gives_nearly_the_same_pictures(flux: FluxFiles) -> None:
    file = flux.models / "flux-Q8_0.gguf"
    write_gguf(file, state(flux.pipe, "transformer"))
    pipe = load(checkpoint_of(file, flux.config), flux.others)
    packed = pipe.transformer.transformer_blocks[0].attn.to_q.weight
    assert packed.dtype is torch.uint8
    assert packed.numel() < 1.1 * 64 * 64
    expected = picture(flux.pipe)
    assert not torch.equal(picture(pipe), expected)
    assert torch.allclose(picture(pipe), expected, atol=0.03)


@pytest.mark.parametrize("packed", [False, True])
def test_parts_of_single_files_are_read_again_as_they_were(
    flux: FluxFiles, *, packed: bool
) -> None:
    weights = state(flux.pipe, "transformer")
    checkpoint = flux.write(weights)
    if packed:
        write_gguf(flux.models / "flux-Q8_0.gguf", weights)
        checkpoint = checkpoint_of(flux.models / "flux-Q8_0.gguf", flux.config)
    expected = picture(load(checkpoint, flux.others))
    rereader = Rereader(Device("cpu", torch.float32, "contiguous", ""))
    pipe: Any = load_pipe(
        checkpoint, checkpoint.pipeline, torch.float32, others=flux.others, aside=rereader.add
    )
    assert rereader.names == {"transformer", "text_encoder", "text_encoder_2"}
    assert held_by(pipe.transformer.x_embedder.weight) <= 4
    for _ in range(2):
        assert torch.equal(picture(pipe), expected)
        rereader.bring("text_encoder")
        assert held_by(pipe.transformer.x_embedder.weight) <= 4


def test_a_denoiser_is_rounded_to_8_bits_as_it_is_read(flux: FluxFiles) -> None:
    checkpoint = flux.write(state(flux.pipe, "transformer"))
    pipe: Any = load_pipe(
        checkpoint, checkpoint.pipeline, torch.float32, others=flux.others, in_fp8=True
    )
    weights = dict(pipe.transformer.named_parameters())
    in_8_bits = {name for name, weight in weights.items() if weight.dtype is torch.float8_e4m3fn}
    assert "single_transformer_blocks.0.norm.linear.weight" in in_8_bits
    assert in_8_bits.isdisjoint({"proj_out.weight", "transformer_blocks.0.attn.to_q.bias"})
    numbers = sum(weight.numel() for weight in weights.values())
    assert sum(weights[name].numel() for name in in_8_bits) > 0.9 * numbers
    made, expected = picture(pipe), picture(flux.pipe)
    assert 0 < (made - expected).abs().max() < 0.1


def test_a_whole_sd3_file_works_with_and_without_its_t5(tmp_path: Path) -> None:
    pipe = sd3_pipe()
    # What the projection of CLIP-L gives is not used by this family.
    pipe.text_encoder.text_projection.weight.data = torch.eye(32)
    config = write_config(pipe, tmp_path / "sd3-medium", {"tokenizer_3": "T5TokenizerFast"})
    clips = {
        **prefixed("model.diffusion_model.", state(pipe, "transformer")),
        **prefixed("first_stage_model.", state(pipe, "vae")),
        **prefixed("text_encoders.clip_l.transformer.", state(pipe, "text_encoder")),
        **prefixed("text_encoders.clip_g.transformer.", state(pipe, "text_encoder_2")),
    }
    file = tmp_path / "models" / "sd3.safetensors"
    file.parent.mkdir()
    save_file(clips, file)
    without = D.StableDiffusion3Pipeline(
        **{**pipe.components, "text_encoder_3": None, "tokenizer_3": None}
    )
    ours = load(checkpoint_of(file, config))
    for part in ("transformer", "vae", "text_encoder", "text_encoder_2"):
        assert same(ours, pipe, part)
    assert torch.equal(picture(ours), picture(without))
    t5_names = state(pipe, "text_encoder_3")
    t5_names.pop("encoder.embed_tokens.weight", None)
    save_file(clips | prefixed("text_encoders.t5xxl.transformer.", t5_names), file)
    write_words(file.parent / "text_encoders" / "t5", "T5TokenizerFast")
    assert torch.equal(picture(load(checkpoint_of(file, config))), picture(pipe))


def test_a_z_image_takes_its_language_model_from_a_file(tmp_path: Path) -> None:
    pipe = z_image_pipe()
    config = write_config(pipe, tmp_path / "z-image", {"tokenizer": "Qwen2TokenizerFast"})
    file = tmp_path / "models" / "z.safetensors"
    file.parent.mkdir()
    save_file(prefixed("model.diffusion_model.", state(pipe, "transformer")), file)
    save_file(prefixed("model.", state(pipe, "text_encoder")), tmp_path / "qwen.safetensors")
    save_file(prefixed("vae.", state(pipe, "vae")), tmp_path / "vae.safetensors")
    write_words(file.parent / "text_encoders" / "qwen", "Qwen2Tokenizer")
    others = {"text_encoder": tmp_path / "qwen.safetensors", "vae": tmp_path / "vae.safetensors"}
    ours = load(checkpoint_of(file, config), others)
    for part in ("transformer", "text_encoder", "vae"):
        assert same(ours, pipe, part)
    assert ours.scheduler.config.shift == 3.0


def test_a_flux2_dev_loads_once_its_tokenizer_is_put_where_it_is_asked_for(
    tmp_path: Path,
) -> None:
    whole, models = tmp_path / "whole", tmp_path / "models"
    write_flux2_dev(whole)
    config = tmp_path / "configs" / "flux2-dev"
    left_out = shutil.ignore_patterns("*.safetensors", "tokenizer*")
    shutil.copytree(whole, config, ignore=left_out)
    models.mkdir()
    file = models / "dev.safetensors"
    shutil.copy(whole / "transformer" / "diffusion_pytorch_model.safetensors", file)
    checkpoint = replace(checkpoint_of(file, config), folders=(models,))
    others = {
        part: shutil.copytree(whole / part, tmp_path / "parts" / part)
        for part in ("text_encoder", "vae")
    }
    with pytest.raises(NotFoundError) as caught:
        load(checkpoint, others)
    assert caught.value.message == (
        "The file dev.safetensors needs more: put the Mistral tokenizer (which the Library"
        " downloads from black-forest-labs/FLUX.2-dev/tokenizer) into"
        f" {models / 'text_encoders'}."
    )
    folder = models / "text_encoders" / "tokenizer"
    shutil.copytree(whole / "tokenizer", folder)
    settings = folder / "tokenizer_config.json"
    said = json.loads(settings.read_text()) | {"processor_class": "PixtralProcessor"}
    settings.write_text(json.dumps(said))
    told = [{"role": "user", "content": [{"type": "text", "text": "a cat"}]}]
    ours, theirs = load(checkpoint, others).tokenizer, byte_tokenizer(MISTRAL_TEMPLATE)
    asked: dict[str, Any] = {"tokenize": True, "return_dict": True}
    expected = cast(Any, theirs).apply_chat_template(told, **asked)
    assert ours.apply_chat_template(told, **asked) == expected


def test_a_language_model_without_eyes_and_mouth_is_whole(tmp_path: Path) -> None:
    text = {**qwen3().to_dict(), "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]}}
    text |= {"model_type": "qwen2_5_vl_text"}
    model = T.Qwen2_5_VLForConditionalGeneration(
        T.Qwen2_5_VLConfig(
            text_config=text,
            vision_config={"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2},
        )
    )
    blind = {
        n.replace("model.language_model.", "model."): t.clone()
        for n, t in model.state_dict().items()
        if "visual" not in n and "lm_head" not in n
    }
    save_file(blind, tmp_path / "qwen.safetensors")
    config = tmp_path / "qwen-image"
    model.config.save_pretrained(config / "text_encoder")
    checkpoint = Checkpoint(
        "q", config, "QwenImagePipeline", tmp_path / "no", {}, key="q", content=NO_CONTENT
    )
    named = ("transformers", "Qwen2_5_VLForConditionalGeneration")
    ours = load_part(
        tmp_path / "qwen.safetensors", named, checkpoint, "text_encoder", torch.float32
    )
    ids = torch.tensor([[3, 4, 5]])
    expected = model.eval()(ids, output_hidden_states=True).hidden_states[-1]
    assert torch.equal(ours(ids, output_hidden_states=True).hidden_states[-1], expected)
