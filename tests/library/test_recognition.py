from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.library import weights as w
from webui.library.components import COMPONENTS, users_of
from webui.library.distilled import Distilled
from webui.library.headers import Header, read_header
from webui.library.recognition import Recognised, recognise

UNET = "model.diffusion_model."


class Look:
    """Recognises a file of these tensors in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(
        self,
        shapes: w.Shapes,
        name: str = "meadow.safetensors",
        dtype: str = "F16",
        dtypes: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Recognised:
        path = w.put(self._folder / name, shapes, dtype, dtypes, **(metadata or {}))
        return recognise(read_header(path), file=name)


@pytest.fixture
def look(tmp_path: Path) -> Look:
    return Look(tmp_path)


@pytest.mark.parametrize(
    ("shapes", "family", "config", "lacks"),
    [
        (w.sd1(), "SD 1", "sd1", ()),
        (w.sd1(9), "SD 1", "sd1-inpaint", ()),
        (w.sd2(9), "SD 2", "sd2-inpaint", ()),
        (w.sdxl(), "SDXL", "sdxl", ()),
        (w.sdxl(9), "SDXL", "sdxl-inpaint", ()),
        (w.refiner(), "SDXL", "sdxl-refiner", ()),
        (
            w.under(UNET, w.sdxl_unet()) | w.under("first_stage_model.", w.vae()),
            "SDXL",
            "sdxl",
            ("text_encoder", "text_encoder_2"),
        ),
        (
            w.under(UNET, w.sd3(24))
            | w.under("first_stage_model.", w.vae(16))
            | w.under("text_encoders.clip_l.transformer.", w.clip(768, 12))
            | w.under("text_encoders.clip_g.transformer.", w.clip(1280, 32)),
            "SD 3",
            "sd3-medium",
            ("text_encoder_3",),
        ),
        (
            w.under(UNET, w.flux())
            | w.under("vae.", w.vae(16))
            | w.under("text_encoders.clip_l.transformer.", w.clip(768, 12))
            | w.under("text_encoders.t5xxl.transformer.", w.t5()),
            "Flux",
            "flux-dev",
            (),
        ),
    ],
)
def test_a_whole_model_is_known_with_what_it_lacks(
    look: Look, shapes: w.Shapes, family: str, config: str, lacks: tuple[str, ...]
):
    known = look(shapes)
    assert (known.kind, known.family, known.config) == ("model", family, config)
    assert (known.lacks, known.problem) == (lacks, None)


@pytest.mark.parametrize("prefix", ["", UNET])
@pytest.mark.parametrize(
    ("shapes", "family", "config", "prediction"),
    [
        (w.sdxl_unet(), "SDXL", "sdxl", "epsilon"),
        (w.sd3(24), "SD 3", "sd3-medium", "flow"),
        (w.sd3(24, twice=True), "SD 3", "sd3.5-medium", "flow"),
        (w.sd3(38), "SD 3", "sd3.5-large", "flow"),
        (w.flux(), "Flux", "flux-dev", "flow"),
        (w.flux(guidance=False), "Flux", "flux-schnell", "flow"),
        (w.flux(inputs=384), "Flux", "flux-fill", "flow"),
        (w.flux(inputs=128), "Flux", "flux-control", "flow"),
        (w.flux2(6144, 15360, 8, 48), "Flux 2", "flux2-dev", "flow"),
        (w.flux2(4096, 12288, 8, 24, guidance=False), "Flux 2", "flux2-klein-9b", "flow"),
        (w.flux2(3072, 7680, 5, 20, guidance=False), "Flux 2", "flux2-klein-4b", "flow"),
        (w.z_image(), "Z-Image", "z-image", "flow"),
        (w.qwen_image(), "Qwen-Image", "qwen-image", "flow"),
    ],
)
def test_a_denoiser_alone_lacks_everything_else(
    look: Look, shapes: w.Shapes, prefix: str, family: str, config: str, prediction: str
):
    known = look(w.under(prefix, shapes))
    assert (known.kind, known.family, known.config) == ("denoiser", family, config)
    assert (known.prediction, known.problem) == (prediction, None)
    assert known.lacks == tuple(COMPONENTS[config])


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        (w.sd1(8), "that follows instructions"),
        (w.sd2(5), "that takes depth"),
        (w.flux(double=8), "fewer layers"),
        (w.qwen_image(40), "fewer layers"),
        (w.ldm_unet(2048, levels=(1, 2, 4), depths=(0, 2, 4), sizes=2816), "fewer layers"),
        (w.flux(inputs=96), "unknown kind"),
        (w.flux() | {"distilled_guidance_layer.in_proj.bias": (5120,)}, "is a Chroma model"),
        ({"head.modulation": (1, 2, 1536)}, "is a Wan video model"),
        (w.sdxl() | {"edm_mean": (1, 4, 1, 1)}, "is a Playground 2.5 model"),
        ({"ip_adapter.1.to_k_ip.weight": (320, 768)}, "is an IP-Adapter"),
        ({"conv_first.weight": (64, 3, 3, 3)}, "is an upscaler"),
        ({"some.weight": (3, 3)}, "holds nothing that is known here"),
        (w.t5(languages=True), "is a T5 that no served model uses"),
        (w.language_model(1024, 28, query_norm=True), "no served model uses"),
        (w.vae(8), "is a VAE of 8 channels"),
        ({"lora_controlnet": (1,), "input_hint_block.0.weight": (16, 3, 3, 3)}, "Control-LoRA"),
    ],
)
def test_what_is_not_served_says_what_it_is(look: Look, shapes: w.Shapes, says: str):
    known = look(shapes)
    assert known.problem is not None
    assert known.problem.startswith("meadow.safetensors ")
    assert says in known.problem
    assert known.config is None


def test_a_part_of_a_split_file_says_so(look: Look):
    known = look(w.flux(), "model-00001-of-00003.safetensors")
    assert "whole only together" in (known.problem or "")


@pytest.mark.parametrize(
    ("shapes", "name", "component"),
    [
        (w.vae(), "vae-ft-mse-840000.safetensors", "vae-sd"),
        (w.under("first_stage_model.", w.vae()), "kl-f8.safetensors", "vae-sd"),
        (w.vae(), "sdxl_vae.safetensors", "vae-sdxl"),
        (w.vae(), "fixFP16ErrorsSDXL.safetensors", "vae-sdxl"),
        (w.vae(16), "ae.safetensors", "vae-flux"),
        (w.vae(16), "sd3_vae.safetensors", "vae-sd3"),
        (w.vae(32), "flux2-vae.safetensors", "vae-flux2"),
        (
            {
                "decoder.conv1.weight": (384, 16, 3, 3, 3),
                "decoder.middle.0.residual.0.gamma": (384, 1, 1, 1),
            },
            "qwen_image_vae.safetensors",
            "vae-qwen",
        ),
    ],
)
def test_a_vae_is_known_by_its_channels_then_by_its_name(
    look: Look, shapes: w.Shapes, name: str, component: str
):
    known = look(shapes, name)
    assert (known.kind, known.component, known.problem) == ("vae", component, None)
    assert known.config is not None
    assert COMPONENTS[known.config]["vae"] == component


@pytest.mark.parametrize(
    ("shapes", "component"),
    [
        (w.clip(768, 12), "clip-l"),
        (w.clip(1024, 23), "clip-h"),
        (w.clip(1280, 32), "clip-g"),
        (w.open_clip(1280, 32), "clip-g"),
        (w.t5(), "t5-xxl"),
        (w.language_model(2560, 36, query_norm=True), "qwen3-4b"),
        (w.language_model(4096, 36, query_norm=True), "qwen3-8b"),
        (
            w.language_model(3584, 28, query_norm=False, prefix="model.language_model."),
            "qwen2.5-vl-7b",
        ),
        (w.language_model(5120, 40, query_norm=False, vocabulary=131072), "mistral-small"),
    ],
)
def test_a_text_encoder_is_known_and_who_uses_it(look: Look, shapes: w.Shapes, component: str):
    known = look(shapes)
    assert (known.kind, known.component, known.problem) == ("text encoder", component, None)
    assert known.component is not None
    users = list(users_of(known.component))
    assert users
    assert all(COMPONENTS[config][part] == component for config, part in users)


@pytest.mark.parametrize(
    ("shapes", "kind", "family"),
    [
        ({"emb_params": (8, 768)}, "embedding", "SD 1"),
        ({"<meadow>": (768,)}, "embedding", "SD 1"),
        ({"emb_params": (2, 1024)}, "embedding", "SD 2"),
        ({"clip_l": (4, 768), "clip_g": (4, 1280)}, "embedding", "SDXL"),
        ({"clip_l": (4, 768), "clip_g": (4, 1280), "t5xxl": (4, 4096)}, "embedding", "SD 3"),
        ({"clip_l": (4, 768), "t5xxl": (4, 4096)}, "embedding", "Flux"),
        (
            {
                "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight": (
                    4,
                    2048,
                )
            },
            "lora",
            "SDXL",
        ),
        (
            w.under("control_model.", w.ldm_unet(768))
            | {"control_model.input_hint_block.0.weight": (16, 3, 3, 3)},
            "controlnet",
            "SD 1",
        ),
        (
            {"controlnet_x_embedder.weight": (3072, 64), "x_embedder.weight": (3072, 64)},
            "controlnet",
            "Flux",
        ),
    ],
)
def test_what_belongs_to_a_model_is_known_with_its_family(
    look: Look, shapes: w.Shapes, kind: str, family: str
):
    known = look(shapes)
    assert (known.kind, known.family, known.problem) == (kind, family, None)


def test_a_lora_that_takes_a_picture_names_its_configuration(look: Look):
    known = look(
        {
            "transformer.x_embedder.lora_A.weight": (128, 128),
            "transformer.single_transformer_blocks.0.proj_mlp.lora_A.weight": (128, 3072),
        }
    )
    assert (known.kind, known.family, known.config) == ("lora", "Flux", "flux-control")


@pytest.mark.parametrize(
    ("dtype", "precision"),
    [("F16", "fp16"), ("BF16", "bf16"), ("F32", "fp32"), ("F8_E4M3", "fp8")],
)
def test_precision_is_that_of_the_denoiser(look: Look, dtype: str, precision: str):
    unet = w.under(UNET, w.ldm_unet(768))
    others = w.under("first_stage_model.", w.vae())
    known = look(unet | others, dtype=dtype, dtypes=dict.fromkeys(others, "F32"))
    assert known.precision == precision


@pytest.mark.parametrize(
    ("shapes", "config"),
    [(w.flux(), "flux-dev"), (w.flux(inputs=384), "flux-fill"), (w.sdxl_unet(), "sdxl")],
)
def test_what_bitsandbytes_packed_is_known_all_the_same(look: Look, shapes: w.Shapes, config: str):
    packed, types = w.bnb_nf4(w.under(UNET, shapes))
    known = look(packed, dtypes=types)
    assert (known.config, known.precision, known.problem) == (config, "nf4", None)


def test_a_packing_that_is_not_read_says_so(look: Look):
    flux = w.flux()
    packed = {"double_blocks.0.img_attn.qkv.weight": "U8"} | dict.fromkeys(flux, "U8")
    known = look(flux | {"double_blocks.0.img_attn.qkv.weight_scale_2": (1,)}, dtypes=packed)
    assert known.precision == "nvfp4"
    assert "is stored as nvfp4" in (known.problem or "")


@pytest.mark.parametrize(
    ("shapes", "config", "texts"),
    [
        (w.flux(), "flux-dev", {"general.architecture": "flux"}),
        (w.qwen_image(), "qwen-image", {}),
        (w.z_image(), "z-image", {}),
        (w.flux2(3072, 7680, 5, 20, guidance=False), "flux2-klein-4b", {}),
    ],
)
def test_a_gguf_file_is_known_with_its_quantisation(
    tmp_path: Path, shapes: w.Shapes, config: str, texts: dict[str, str]
):
    path = w.put_gguf(tmp_path / "meadow-Q4_K_M.gguf", shapes, "Q4_K", texts)
    known = recognise(read_header(path), file=path.name)
    assert (known.kind, known.config, known.precision) == ("denoiser", config, "gguf Q4_K")
    assert known.problem is None


def test_an_unknown_gguf_file_names_its_architecture(tmp_path: Path):
    path = w.put_gguf(tmp_path / "a.gguf", {"x": (32,)}, texts={"general.architecture": "whisper"})
    assert "(whisper)" in (recognise(read_header(path), file="a.gguf").problem or "")


@pytest.mark.parametrize(
    ("marks", "name", "metadata", "prediction", "zero_snr"),
    [
        ((), "meadow", {}, "epsilon", False),
        (("v_pred",), "meadow", {}, "v_prediction", False),
        (("v_pred", "ztsnr"), "meadow", {}, "v_prediction", True),
        ((), "meadow", {"modelspec.prediction_type": "v"}, "v_prediction", False),
        (("v_pred",), "meadow", {"modelspec.prediction_type": "epsilon"}, "epsilon", False),
        ((), "meadowXL_vPred10", {}, "v_prediction", False),
        ((), "meadow-v-pred_ztsnr", {}, "v_prediction", True),
        ((), "meadow", {"ss_zero_terminal_snr": "True"}, "epsilon", True),
        ((), "vprediction_of_spring", {}, "v_prediction", False),
        ((), "improved_predictions", {}, "epsilon", False),
    ],
)
def test_v_prediction_and_zero_snr_by_metadata_marks_and_name(
    look: Look,
    marks: tuple[str, ...],
    name: str,
    metadata: dict[str, str],
    prediction: str,
    zero_snr: bool,
):
    known = look(w.sdxl() | dict.fromkeys(marks, (0,)), f"{name}.safetensors", metadata=metadata)
    assert (known.config, known.prediction, known.zero_snr) == ("sdxl", prediction, zero_snr)


@pytest.mark.parametrize(
    ("name", "metadata", "config"),
    [
        ("v2-1_768-ema-pruned", {}, "sd2-v"),
        ("v2-1_512-ema-pruned", {}, "sd2"),
        ("512-base-ema", {}, "sd2"),
        ("meadow", {}, "sd2-v"),
        ("meadow", {"modelspec.architecture": "stable-diffusion-v2-512"}, "sd2"),
        ("512", {"modelspec.architecture": "stable-diffusion-v2-768-v"}, "sd2-v"),
    ],
)
def test_the_two_kinds_of_stable_diffusion_2(
    look: Look, name: str, metadata: dict[str, str], config: str
):
    known = look(w.sd2(), f"{name}.safetensors", metadata=metadata)
    assert known.config == config
    assert known.prediction == ("v_prediction" if config == "sd2-v" else "epsilon")


@pytest.mark.parametrize(
    ("shapes", "name", "distilled", "config"),
    [
        (w.flux(guidance=False), "anything", Distilled("schnell", 4), "flux-schnell"),
        (w.z_image(), "z_image_turbo_bf16", Distilled("turbo", 8), "z-image-turbo"),
        (w.z_image(), "z_image_bf16", None, "z-image"),
        (
            w.flux2(3072, 7680, 5, 20, guidance=False),
            "flux-2-klein-4b",
            Distilled("klein", 4),
            "flux2-klein-4b",
        ),
        (w.flux2(3072, 7680, 5, 20, guidance=False), "klein-base-4b", None, "flux2-klein-4b"),
        (w.sd3(38), "sd3.5_large_turbo", Distilled("turbo", 4), "sd3.5-large"),
        (w.sdxl_unet(), "RealVisXL_V5_Lightning", Distilled("lightning", 6), "sdxl"),
    ],
)
def test_few_step_models(
    look: Look, shapes: w.Shapes, name: str, distilled: Distilled | None, config: str
):
    known = look(shapes, f"{name}.safetensors")
    assert (known.distilled, known.config) == (distilled, config)


TELLING = [
    *(name for make in (w.sdxl, w.refiner, w.flux, w.z_image) for name in list(make())[:40]),
    *list(w.under(UNET, w.sd3(1, twice=True)) | w.qwen_image(1) | w.t5(depth=1) | w.vae(32)),
    *list(w.flux2(3072, 7680, 1, 20) | w.open_clip(768, 1) | w.clip(768, 1)),
    *list(w.language_model(2560, 1, query_norm=True)),
    "transformer.x_embedder.lora_A.weight",
    "lora_unet_single_blocks_0_linear1.lora_down.weight",
    "controlnet_cond_embedding.conv_in.weight",
    "input_hint_block.0.weight",
    "img_in.weight.absmax",
    "emb_params",
    "clip_g",
]
"""Names by which files are told apart."""


@settings(max_examples=300, deadline=None)
@given(
    shapes=st.dictionaries(
        st.sampled_from(TELLING),
        st.lists(st.sampled_from([0, 1, 4, 64, 128, 768, 1280, 2048]), max_size=4).map(tuple),
        max_size=12,
    ),
    metadata=st.dictionaries(
        st.sampled_from(["modelspec.prediction_type", "modelspec.title", "ss_tag_frequency"]),
        st.text(max_size=20),
    ),
    file=st.text(max_size=20),
)
def test_real_names_with_shapes_that_nobody_has_raise_nothing(
    shapes: w.Shapes, metadata: dict[str, str], file: str
):
    dtypes, sizes = dict.fromkeys(shapes, "F16"), dict.fromkeys(shapes, 2)
    known = recognise(Header(shapes, metadata, 8, dtypes, sizes), file=file)
    assert known.config is None or known.kind in ("model", "denoiser", "vae", "lora")


def test_the_largest_header_takes_less_than_50_ms(tmp_path: Path):
    path = w.put(tmp_path / "meadow.safetensors", w.sdxl())
    took: list[float] = []
    for _ in range(5):
        began = time.process_time()
        assert recognise(read_header(path), file=path.name).config == "sdxl"
        took.append(time.process_time() - began)
    assert min(took) < 0.05
