"""FLUX.1 that takes hints itself: its models for edges and depth, and LoRAs that make it so."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from diffusers.pipelines.flux.pipeline_flux_control import FluxControlPipeline
from PIL import Image
from safetensors.torch import save

from tests.families import kit
from tests.families.kit import Bench
from tests.families.test_flux import TRANSFORMER, first_noise, plain, theirs, write_flux
from webui.errors import BadRequestError
from webui.generation.loaded import Loaded

PIPELINE = "FluxControlPipeline"


class Hinted(Bench):
    """One whose every request has a picture, which is brought in by the engine."""

    @property
    def loaded(self) -> Loaded:
        untyped: Any = self.engine
        return untyped._painter._pipelines.loaded


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A model for hints."""
    write = partial(write_flux, channels=128, pipeline=PIPELINE)
    with kit.bench_of(tmp_path_factory.mktemp("whole"), write, sampler="Euler") as made:
        yield Hinted(made.engine, made.settings, {**made.base, **controls(made)})


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Any other, with LoRAs for hints."""
    folder = tmp_path_factory.mktemp("lora")
    nets = folder / "models" / "controlnet"
    nets.mkdir(parents=True)
    (nets / "flux-canny-lora.safetensors").write_bytes(save(control_lora()))
    (nets / "normless-lora.safetensors").write_bytes(save(control_lora(norm=False)))
    (nets / "flux-depth-lora.safetensors").write_bytes(save(in_their_names(control_lora())))
    with kit.bench_of(folder, write_flux, sampler="Euler") as made:
        yield made


SHAPES = {
    "x_embedder": (32, 128),
    "context_embedder": (32, 32),
    **{f"transformer_blocks.0.attn.to_{part}": (32, 32) for part in "qkv"},
    "single_transformer_blocks.0.proj_out": (32, 160),
    "norm_out.linear": (64, 32),
}


def control_lora(*, norm: bool = True) -> dict[str, torch.Tensor]:
    """One in diffusers' names, with biases and a norm as those of FLUX.1's makers have them."""
    random = torch.Generator().manual_seed(3)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=random) * 0.5

    made: dict[str, torch.Tensor] = {}
    down = drawn(4, 32)
    for path, (out, inside) in SHAPES.items():
        # The three of a block share it, as they do where they are one layer.
        made[f"{path}.lora_A.weight"] = down.clone() if ".to_" in path else drawn(4, inside)
        made[f"{path}.lora_B.weight"] = drawn(out, 4)
        made[f"{path}.lora_B.bias"] = drawn(out)
    if norm:
        made["transformer_blocks.0.attn.norm_q.weight"] = 1 + drawn(16)
    return {f"transformer.{name}": tensor for name, tensor in made.items()}


def in_their_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same in the names of FLUX.1's makers, who have queries, keys and values in one layer and
    the last norm's shift before its scale."""
    made: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        new = name.removeprefix("transformer.")
        for ours, own in (
            ("x_embedder", "img_in"),
            ("context_embedder", "txt_in"),
            ("single_transformer_blocks.0.proj_out", "single_blocks.0.linear2"),
            ("norm_out.linear", "final_layer.adaLN_modulation.1"),
            (
                "transformer_blocks.0.attn.norm_q.weight",
                "double_blocks.0.img_attn.norm.query_norm.scale",
            ),
        ):
            new = new.replace(ours, own)
        if ".attn.to_" not in new:
            is_swapped = new.startswith("final_layer") and ".lora_B." in new
            made[new] = torch.cat([*reversed(tensor.chunk(2))]) if is_swapped else tensor
            continue
        part, end = new.split(".attn.to_")[1].split(".", 1)
        whole = f"double_blocks.0.img_attn.qkv.{end}"
        if end == "lora_A.weight":
            made[whole] = tensor
        elif part == "q":
            parts = [tensors[name.replace("to_q", f"to_{each}")] for each in "qkv"]
            made[whole] = torch.cat(parts)
    return made


def controls(bench: Bench, kind: str = "canny", shift: int = 0, **changes: Any) -> dict[str, Any]:
    picture = bench.bring(kit.gradient(shift))
    return {"controls": [{"kind": kind, "picture": picture, "preprocessor": "none"} | changes]}


def wide(bench: Bench, scale: float, guidance: float, steps: int) -> torch.Tensor:
    """diffusers' own pipeline over the same model with its own loading of the LoRA."""
    pipe = plain(bench, FluxControlPipeline)
    pipe.transformer = TRANSFORMER.from_pretrained(bench.settings.models / "tiny" / "transformer")
    # It puts norms in whatever the strength.
    pipe.load_lora_weights(control_lora(norm=scale == 1), adapter_name="hints")
    pipe.set_adapters("hints", scale)
    return of_hint(pipe, bench, guidance, steps)


def of_hint(pipe: Any, bench: Bench, guidance: float, steps: int) -> torch.Tensor:
    return theirs(
        pipe,
        bench,
        control_image=Image.fromarray(kit.gradient()),
        num_inference_steps=steps,
        guidance_scale=guidance,
        latents=first_noise(bench),
        generator=torch.Generator().manual_seed(1),
    )


