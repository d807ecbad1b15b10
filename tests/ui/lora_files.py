"""A shelf of LoRAs for the page: tiny files with headers like those people have."""

from __future__ import annotations

import json
from pathlib import Path

from tests.library.test_loras import kohya, put

TEXT_ENCODER = {
    "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight": (4, 768),
    "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight": (768, 4),
}


def stock(folder: Path) -> Path:
    """Fills a folder: `ink` and `paper cut` fit, `bare` may, `grand` is of another family, and
    `cut` is damaged."""
    put(
        folder / "styles" / "ink.safetensors",
        kohya() | TEXT_ENCODER,
        ss_output_name="ink_v2",
        ss_network_alpha="2.0",
        ss_sd_model_name="meadow.safetensors",
        ss_tag_frequency=json.dumps({"a": {"ink drawing": 9, "lines (fine)": 4}}),
    )
    put(folder / "paper cut.safetensors", kohya(rank=8), **{"modelspec.trigger_phrase": "paper"})
    put(folder / "bare.safetensors", kohya(192))
    put(folder / "grand.safetensors", kohya(2048), ss_output_name="grand_xl")
    whole = put(folder / "cut.safetensors", kohya())
    whole.write_bytes(whole.read_bytes()[:-9])
    return folder
