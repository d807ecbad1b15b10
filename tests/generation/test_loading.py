from __future__ import annotations

import json
import shutil
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import diffusers
import pytest
import torch
import transformers
from safetensors import torch as safetensors

from tests.fakes import NO_CONTENT
from tests.generation.ldm_names import Tensors, ldm_unet, ldm_vae, open_clip
from tests.library import weights
from webui.cli.building import CONFIGS
from webui.errors import BrokenFileError, NotFoundError
from webui.generation.clip_tokenizers import PAD_ZERO, clip_tokenizer
from webui.generation.loading import load_pipe
from webui.generation.schedulers import make_scheduler
from webui.library.checkpoints import Checkpoint, CheckpointShelf
from webui.library.hashes import HashBook

D: Any = diffusers
T: Any = transformers
save_file: Any = cast(Any, safetensors).save_file
seed: Any = cast(Any, torch).manual_seed
ALPHAS = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def tiny_clip(width: int = 32, *, projects: bool = False, act: str = "quick_gelu") -> Any:
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


def tiny_vae(latent: int = 4, **more: Any) -> Any:
    return D.AutoencoderKL(
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=latent,
        layers_per_block=2,
        sample_size=32,
        **more,
    )


def tiny_unet(cross: int = 32, **more: Any) -> Any:
    return D.UNet2DConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=2,
        sample_size=16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=cross,
        attention_head_dim=4,
        **more,
    )


def sd1_pipe() -> Any:
    seed(1)
    return D.StableDiffusionPipeline(
        vae=tiny_vae(),
        text_encoder=tiny_clip(),
        tokenizer=clip_tokenizer(),
        unet=tiny_unet(),
        scheduler=D.PNDMScheduler(skip_prk_steps=True, **ALPHAS),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl_pipe() -> Any:
    seed(2)
    return D.StableDiffusionXLPipeline(
        vae=tiny_vae(),
        text_encoder=tiny_clip(),
        text_encoder_2=tiny_clip(64, projects=True, act="gelu"),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(PAD_ZERO),
        unet=tiny_unet(
            96,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=64 + 6 * 8,
        ),
        scheduler=D.EulerDiscreteScheduler(**ALPHAS),
    )


def state(pipe: Any, part: str) -> Tensors:
    return {name: t.clone().contiguous() for name, t in pipe.components[part].state_dict().items()}


def sd1_tensors(pipe: Any) -> Tensors:
    clip = {n.removeprefix("text_model."): t for n, t in state(pipe, "text_encoder").items()}
    begin = "cond_stage_model.transformer.text_model."
    return {
        **ldm_unet(state(pipe, "unet"), 2),
        **ldm_vae(state(pipe, "vae"), 2),
        **{begin + name: tensor for name, tensor in clip.items()},
        f"{begin}embeddings.position_ids": torch.arange(77)[None],
        "alphas_cumprod": torch.ones(4),
    }


def sdxl_tensors(pipe: Any) -> Tensors:
    clip = {n.removeprefix("text_model."): t for n, t in state(pipe, "text_encoder").items()}
    begin = "conditioner.embedders.0.transformer.text_model."
    return {
        **ldm_unet(state(pipe, "unet"), 2),
        **ldm_vae(state(pipe, "vae"), 2),
        **{begin + name: tensor for name, tensor in clip.items()},
        **open_clip(state(pipe, "text_encoder_2"), "conditioner.embedders.1.model."),
    }


def write_config(pipe: Any, folder: Path) -> Path:
    """A configuration as they are shipped: the folder without its weights and tokenizers."""
    pipe.save_pretrained(folder)
    for file in folder.rglob("*.safetensors"):
        file.unlink()
    for part in folder.glob("tokenizer*"):
        shutil.rmtree(part)
    return folder


def single(
    file: Path, config: Path, tensors: Tensors, said: dict[str, dict[str, Any]] | None = None
) -> Checkpoint:
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, file)
    index = json.loads((config / "model_index.json").read_text())
    return Checkpoint(
        file.stem, config, index["_class_name"], file, said or {}, key=file.stem, content=NO_CONTENT
    )


def load(checkpoint: Checkpoint, dtype: torch.dtype = torch.float32, **others: Path) -> Any:
    return load_pipe(checkpoint, checkpoint.pipeline, dtype, others=others)


def picture(pipe: Any, **more: Any) -> torch.Tensor:
    pipe.set_progress_bar_config(disable=True)
    made = pipe(
        "a cat, a small house",
        num_inference_steps=2,
        height=32,
        width=32,
        generator=torch.Generator().manual_seed(5),
        output_type="pt",
        **more,
    )
    return made.images