@pytest.mark.parametrize(("kind", "guidance"), [("canny", 30.0), ("depth", 10.0)])
def test_a_model_for_hints_is_run_as_by_diffusers(whole: Bench, kind: str, guidance: float) -> None:
    """And, where nothing else is asked for, with the guidance that its makers run it with."""
    own = whole.latents(steps=2, **controls(whole, kind))
    their = of_hint(plain(whole, FluxControlPipeline), whole, guidance, 2)
    assert torch.allclose(own, their, atol=1e-4)


def test_a_model_for_hints_follows_them(whole: Bench) -> None:
    assert kit.differ(whole.picture(), whole.picture(**controls(whole, shift=3))) > 0


@pytest.mark.parametrize(
    ("changes", "count", "says"),
    [
        ({}, 0, "follows a hint of the kind 'canny' or 'depth': add one control."),
        ({"weight": 0}, 1, "add one control."),
        ({}, 2, "add one control and no more."),
        ({"kind": "pose"}, 1, "of the kind 'canny' or 'depth', not 'pose'"),
        ({"model": "edges"}, 1, "reads the hint itself: leave the ControlNet empty"),
        ({"weight": 0.5}, 1, "leave weight, start and end as they were"),
        ({"end": 0.5}, 1, "leave weight, start and end as they were"),
    ],
)
def test_what_means_nothing_to_it_is_refused(
    whole: Bench, changes: dict[str, Any], count: int, says: str
) -> None:
    with pytest.raises(BadRequestError, match=says) as refused:
        whole.picture(controls=controls(whole, **changes)["controls"] * count)
    assert str(refused.value.field).startswith("controls")


@pytest.mark.parametrize(
    ("name", "weight"),
    [("flux-canny-lora", 1.0), ("flux-depth-lora", 1.0), ("normless-lora", 0.6)],
)
def test_a_lora_for_hints_is_run_as_by_diffusers(bench: Bench, name: str, weight: float) -> None:
    asked = {"steps": 2, "guidance": 4.0}
    own = bench.latents(**asked, **controls(bench, model=name, weight=weight))
    assert torch.allclose(own, wide(bench, weight, 4.0, 2), atol=1e-4)
    other = bench.latents(**asked, **controls(bench, model=name, weight=weight, shift=3))
    assert (own - other).abs().mean() > 1e-3


def test_a_lora_for_hints_acts_in_its_time_and_by_its_weight_and_is_gone_to_the_bit(
    bench: Bench,
) -> None:
    alone = bench.picture()
    strong = bench.picture(**controls(bench))
    apart = kit.differ(strong, alone)
    assert kit.differ(strong, bench.picture(**controls(bench, shift=3))) > 0
    assert (
        0
        < kit.differ(
            bench.picture(guidance=30.0, **controls(bench, weight=0.05)),
            bench.picture(guidance=30.0),
        )
        < apart
    )
    assert kit.differ(bench.picture(**controls(bench, end=0.3)), strong) > 0
    assert kit.differ(bench.picture(**controls(bench, start=0.7)), bench.picture(guidance=30.0)) > 0
    batch = bench.pictures(batch=2, **controls(bench))
    assert abs(batch[1] - bench.picture(seed=6, **controls(bench))).max() <= 2
    bench.forget()
    assert (bench.picture(**controls(bench, weight=0)) == alone).all()
    assert bench.loaded.loras.kept_bytes == 0
    assert not bench.loaded.denoiser.x_embedder._forward_hooks


def test_a_lora_for_hints_acts_beside_common_ones(bench: Bench) -> None:
    layer = "transformer_blocks.0.attn.to_out.0"
    kit.check_lora(bench, {f"transformer.{layer}": f"transformer:{layer}"}, "plain")
    both = {"loras": [{"name": "plain"}], **controls(bench)}
    assert kit.differ(bench.picture(**both), bench.picture(**controls(bench))) > 0


def test_among_common_loras_it_is_refused_with_its_place(bench: Bench) -> None:
    bench.settings.loras.mkdir(exist_ok=True)
    (bench.settings.loras / "edges.safetensors").write_bytes(save(control_lora()))
    with pytest.raises(
        BadRequestError, match=r"Row 1 .*steers by a picture: put it into the folder"
    ):
        bench.picture(loras=[{"name": "edges"}])


def test_one_for_another_width_is_refused(bench: Bench, whole: Bench) -> None:
    nets = bench.settings.models / "controlnet"
    other = {
        name: torch.cat([t, t]) if name.endswith("B.weight") else t
        for name, t in control_lora().items()
    }
    (nets / "wide-canny.safetensors").write_bytes(save(other))
    with pytest.raises(BadRequestError, match="'wide-canny' is made for other models than 'tiny'"):
        bench.picture(**controls(bench, model="wide-canny"))
    broken = nets / "half-canny.safetensors"
    broken.write_bytes((nets / "wide-canny.safetensors").read_bytes()[:-9])
    with pytest.raises(BadRequestError, match=r"half-canny\.safetensors is truncated"):
        bench.picture(**controls(bench, model="half-canny"))
    broken.unlink()
