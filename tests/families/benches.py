"""The benches of the families: a tiny model of each, and what it has to show."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from diffusers.pipelines.flux.pipeline_flux_img2img import FluxImg2ImgPipeline
from diffusers.pipelines.flux.pipeline_flux_inpaint import FluxInpaintPipeline
from diffusers.pipelines.qwenimage.pipeline_qwenimage_img2img import QwenImageImg2ImgPipeline
from diffusers.pipelines.qwenimage.pipeline_qwenimage_inpaint import QwenImageInpaintPipeline
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img import (
    StableDiffusionImg2ImgPipeline,
)
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_inpaint import (
    StableDiffusionInpaintPipeline,
)
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3_img2img import (
    StableDiffusion3Img2ImgPipeline,
)
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3_inpaint import (
    StableDiffusion3InpaintPipeline,
)
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl_img2img import (
    StableDiffusionXLImg2ImgPipeline,
)
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl_inpaint import (
    StableDiffusionXLInpaintPipeline,
)
from diffusers.pipelines.z_image.pipeline_z_image_img2img import ZImageImg2ImgPipeline
from diffusers.pipelines.z_image.pipeline_z_image_inpaint import ZImageInpaintPipeline

from tests.families import (
    against_diffusers,
    kit,
    test_flux,
    test_lcm,
    test_sd3,
    tiny,
    tiny_modern,
    tiny_sd,
    tiny_sdxl,
)
from tests.families.against_diffusers import Ways
from tests.families.kit import Bench
from webui.generation.families import (
    FLUX,
    FLUX2,
    FLUX2_KLEIN,
    FLUX2_KLEIN_BASE,
    FLUX_CONTROL,
    FLUX_FILL,
    FLUX_SCHNELL,
    LCM,
    QWEN_IMAGE,
    SD1,
    SD2,
    SD3,
    SDXL,
    SDXL_LCM,
    SDXL_REFINER,
    Z_IMAGE,
    Z_IMAGE_TURBO,
    Family,
)
from webui.generation.loaded import Loaded
from webui.generation.prompt_rooms import PROMPT_ROOMS

Write = Callable[[Path], None]
"""Writes a model, or a ControlNet, into its folder."""


@dataclass(frozen=True)
class Row:
    """One kind of model.

    Attributes:
        lora: A layer as a LoRA's file names it, and its place (`kit.check_lora`).
        net: A ControlNet that fits.
        said: What its requests say beside the prompt.
        ways: diffusers' own pipelines that start from a picture.
        without: Checks that are left out, and why.
    """

    family: Family
    write: Write
    lora: tuple[str, str]
    net: Write | None = None
    said: Mapping[str, Any] = field(default_factory=dict[str, Any])
    ways: Ways | None = None
    without: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def left_out(self) -> Mapping[str, str]:
        """What is left out by what the family is, and beyond that."""
        if self.family.backbone not in PROMPT_ROOMS:
            return {"check_plain_text": "Its prompts have A1111's grammar.", **self.without}
        return {"check_grammar": "Its prompts are plain text.", **self.without}


@dataclass(frozen=True)
class RowsBench(Bench):
    """A bench that knows what fits its model.

    Attributes:
        row: What is known of it.
    """

    row: Row

    @property
    def loaded(self) -> Loaded:
        if not self.row.family.hinted:
            return super().loaded
        # Every request of it has a picture, which the engine alone knows how to bring in.
        if not self.in_memory:
            self.picture()
        return self.in_memory[-1]

    @property
    def control(self) -> dict[str, Any]:
        return hint(self) | {"model": "edges"}


def hint(bench: Bench) -> dict[str, Any]:
    return {"kind": "canny", "picture": bench.bring(kit.gradient()), "preprocessor": "none"}


@contextmanager
def bench_of(row: Row, folder: Path) -> Generator[RowsBench]:
    if row.net is not None:
        row.net(folder / "models" / "controlnet" / "edges")
    said: dict[str, Any] = {"sampler": "Euler", **row.said}
    with kit.bench_of(folder, row.write, **said) as made:
        own = {"controls": [hint(made)]} if row.family.hinted else {}
        yield RowsBench(made.engine, made.settings, {**made.base, **own}, row)


def check_family(bench: RowsBench) -> None:
    assert bench.loaded.family is bench.row.family


def check_lora(bench: RowsBench) -> None:
    kit.check_lora(bench, dict([bench.row.lora]), "own")


def check_control(bench: RowsBench) -> None:
    kit.check_control(bench, bench.control)


def check_control_starts(bench: RowsBench) -> None:
    kit.check_control_starts(bench, bench.control)


def check_starts_as_diffusers(bench: RowsBench) -> None:
    assert bench.row.ways is not None
    against_diffusers.check_starts_as_diffusers(bench, bench.row.ways)


def check_inpaints_as_diffusers(bench: RowsBench) -> None:
    assert bench.row.ways is not None
    against_diffusers.check_inpaints_as_diffusers(bench, bench.row.ways)


CHECKS: tuple[Callable[[RowsBench], None], ...] = (
    check_family,
    kit.check_repeats,
    kit.check_batch,
    kit.check_prompt_acts,
    kit.check_grammar,
    kit.check_plain_text,
    kit.check_cancel,
    kit.check_previews,
    kit.check_reuse,
    kit.check_starts_from_picture,
    kit.check_inpaints,
    kit.check_speed,
    check_lora,
    check_control,
    check_control_starts,
    check_starts_as_diffusers,
    check_inpaints_as_diffusers,
)


def write_hand_over(folder: Path) -> None:
    tiny_sdxl.write_sdxl(folder)
    tiny_sdxl.write_refiner(folder.with_name("fine"))


def write_union(folder: Path) -> None:
    tiny_sdxl.write_controlnet(folder, 3, union=True)


def write_sd35_turbo(folder: Path) -> None:
    test_sd3.write_sd3(folder.with_name(TURBO))


TURBO = "sd3.5_large_turbo"
"""By whose name it is known."""

CROSS = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
UNET: tuple[str, str] = (f"lora_unet_{CROSS.replace('.', '_')}", f"unet:{CROSS}")


def _of_transformer(path: str) -> tuple[str, str]:
    return f"transformer.{path}", f"transformer:{path}"


OUT = _of_transformer("transformer_blocks.0.attn.to_out.0")
FEED = _of_transformer("transformer_blocks.0.ff.linear_in")


def _without(checks: tuple[str, ...], reason: str) -> dict[str, str]:
    return dict.fromkeys(checks, reason)


OF_NETS = ("check_control", "check_control_starts")
STARTS = ("check_starts_from_picture",)
AS_SDXL = _without(("check_grammar",), "It reads prompts as the row of SDXL does.")
OF_WAYS = ("check_starts_as_diffusers", "check_inpaints_as_diffusers")
NO_NETS = _without(OF_NETS, "diffusers has no ControlNets for the family.")
NO_WAYS = _without(OF_WAYS, "diffusers has none that does not show the model the picture as well.")

GUIDED: dict[str, Any] = {"cfg": 4.0, "negative_prompt": "a blue lake"}
THEIRS: dict[str, Any] = {"guidance_scale": 4.0, "negative_prompt": "a blue lake"}
TRUE_CFG: dict[str, Any] = {"true_cfg_scale": 4.0, "negative_prompt": "a blue lake"}
OF_SD = Ways(StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline, GUIDED, THEIRS)
OF_SDXL = Ways(StableDiffusionXLImg2ImgPipeline, StableDiffusionXLInpaintPipeline, GUIDED, THEIRS)
OF_FLUX = (FluxImg2ImgPipeline, FluxInpaintPipeline)
OF_Z_IMAGE = (ZImageImg2ImgPipeline, ZImageInpaintPipeline)

SDXL_NET = partial(tiny_sdxl.write_controlnet, seed=3)
Z_LAYER = _of_transformer("layers.0.attention.to_q")
Z_NET = partial(tiny_modern.write_z_controlnet, version="2.1")

LOST = _without(STARTS, "Random weights leave nothing of the picture in a step or two.")
OF_LCM: dict[str, Any] = {"sampler": "LCM"}
WITH_LCM = _without(
    (*STARTS, *OF_WAYS), "Its sampler draws noise anew in each step: test_lcm shows it."
) | _without(("check_grammar",), "It has no negative prompt: the rows without LCM show it.")

ROWS: Mapping[str, Row] = {
    "sd1": Row(
        SD1,
        tiny_sd.write_sd1,
        UNET,
        partial(tiny_sd.write_controlnet, width=tiny_sd.L),
        ways=OF_SD,
    ),
    "sd2": Row(
        SD2,
        tiny_sd.write_sd2,
        UNET,
        partial(tiny_sd.write_controlnet, width=tiny_sd.H),
        ways=OF_SD,
    ),
    "lcm": Row(
        LCM,
        test_lcm.write_lcm,
        UNET,
        partial(tiny_sd.write_controlnet, width=tiny.TEXT_WIDTH),
        OF_LCM,
        without=WITH_LCM,
    ),
    "lcm sdxl": Row(
        SDXL_LCM,
        partial(tiny_sdxl.write_sdxl, time_cond_proj_dim=256),
        UNET,
        SDXL_NET,
        OF_LCM,
        without=WITH_LCM,
    ),
    "sdxl": Row(
        SDXL,
        tiny_sdxl.write_sdxl,
        UNET,
        SDXL_NET,
        ways=OF_SDXL,
    ),
    "sdxl inpaint": Row(
        SDXL,
        partial(tiny_sdxl.write_sdxl, channels=9),
        UNET,
        write_union,
        without=AS_SDXL
        | _without(OF_WAYS, "Without a mask diffusers fails; with one test_sdxl_inpaint shows it."),
    ),
    "sdxl refiner": Row(
        SDXL_REFINER,
        tiny_sdxl.write_refiner,
        UNET,
        ways=OF_SDXL,
        without=_without(OF_NETS, "ControlNets are made for the base model, not for it.") | LOST,
    ),
    "hand-over": Row(
        SDXL,
        write_hand_over,
        UNET,
        SDXL_NET,
        {"refiner": "fine", "refiner_start": 0.5},
        without=AS_SDXL
        | _without(("check_speed",), "test_speed shows it beside a refiner.")
        | _without(OF_WAYS, "test_sdxl_refiner compares the two with diffusers' ensemble."),
    ),
    "sd3": Row(
        SD3,
        test_sd3.write_sd3,
        OUT,
        test_sd3.write_controlnet,
        ways=Ways(StableDiffusion3Img2ImgPipeline, StableDiffusion3InpaintPipeline, GUIDED, THEIRS),
    ),
    "sd3.5 turbo": Row(
        SD3,
        write_sd35_turbo,
        OUT,
        test_sd3.write_controlnet,
        {"model": TURBO},
        Ways(
            StableDiffusion3Img2ImgPipeline,
            StableDiffusion3InpaintPipeline,
            theirs={"guidance_scale": 1.0},
        ),
    ),
    "flux": Row(
        FLUX,
        test_flux.write_flux,
        OUT,
        test_flux.write_controlnet,
        ways=Ways(*OF_FLUX, theirs={"guidance_scale": 3.5}),
    ),
    "flux schnell": Row(
        FLUX_SCHNELL,
        partial(test_flux.write_flux, guidance=False),
        OUT,
        test_flux.write_controlnet,
        ways=Ways(*OF_FLUX, theirs={"max_sequence_length": 256}),
    ),
    "flux fill": Row(
        FLUX_FILL,
        test_flux.write_fill,
        OUT,
        without=_without(OF_NETS, "Those of FLUX.1 dev do not fit it, and are refused.")
        | _without(OF_WAYS, "diffusers runs it from noise alone: so does test_flux."),
    ),
    "flux canny": Row(
        FLUX_CONTROL,
        partial(test_flux.write_flux, channels=128, pipeline="FluxControlPipeline"),
        OUT,
        without=_without(OF_NETS, "It reads a hint itself: all its requests here have one.")
        | _without(OF_WAYS, "The row of FLUX.1 dev shows it: the hint is the same throughout."),
    ),
    "flux2": Row(FLUX2, tiny_modern.write_flux2_dev, FEED, without=NO_NETS | NO_WAYS),
    "klein base": Row(
        FLUX2_KLEIN_BASE,
        partial(tiny_modern.write_flux2_klein, distilled=False),
        FEED,
        without=NO_NETS | NO_WAYS | LOST,
    ),
    "klein": Row(
        FLUX2_KLEIN,
        partial(tiny_modern.write_flux2_klein, distilled=True),
        FEED,
        without=NO_NETS | NO_WAYS | LOST,
    ),
    "z-image": Row(
        Z_IMAGE,
        partial(tiny_modern.write_z_image, shift=6.0),
        Z_LAYER,
        Z_NET,
        # Its scale counts from the prompt's own prediction on, ours from the negative prompt's.
        ways=Ways(*OF_Z_IMAGE, GUIDED, THEIRS | {"guidance_scale": 3.0}, encodes=True),
    ),
    "z-image turbo": Row(
        Z_IMAGE_TURBO,
        partial(tiny_modern.write_z_image, shift=3.0),
        Z_LAYER,
        Z_NET,
        ways=Ways(*OF_Z_IMAGE, theirs={"guidance_scale": 0.0}, encodes=True),
    ),
    "qwen-image": Row(
        QWEN_IMAGE,
        tiny_modern.write_qwen_image,
        _of_transformer("transformer_blocks.1.attn.to_q"),
        tiny_modern.write_qwen_controlnet,
        ways=Ways(QwenImageImg2ImgPipeline, QwenImageInpaintPipeline, GUIDED, TRUE_CFG),
    ),
}
