"""The most bytes that one call of a network holds at once, its weights aside.

Reads its task as JSON on standard input and answers with one line of JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.model_files import make_network

_FEWER = {"num_layers": 2, "num_single_layers": 1}
"""Of a transformer's blocks, which are alike, as few as have all kinds; one follows another."""


def main(task: dict[str, Any]) -> dict[str, int]:
    """Measures one network.

    Args:
        task: `config`: folder of the model's configuration. `part`: "unet", "transformer" or "vae".
            `side`: of the picture in pixels. `batch`: pictures at once. `tokens`: of the text.
    """
    folder = Path(task["config"])
    library, kind = json.loads((folder / "model_index.json").read_bytes())[task["part"]]
    config = json.loads((folder / task["part"] / "config.json").read_bytes())
    config |= {key: value for key, value in _FEWER.items() if key in config}
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        network: Any = make_network(library, kind, config)
        network.eval().requires_grad_(False)
        if task["part"] != "transformer":
            network.to(memory_format=torch.channels_last)
        call = _call(network, task["part"], task["side"], task["batch"], task["tokens"])
        return {"bytes": most_bytes(call)}
    finally:
        torch.set_default_dtype(before)


def most_bytes(call: Callable[[], object]) -> int:
    """The most bytes that torch holds at once during a call, beyond those it held before."""
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        call()
    told: Any = seen.profiler
    events = [e for e in told.kineto_results.events() if e.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def _call(network: Any, part: str, side: int, batch: int, tokens: int) -> Callable[[], object]:
    config = network.config
    latents = torch.randn(
        batch, config.get("latent_channels", config.get("in_channels")), *[side // 8] * 2
    )
    if part == "vae":
        return lambda: network.decode(latents)
    moment = torch.full((batch,), 500.0)
    if part == "unet":
        text = torch.randn(batch, tokens, config.cross_attention_dim)
        more: dict[str, Any] = {}
        if config.addition_embed_type == "text_time":
            width = config.projection_class_embeddings_input_dim
            width -= 6 * config.addition_time_embed_dim
            more["text_embeds"] = torch.randn(batch, width)
            more["time_ids"] = torch.zeros(batch, 6)
        return lambda: network(latents, moment, text, added_cond_kwargs=more)
    text = torch.randn(batch, tokens, config.joint_attention_dim)
    pooled = torch.randn(batch, config.pooled_projection_dim)
    if "guidance_embeds" not in config:
        return lambda: network(latents, text, pooled, moment)
    # Flux takes rows of patches, their places beside.
    rows = (side // 16) ** 2
    return lambda: network(
        hidden_states=torch.randn(batch, rows, config.in_channels),
        encoder_hidden_states=text,
        pooled_projections=pooled,
        timestep=moment / 1000,
        img_ids=torch.zeros(rows, 3),
        txt_ids=torch.zeros(tokens, 3),
        guidance=torch.ones(batch),
    )


if __name__ == "__main__":
    print(json.dumps(main(json.load(sys.stdin))))
