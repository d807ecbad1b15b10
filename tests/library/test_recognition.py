from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.library import weights as w
from tests.work import lines_run
from webui.library.components import COMPONENTS
from webui.library.distilled import Distilled
from webui.library.headers import Header, read_header
from webui.library.recognition import Recognised, recognise

UNET = "model.diffusion_model."
COSXL = {"edm_vpred.sigma_max": (), "edm_vpred.sigma_min": ()}


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
        (w.sdxl() | COSXL, "is a CosXL model"),
        (w.sdxl(8) | COSXL, "is a CosXL model"),
        (
            {"difference": (), "control_model.input_hint_block.0.weight": (16, 3, 3, 3)},
            "is a ControlNet stored as its difference from a model",
        ),
        (
            {
                "control_img_in.weight": (3072, 132),
                "control_blocks.0.after_proj.weight": (3072, 3072),
            },
            "is a Fun ControlNet by Alibaba PAI for Qwen-Image",
        ),
        (
            {
                "control_img_in.weight": (6144, 260),
                "control_transformer_blocks.0.after_proj.weight": (6144, 6144),
            },
            "is a Fun ControlNet by Alibaba PAI for FLUX.2",
        ),
        ({"ip_adapter.1.to_k_ip.weight": (320, 768)}, "is an IP-Adapter"),
        ({"conv_first.weight": (64, 3, 3, 3)}, "is an upscaler"),
        ({"some.weight": (3, 3)}, "holds nothing that is known here"),
        (w.t5(languages=True), "is a T5 that no served model uses"),
        (w.language_model(1024, 28, query_norm=True), "no served model uses"),
        (w.language_model(2560, 36, query_norm=True, vocabulary=217_204), "217,204 tokens"),
        (w.language_model(2560, 34, query_norm=True, vocabulary=262_208), "262,208 tokens"),
        # Mistral Nemo, which is as wide as Mistral Small and knows as many tokens.
        (
            w.language_model(5120, 40, query_norm=False, vocabulary=131_072, inner=14_336),
            "is Mistral Nemo, a language model that no served model uses",
        ),
        (w.qwen3_vl(2560), "is Qwen3-VL, a language model that no served model uses"),
        (w.qwen3_vl(4096), "is Qwen3-VL, a language model that no served model uses"),
        (w.qwen3_vl(2560, "visual."), "is Qwen3-VL, a language model that no served model uses"),
        (w.clip(768, 12, 248), "is a Long-CLIP of 248 positions"),
        (w.vae(8), "is a VAE of 8 channels"),
        (w.wan_vae(48, 1024, 12), "is Wan 2.2's VAE"),
        (w.wan_vae(64), "is a VAE of 64 channels"),
        (w.wan_vae(colours=4), "whose pictures have 4 channels"),
        (
            {
                "decoder.mid_block.resnets.0.norm1.gamma": (1024, 1, 1, 1),
                "decoder.conv_in.weight": (1024, 48, 3, 3, 3),
            },
            "is Wan 2.2's VAE",
        ),
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
        (w.vae(), "sharpspectrumvaexl_v1.safetensors", "vae-sdxl"),
        (w.vae(), "xlVAEC_e7.safetensors", "vae-sdxl"),
        (w.vae(), "pixlated.safetensors", "vae-sd"),
        (w.vae(), "sdxl-vae-fp16-fix/diffusion_pytorch_model.safetensors", "vae-sdxl"),
        (w.vae(), "sdxl-vae/diffusion_pytorch_model.fp16.safetensors", "vae-sdxl"),
        (w.vae(), "sdxl/kl-f8.safetensors", "vae-sd"),
        (w.vae(16), "sd3_vae.safetensors", "vae-sd3"),
        (w.vae(16), "SD3.5Large.safetensors", "vae-sd3"),
        (w.vae(16), "stable_diffusion_3.5_vae.safetensors", "vae-sd3"),
        (w.vae(16), "stable-diffusion-3.5/diffusion_pytorch_model.safetensors", "vae-sd3"),
        (w.vae(16), "sd_300k.safetensors", "vae-flux"),
        (w.vae(16), "FLUX.1-dev/diffusion_pytorch_model.safetensors", "vae-flux"),
        (w.vae(32), "flux2-vae.safetensors", "vae-flux2"),
        (
            w.vae(32) | {"decoder.conv_in.weight": (384, 32, 3, 3)},
            "full_encoder_small_decoder.safetensors",
            "vae-flux2",
        ),
        (
            w.wan_vae(),
            "qwen_image_vae.safetensors",
            "vae-qwen",
        ),
        (
            {
                "decoder.mid_block.resnets.0.norm1.gamma": (384, 1, 1, 1),
                "decoder.conv_in.weight": (384, 16, 3, 3, 3),
                "decoder.conv_out.bias": (3,),
            },
            "diffusion_pytorch_model.safetensors",
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
        (w.language_model(4096, 36, query_norm=True, inner=12_288), "qwen3-8b"),
        (
            w.language_model(
                3584,
                28,
                query_norm=False,
                prefix="model.language_model.",
                vocabulary=152_064,
                inner=18_944,
            ),
            "qwen2.5-vl-7b",
        ),
        (
            w.language_model(5120, 40, query_norm=False, vocabulary=131_072, inner=32_768),
            "mistral-small",
        ),
    ],
)
def test_a_text_encoder_is_known_and_used_by_something(
    look: Look, shapes: w.Shapes, component: str
):
    known = look(shapes)
    assert (known.kind, known.component, known.problem) == ("text encoder", component, None)
    assert any(component in parts.values() for parts in COMPONENTS.values())