@pytest.fixture(scope="module")
def sd1() -> Any:
    return sd1_pipe()


@pytest.fixture
def sd1_file(sd1: Any, tmp_path: Path) -> Checkpoint:
    config = write_config(sd1, tmp_path / "configs" / "sd1")
    return single(tmp_path / "models" / "a.safetensors", config, sd1_tensors(sd1))


def test_a_single_file_of_ldm_gives_the_folders_pictures(sd1: Any, sd1_file: Checkpoint) -> None:
    assert torch.equal(picture(load(sd1_file)), picture(sd1))


def test_a_single_file_of_sgm_gives_the_folders_pictures(tmp_path: Path) -> None:
    pipe = sdxl_pipe()
    config = write_config(pipe, tmp_path / "sdxl")
    checkpoint = single(tmp_path / "xl.safetensors", config, sdxl_tensors(pipe))
    assert torch.equal(picture(load(checkpoint)), picture(pipe))


def test_a_folder_gives_its_pictures(sd1: Any, tmp_path: Path) -> None:
    sd1.save_pretrained(tmp_path / "folder")
    folder = Checkpoint(
        "folder", tmp_path / "folder", "StableDiffusionPipeline", key="f", content=NO_CONTENT
    )
    assert torch.equal(picture(load(folder)), picture(sd1))


def test_the_same_weights_come_out_as_from_diffusers_own_reading(
    sd1_file: Checkpoint,
) -> None:
    ours = load(sd1_file)
    theirs = D.StableDiffusionPipeline.from_single_file(
        str(sd1_file.file),
        config=str(sd1_file.path),
        local_files_only=True,
        tokenizer=clip_tokenizer(),
        safety_checker=None,
        feature_extractor=None,
    )
    for part in ("unet", "vae", "text_encoder"):
        expected = state(theirs, part)
        found = state(ours, part)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_names_without_a_prefix_and_diffusers_own_names_are_read(sd1: Any, tmp_path: Path) -> None:
    config = write_config(sd1, tmp_path / "sd1")
    rest = {n: t for n, t in sd1_tensors(sd1).items() if not n.startswith("model.diffusion")}
    old = {n.replace("transformer.text_model.", "transformer."): t for n, t in rest.items()}
    for at, unet in enumerate(
        ({f"unet.{n}": t for n, t in state(sd1, "unet").items()}, ldm_unet(state(sd1, "unet"), 2))
    ):
        checkpoint = single(tmp_path / f"{at}.safetensors", config, old | unet)
        assert torch.equal(picture(load(checkpoint)), picture(sd1))


@pytest.mark.parametrize("name", ["time_embedding.cond_proj", "time_embed.cond_proj"])
def test_what_takes_guidance_in_is_not_lost(name: str, sd1_file: Checkpoint) -> None:
    assert sd1_file.file is not None
    tensors = cast(Any, safetensors).load_file(sd1_file.file)
    layer = torch.randn(32, 256)
    said = {"unet": {"time_cond_proj_dim": 256}}
    distilled = single(
        sd1_file.file.with_name("distilled.safetensors"),
        sd1_file.path,
        {**tensors, f"model.diffusion_model.{name}.weight": layer},
        said,
    )
    assert torch.equal(state(load(distilled), "unet")["time_embedding.cond_proj.weight"], layer)


def test_what_the_file_says_reaches_the_scheduler(sd1_file: Checkpoint) -> None:
    said = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    checkpoint = replace(sd1_file, said={"scheduler": {"prediction_type": "v_prediction"}})
    assert load(checkpoint).scheduler.config.prediction_type == "v_prediction"
    file = checkpoint.path / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "_class_name": "DDIMScheduler"}))
    index = checkpoint.path / "model_index.json"
    index.write_text(index.read_text().replace("PNDMScheduler", "DDIMScheduler"))
    pipe = load(replace(checkpoint, said={"scheduler": said}))
    assert pipe.scheduler.config.rescale_betas_zero_snr
    assert float(pipe.scheduler.alphas_cumprod[-1]) == pytest.approx(0.0, abs=1e-6)


