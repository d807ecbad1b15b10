"""The CLIP text encoder, taught to say what a caption asks for before the UNet sees it.

Attention-pooled heads predict every attribute a caption mentions; afterwards the heads are thrown
away, the encoder is frozen and every caption is encoded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from webui.postcard.captions import ACTIONS, HOURS, PLACES, caption
from webui.postcard.edges import read_captions, tokenized
from webui.postcard.scenes import Scene, random_scene
from webui.postcard.tokenizer import MAX_LENGTH
from webui.postcard.training import Budget, Rates, Trainer, fit
from webui.postcard.vocabulary import (
    COLOURS,
    HAIRS,
    POSES,
    SETTINGS,
    SIDES,
    THINGS,
    TIMES,
)

WIDTH = 192
RATES = Rates(adam=1e-3, average=0.99)
CLASSES = (
    len(SETTINGS),
    len(TIMES),
    len(POSES),
    len(COLOURS),
    len(COLOURS),
    len(HAIRS),
    2,
    len(THINGS) + 1,
    len(COLOURS),
    len(SIDES),
    2,
)
"""Classes of each head, in the order of `asked`."""

_UNSAID = -1


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Return an untrained encoder, 3 layers of 192 (about 1.5 M parameters)."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=MAX_LENGTH,
            projection_dim=WIDTH,
            bos_token_id=cast(int, tokenizer.bos_token_id),
            eos_token_id=cast(int, tokenizer.eos_token_id),
            pad_token_id=cast(int, tokenizer.pad_token_id),
        )
    )


def tokens(tokenizer: CLIPTokenizer, captions: Sequence[str]) -> Tensor:
    """Return N x 77 token numbers."""
    return tokenized(tokenizer, captions, MAX_LENGTH)


def asked(scene: Scene, text: str) -> list[int]:
    """Return the class of every attribute the caption mentions, -1 where it is silent."""
    place = SETTINGS.index(scene.setting) if _any_in(PLACES[scene.setting], text) else _UNSAID
    hour = TIMES.index(scene.time) if _any_in(HOURS[scene.time], text) else _UNSAID
    return [place, hour, *_asked_of_person(scene, text), *_asked_of_object(scene, text)]


def _any_in(phrases: Sequence[str], text: str) -> bool:
    return any(phrase in text for phrase in phrases)


def _asked_of_person(scene: Scene, text: str) -> list[int]:
    person = scene.person
    if person is None:
        return [_UNSAID] * 5
    trousers = (f"{person.trousers} trousers", f"{person.trousers} pants")
    length = _any_in((f"long {person.hair} hair", f"short {person.hair} hair"), text)
    return [
        POSES.index(person.pose) if _any_in(ACTIONS[person.pose], text) else _UNSAID,
        COLOURS.index(person.shirt) if f"{person.shirt} shirt" in text else _UNSAID,
        COLOURS.index(person.trousers) if _any_in(trousers, text) else _UNSAID,
        HAIRS.index(person.hair) if f"{person.hair} hair" in text else _UNSAID,
        int(person.long_hair) if length else _UNSAID,
    ]


def _asked_of_object(scene: Scene, text: str) -> list[int]:
    item = scene.object
    has_person = int(scene.person is not None)
    if item is None or item.thing not in text:
        return [len(THINGS), _UNSAID, _UNSAID, has_person]
    return [
        THINGS.index(item.thing),
        COLOURS.index(item.colour) if f"{item.colour} {item.thing}" in text else _UNSAID,
        SIDES.index(item.side) if f"on the {item.side}" in text else _UNSAID,
        has_person,
    ]


class AttributeReader(nn.Module):
    """The encoder with one learned query and one linear head for every attribute."""

    def __init__(self, encoder: CLIPTextModel) -> None:
        """Wrap `encoder`, which is trained along."""
        super().__init__()
        self.encoder = encoder
        self.queries = nn.Parameter(torch.randn(len(CLASSES), WIDTH) * 0.1)
        self.keys = nn.Linear(WIDTH, WIDTH)
        self.values = nn.Linear(WIDTH, WIDTH)
        self.heads = nn.ModuleList(nn.Linear(WIDTH, classes) for classes in CLASSES)

    def forward(self, token_numbers: Tensor) -> list[Tensor]:
        """Return N x classes logits for every attribute from N x 77 token numbers."""
        states = read_captions(self.encoder, token_numbers)
        scores = self.queries @ self.keys(states).transpose(1, 2) * (4 / WIDTH**0.5)
        pooled = scores.softmax(-1) @ self.values(states)
        return [head(pooled[:, index]).float() for index, head in enumerate(self.heads)]


def captioned_batch(tokenizer: CLIPTokenizer, random: Random, size: int) -> tuple[Tensor, Tensor]:
    """Return token numbers (N x 77) and asked classes (N x attributes) of fresh captions."""
    scenes = [random_scene(random) for _ in range(size)]
    texts = [caption(scene, random) for scene in scenes]
    classes = [asked(scene, text) for scene, text in zip(scenes, texts, strict=True)]
    return tokens(tokenizer, texts), torch.tensor(classes)


def attribute_loss(logits: Sequence[Tensor], classes: Tensor) -> Tensor:
    """Return the summed cross entropy of the mentioned attributes."""
    losses = [
        F.cross_entropy(head, classes[:, index], ignore_index=_UNSAID)
        for index, head in enumerate(logits)
        if bool((classes[:, index] != _UNSAID).any())
    ]
    return torch.stack(losses).sum()


def train_text_encoder(
    reader: AttributeReader,
    tokenizer: CLIPTokenizer,
    budget: Budget,
    checkpoint: Path,
    *,
    device: torch.device,
    batch: int = 48,
    seed: int = 2,
) -> dict[str, Tensor]:
    """Train until the budget is spent, from the checkpoint when there is one.

    Returns the averaged weights of the reader in fp32, by name.
    """
    trainer = Trainer(reader, RATES, device)

    def loss_of(part: int) -> Tensor:
        random = Random((seed * 2 + part) * 1_000_003 + budget.step)
        numbers, classes = captioned_batch(tokenizer, random, batch // trainer.parts)
        return attribute_loss(reader(numbers.to(device)), classes.to(device))

    return fit(trainer, budget, checkpoint, loss_of, name="text encoder", flat=0.3)


@torch.no_grad()
def measure_text_encoder(
    reader: AttributeReader, tokenizer: CLIPTokenizer, device: torch.device, seed: int = 77
) -> float:
    """Return the share of mentioned attributes read right from 256 fresh captions."""
    numbers, classes = captioned_batch(tokenizer, Random(seed), 256)
    logits = reader(numbers.to(device))
    guesses = torch.stack([head.argmax(-1).cpu() for head in logits], 1)
    said = classes != _UNSAID
    return float((guesses == classes)[said].float().mean())