@pytest.mark.parametrize(
    ("inner", "component"), [(32_768, "mistral-small"), (14_336, None)], ids=["small", "nemo"]
)
def test_a_language_model_is_known_when_bitsandbytes_packed_it(
    look: Look, inner: int, component: str | None
):
    model = w.language_model(5120, 2, query_norm=False, vocabulary=131_072, inner=inner)
    packed, types = w.bnb_nf4(model, but=("model.embed_tokens.weight",))
    assert look(packed, dtypes=types).component == component


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
        # As XLabs have them.
        ({"double_blocks.0.processor.qkv_lora1.down.weight": (16, 3072)}, "lora", "Flux"),
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


def test_a_lora_that_takes_a_picture_is_a_controlnet(look: Look):
    known = look(
        {
            "transformer.x_embedder.lora_A.weight": (128, 128),
            "transformer.single_transformer_blocks.0.proj_mlp.lora_A.weight": (128, 3072),
        }
    )
    assert (known.kind, known.family, known.config) == ("controlnet", "Flux", "flux-control")


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


def test_a_denoiser_that_is_packed_in_part_is_refused(look: Look):
    shapes, types = w.nvfp4(w.flux(), ("double_blocks.0.img_attn.qkv",))
    known = look(shapes, dtype="BF16", dtypes=types)
    assert (known.config, known.precision) == ("flux-dev", "nvfp4")
    assert "is stored as nvfp4" in (known.problem or "")


QWEN3 = w.language_model(2560, 36, query_norm=True)


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3"])
@pytest.mark.parametrize("layers", [1, 30])
def test_a_text_encoder_that_is_packed_in_part_is_refused(look: Look, dtype: str, layers: int):
    """As `qwen_3_4b_fp8_mixed` and `qwen_3_4b_fp4_mixed`, of which most is of other types."""
    names = tuple(f"model.layers.{n}.self_attn.q_proj" for n in range(layers))
    shapes, types = w.nvfp4(QWEN3, names)
    known = look(shapes, "qwen_3_4b_fp4_mixed.safetensors", dtype, types)
    assert (known.kind, known.component, known.precision) == ("text encoder", "qwen3-4b", "nvfp4")
    assert "is stored as nvfp4, which is not read here" in (known.problem or "")


