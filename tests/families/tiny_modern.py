"""Tiny models of the families whose prompts are read by language models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from diffusers.models.autoencoders.autoencoder_kl_flux2 import AutoencoderKLFlux2
from diffusers.models.autoencoders.autoencoder_kl_qwenimage import AutoencoderKLQwenImage
from diffusers.models.controlnets.controlnet_qwenimage import QwenImageControlNetModel
from diffusers.models.controlnets.controlnet_z_image import ZImageControlNetModel
from diffusers.models.transformers.transformer_flux2 import Flux2Transformer2DModel
from diffusers.models.transformers.transformer_qwenimage import QwenImageTransformer2DModel
from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel
from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
    FlowMatchEulerDiscreteScheduler,
)
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    MistralConfig,
    PixtralVisionConfig,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
)

from tests.families import tiny
from webui.generation.mistral_tokenizers import MISTRAL_TEMPLATE

WIDTH = 16
"""Of the language models."""

MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "[IMG]", "[IMG_BREAK]", "[IMG_END]")
VOCABULARY = 256 + len(MARKS)

QWEN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% endif %}{% endif %}"
)
# diffusers and transformers declare neither tuples of one entry nor all keyword arguments.
FLUX2: Any = Flux2Transformer2DModel
FLUX2_VAE: Any = AutoencoderKLFlux2
Z_IMAGE: Any = ZImageTransformer2DModel
QWEN_IMAGE: Any = QwenImageTransformer2DModel
QWEN_VAE: Any = AutoencoderKLQwenImage
SCHEDULER: Any = FlowMatchEulerDiscreteScheduler


def byte_tokenizer(template: str = QWEN_TEMPLATE) -> Qwen2Tokenizer:
    """One that knows every byte and the marks of a conversation."""
    untyped: Any = Qwen2Tokenizer
    letters = {letter: number for number, letter in enumerate(sorted(ByteLevel.alphabet()))}
    vocabulary = letters | {mark: 256 + number for number, mark in enumerate(MARKS)}
    return untyped(
        vocab=vocabulary,
        merges=[],
        additional_special_tokens=list(MARKS[1:]),
        chat_template=template,
    )


def qwen3(layers: int, kind: Any = Qwen3Model, **options: Any) -> Any:
    return kind(
        Qwen3Config(
            vocab_size=VOCABULARY,
            hidden_size=WIDTH,
            intermediate_size=24,
            num_hidden_layers=layers,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            **options,
        )
    )


def mistral3(layers: int) -> Any:
    text = MistralConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=24,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        sliding_window=None,
    )
    vision = PixtralVisionConfig(
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        image_size=28,
        patch_size=14,
    )
    untyped: Any = Mistral3Config
    return Mistral3ForConditionalGeneration(
        untyped(text_config=text, vision_config=vision, image_token_index=259)
    )


def qwen25_vl() -> Any:
    untyped: Any = Qwen2_5_VLConfig
    return Qwen2_5_VLForConditionalGeneration(
        untyped(
            text_config={
                "vocab_size": VOCABULARY,
                "hidden_size": WIDTH,
                "intermediate_size": 24,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 1,
                "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
            },
            vision_config={
                "depth": 1,
                "hidden_size": 8,
                "intermediate_size": 8,
                "num_heads": 1,
                "out_hidden_size": WIDTH,
                "fullatt_block_indexes": [0],
            },
            image_token_id=259,
            video_token_id=260,
            vision_start_token_id=261,
            vision_end_token_id=258,
        )
    )


def _flux2_vae() -> Any:
    vae = FLUX2_VAE(
        block_out_channels=(8, 8, 8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=32,
        sample_size=64,
    )
    vae.bn.running_mean.normal_()
    vae.bn.running_var.uniform_(0.5, 2.0)
    return vae


def flux2_transformer(*, guidance: bool) -> Any:
    return FLUX2(
        in_channels=128,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=3 * WIDTH,
        timestep_guidance_channels=8,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=guidance,
    )


def _dynamic_scheduler(**options: Any) -> Any:
    return SCHEDULER(shift=3.0, use_dynamic_shifting=True, **options)


def write_flux2_dev(folder: Path) -> None:
    with tiny.same_weights():
        parts = {
            "transformer": flux2_transformer(guidance=True),
            "vae": _flux2_vae(),
            "text_encoder": mistral3(32),
            "tokenizer": byte_tokenizer(MISTRAL_TEMPLATE),
            "scheduler": _dynamic_scheduler(),
        }
    tiny.write_model(folder, "Flux2Pipeline", parts)
    # As it is published; the processor's files are the tokenizer's and more.
    index = json.loads((folder / "model_index.json").read_text())
    index["tokenizer"] = ["transformers", "PixtralProcessor"]
    (folder / "model_index.json").write_text(json.dumps(index))


def write_flux2_klein(folder: Path, *, distilled: bool) -> None:
    with tiny.same_weights():
        parts = {
            "transformer": flux2_transformer(guidance=False),
            "vae": _flux2_vae(),
            "text_encoder": qwen3(29, Qwen3ForCausalLM),
            "tokenizer": byte_tokenizer(),
            "scheduler": _dynamic_scheduler(),
        }
    tiny.write_model(folder, "Flux2KleinPipeline", parts, is_distilled=distilled)


def z_image_transformer() -> Any:
    made = Z_IMAGE(
        in_channels=16,
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=WIDTH,
        axes_dims=[4, 6, 6],
        axes_lens=[1024, 64, 64],
    )
    # What it says at random would drown the picture that it starts from.
    for weights in made.all_final_layer["2-1"].linear.parameters():
        weights.data.mul_(0.3)
    return made


def write_z_image(folder: Path, *, shift: float) -> None:
    with tiny.same_weights():
        parts = {
            "transformer": z_image_transformer(),
            "vae": tiny.tiny_vae(16, scaling_factor=0.3611, shift_factor=0.1159),
            "text_encoder": qwen3(3),
            "tokenizer": byte_tokenizer(),
            "scheduler": SCHEDULER(shift=shift, use_dynamic_shifting=False),
        }
    tiny.write_model(folder, "ZImagePipeline", parts)


def write_z_controlnet(folder: Path, version: str) -> None:
    """One of a single block, built as those of that version by Alibaba PAI."""
    untyped: Any = ZImageControlNetModel
    refined = {"1.0": None, "2.0": "control_layers", "2.1": "control_noise_refiner"}[version]
    with tiny.same_weights(7):
        net = untyped(
            control_layers_places=[0],
            control_refiner_layers_places=None if refined is None else [0],
            control_in_dim=16 if refined is None else 33,
            # Of 2.0 the file brings the refiner of 2.1 along.
            add_control_noise_refiner=refined and "control_noise_refiner",
            dim=32,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
        )
        for layer in (*net.control_layers, *(net.control_noise_refiner if refined else ())):
            layer.before_proj.weight.data.normal_(std=0.3)
            layer.after_proj.weight.data.normal_(std=0.3)
        if version == "2.0":
            net.control_noise_refiner[0].before_proj.weight.data.zero_()
    net.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"add_control_noise_refiner": refined}))


def qwen_image_transformer() -> Any:
    return QWEN_IMAGE(
        in_channels=64,
        out_channels=16,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        axes_dims_rope=(4, 6, 6),
    )


def write_qwen_controlnet(folder: Path, **options: Any) -> None:
    """One of a single block, for hints of any kind, that does something."""
    untyped: Any = QwenImageControlNetModel
    with tiny.same_weights(7):
        net = untyped(
            in_channels=64,
            out_channels=16,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=WIDTH,
            axes_dims_rope=(4, 6, 6),
            **options,
        )
        for layer in (net.controlnet_x_embedder, *net.controlnet_blocks):
            layer.weight.data.normal_(std=0.3)
    net.save_pretrained(folder)


def _qwen_vae() -> Any:
    vae = QWEN_VAE(base_dim=8, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
    # As in real ones there is next to no deviation in what it encodes.
    vae.quant_conv.weight.data[16:] = 0
    vae.quant_conv.bias.data[16:] = -30
    return vae


def write_qwen_image(folder: Path) -> None:
    with tiny.same_weights():
        parts = {
            "transformer": qwen_image_transformer(),
            "vae": _qwen_vae(),
            "text_encoder": qwen25_vl(),
            "tokenizer": byte_tokenizer(),
            "scheduler": _dynamic_scheduler(
                base_shift=0.5, max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02
            ),
        }
    tiny.write_model(folder, "QwenImagePipeline", parts)