def test_noobais_marks_in_a_single_file_have_it_run_as_diffusers_is_told_to(
    tmp_path: Path,
) -> None:
    name = "NoobAI-XL-Vpred-v1.0"
    marks = dict.fromkeys(("v_pred", "ztsnr"), (0,))
    weights.put(tmp_path / "models" / f"{name}.safetensors", weights.sdxl() | marks)
    shelf = CheckpointShelf((tmp_path / "models",), HashBook(tmp_path / "hashes.json"), CONFIGS)
    said = {part: dict(values) for part, values in shelf.folder(name).said.items()}
    pipe = sdxl_pipe()
    config = write_config(pipe, tmp_path / "config")
    tensors = sdxl_tensors(pipe) | {mark: torch.zeros(0) for mark in marks}
    checkpoint = single(tmp_path / "tiny.safetensors", config, tensors, said)
    own, scheduler = load(checkpoint), checkpoint.config("scheduler")
    own.scheduler = make_scheduler(scheduler, "Euler", "sgm uniform")
    pipe.scheduler = D.EulerDiscreteScheduler(
        **ALPHAS,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )
    made = picture(own, guidance_scale=5.0)
    # Ours is at timesteps with fractions, diffusers' is not.
    assert (made - picture(pipe, guidance_scale=5.0)).abs().mean() < 2e-3
    pipe.scheduler = D.EulerDiscreteScheduler(**ALPHAS, timestep_spacing="trailing")
    assert (made - picture(pipe, guidance_scale=5.0)).abs().mean() > 1e-2


def test_weights_come_in_the_format_that_is_asked_for(sd1_file: Checkpoint) -> None:
    pipe = load(sd1_file, torch.bfloat16)
    for part in ("unet", "vae", "text_encoder"):
        kinds = {weight.dtype for weight in pipe.components[part].parameters()}
        assert kinds == {torch.bfloat16}
        assert not any(w.is_meta or w.requires_grad for w in pipe.components[part].parameters())


def test_a_vae_of_its_own_takes_the_place_of_the_files(
    sd1: Any, sd1_file: Checkpoint, tmp_path: Path
) -> None:
    seed(9)
    other = tiny_vae()
    save_file(ldm_vae(other.state_dict(), 2, ""), tmp_path / "other.safetensors")
    other.save_pretrained(tmp_path / "folder")
    expected = D.StableDiffusionPipeline(**{**sd1.components, "vae": other})
    for place in (tmp_path / "other.safetensors", tmp_path / "folder"):
        assert torch.equal(picture(load(sd1_file, vae=place)), picture(expected))


def test_an_incomplete_file_is_refused_in_a_sentence(sd1: Any, sd1_file: Checkpoint) -> None:
    assert sd1_file.file is not None
    whole = sd1_tensors(sd1)
    for left_out, words in (
        ("model.diffusion_model.middle_block.1.norm.weight", "unet in a.safetensors"),
        ("first_stage_model.decoder.conv_out.weight", "vae in a.safetensors"),
        ("cond_stage_model.transformer.text_model.final_layer_norm.bias", "text_encoder in"),
    ):
        save_file({n: t for n, t in whole.items() if n != left_out}, sd1_file.file)
        with pytest.raises(BrokenFileError, match=words) as caught:
            load(sd1_file)
        assert caught.value.message.count(". ") == 0


def test_a_file_of_other_shapes_is_refused(sd1: Any, sd1_file: Checkpoint) -> None:
    assert sd1_file.file is not None
    name = "model.diffusion_model.out.2.weight"
    save_file(sd1_tensors(sd1) | {name: torch.zeros(9, 32, 3, 3)}, sd1_file.file)
    with pytest.raises(BrokenFileError, match=r"conv_out\.weight is 9 x 32 x 3 x 3, not 4 x 32"):
        load(sd1_file)


def test_a_truncated_file_is_refused(sd1_file: Checkpoint) -> None:
    assert sd1_file.file is not None
    sd1_file.file.write_bytes(sd1_file.file.read_bytes()[:-100])
    with pytest.raises(BrokenFileError, match="the last 100 bytes are missing"):
        load(sd1_file)


def test_what_is_missing_is_named_with_where_to_put_it(sd1: Any, sd1_file: Checkpoint) -> None:
    assert sd1_file.file is not None
    save_file(ldm_unet(state(sd1, "unet"), 2), sd1_file.file)
    with pytest.raises(NotFoundError) as caught:
        load(sd1_file)
    folder = sd1_file.file.parent
    assert caught.value.message == (
        f"The file a.safetensors needs more: put a CLIP text encoder into"
        f" {folder / 'text_encoders'} and the VAE of Stable Diffusion into {folder / 'vae'}."
    )