def test_a_t5_in_four_bits_is_refused(look: Look):
    """As Nunchaku packs it, four numbers to one of 16 bits, beside a table that is the most."""
    shapes = w.t5(depth=2)
    packed = [name for name in shapes if ".SelfAttention." in name and "relative" not in name]
    types: dict[str, str] = {}
    for name in packed:
        rows, width = shapes.pop(name)
        layer = name.removesuffix(".weight")
        shapes |= {
            f"{layer}.qweight": (rows // 4, width),
            f"{layer}.scales": (width // 128, rows),
            f"{layer}.scaled_zeros": (width // 128, rows),
        }
        types[f"{layer}.qweight"] = "I16"
    known = look(shapes, "awq-int4-flux.1-t5xxl.safetensors", "BF16", types)
    assert (known.component, known.precision) == ("t5-xxl", "int4")
    assert "is stored as int4" in (known.problem or "")


def test_a_text_encoder_in_eight_bits_of_no_known_kind_is_refused(look: Look):
    layer = "model.layers.0.self_attn.q_proj"
    scale = {f"{layer}.weight_scale": (2560, 1), f"{layer}.comfy_quant": (30,)}
    types = {f"{layer}.weight": "I8", f"{layer}.comfy_quant": "U8"}
    known = look(QWEN3 | scale, dtype="BF16", dtypes=types)
    assert "is stored as int8" in (known.problem or "")


@pytest.mark.parametrize(
    ("scale", "shape", "dtype", "stored"),
    [
        # As Qwen publishes its models, and as ComfyUI writes them for the newest cards.
        (".weight_scale_inv", (20, 20), "BF16", "fp8 in blocks"),
        (".weight_scale", (2560, 80), "U8", "mxfp8"),
        (".weight_scale", (), "F32", None),
    ],
)
def test_fp8_with_a_scale_for_each_block_is_refused(
    look: Look, scale: str, shape: tuple[int, ...], dtype: str, stored: str | None
):
    layer = "model.layers.0.self_attn.q_proj"
    types = {f"{layer}.weight": "F8_E4M3", f"{layer}{scale}": dtype}
    known = look(QWEN3 | {f"{layer}{scale}": shape}, dtype="BF16", dtypes=types)
    assert known.precision == (stored or "bf16")
    assert (known.problem is None) == (stored is None)


def test_text_encoders_with_a_tokenizer_or_packed_by_bitsandbytes_are_read(look: Look):
    """What lies beside their weights in bytes is no weight that is packed another way."""
    scales = {
        "scaled_fp8": (2,),
        "spiece_model": (791_656,),
        "encoder.block.0.layer.0.SelfAttention.q.scale_weight": (1,),
    }
    types = dict.fromkeys(scales, "F32") | {"spiece_model": "U8"}
    known = look(w.t5() | scales, dtype="F8_E4M3", dtypes=types)
    assert (known.component, known.precision, known.problem) == ("t5-xxl", "fp8", None)
    shapes, types = w.bnb_nf4(QWEN3)
    known = look(shapes, dtypes=types)
    assert (known.component, known.precision, known.problem) == ("qwen3-4b", "nf4", None)


@pytest.mark.parametrize(
    ("architecture", "tokens", "says"),
    [
        ("qwen3", 151_936, None),
        ("qwen3vl", 151_936, "is Qwen3-VL"),
        ("qwen3", 217_204, "217,204 tokens"),
    ],
)
def test_a_gguf_text_encoder_is_told_from_its_kin(
    tmp_path: Path, architecture: str, tokens: int, says: str | None
):
    shapes: w.Shapes = {
        "token_embd.weight": (tokens, 2560),
        "blk.0.attn_norm.weight": (2560,),
        "blk.0.attn_q_norm.weight": (128,),
    }
    texts = {"general.architecture": architecture}
    path = w.put_gguf(tmp_path / "Qwen3-4B-Q8_0.gguf", shapes, texts=texts)
    known = recognise(read_header(path), file=path.name)
    assert known.component == ("qwen3-4b" if says is None else None)
    assert (known.problem is None) == (says is None)
    assert (says or "") in (known.problem or "")


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
        (("v_pred",), "meadow", {"modelspec.prediction_type": "epsilon"}, "v_prediction", False),
        ((), "meadow_vpred", {"modelspec.prediction_type": "epsilon"}, "epsilon", False),
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
    ("shapes", "name", "metadata"),
    [
        (w.flux(), "flux1-kontext-dev", {}),
        (w.flux(), "flux1-dev-kontext_fp8_scaled", {}),
        (w.flux(), "meadow", {"modelspec.title": "FLUX.1-Kontext-dev"}),
        (w.qwen_image(), "qwen_image_edit_2509_fp8_e4m3fn", {}),
    ],
)
def test_models_that_change_pictures_as_told_are_refused(
    look: Look, shapes: w.Shapes, name: str, metadata: dict[str, str]
):
    known = look(shapes, f"{name}.safetensors", metadata=metadata)
    assert "changes pictures as it is told; that is not served." in (known.problem or "")
    assert look(shapes, "edited_meadow.safetensors").problem is None


def test_fine_tunes_of_sdxl_are_sdxl(look: Look):
    for name in ("Illustrious-XL-v2.0", "waiNSFWIllustrious_v140", "ponyDiffusionV6XL"):
        known = look(w.sdxl(), f"{name}.safetensors")
        assert (known.config, known.prediction, known.distilled) == ("sdxl", "epsilon", None)
    marks = dict.fromkeys(("v_pred", "ztsnr"), (0,))
    known = look(w.sdxl() | marks, "NoobAI-XL-Vpred-v1.0.safetensors")
    assert (known.config, known.prediction, known.zero_snr) == ("sdxl", "v_prediction", True)


def test_a_unet_that_takes_guidance_in_says_how_wide(look: Look):
    layer = {f"{UNET}time_embedding.cond_proj.weight": (320, 256)}
    assert look(w.sd1() | layer).guidance_width == 256
    assert look(w.sd1()).guidance_width == 0


def test_one_step_lightning_predicts_the_picture_itself(look: Look):
    known = look(w.sdxl(), "sdxl_lightning_1step_x0.safetensors")
    assert (known.prediction, known.distilled) == ("sample", Distilled("lightning", 1))


@pytest.mark.parametrize(
    ("name", "metadata", "config"),
    [
        ("sd_turbo", {}, "sd2"),
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
        (
            w.sdxl_unet(),
            "RealVisXL_V5_Lightning",
            Distilled("lightning", 6, merged=True),
            "sdxl",
        ),
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


def test_the_largest_header_is_gone_through_a_few_times_and_not_more(tmp_path: Path):
    shapes = w.sdxl()
    path = w.put(tmp_path / "meadow.safetensors", shapes)

    def look() -> None:
        assert recognise(read_header(path), file=path.name).config == "sdxl"

    assert lines_run(look) < 20 * len(shapes)
