"""The ways that are named for pickles, followed to the letter, lead to files that work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from tests.fakes import NO_CONTENT
from tests.generation.test_loading import (
    load,
    picture,
    sd1_pipe,
    sd1_tensors,
    single,
    write_config,
)
from webui.generation.embeddings import read_vectors
from webui.generation.prompts import EmbeddedWord
from webui.library.catalogue import Card, Catalogue
from webui.library.checkpoints import Checkpoint
from webui.library.embeddings import EmbeddingShelf
from webui.library.hashes import HashBook

save: Any = torch.save


def cards(models: Path) -> dict[str, Card]:
    hashes = HashBook(models.parent / "state" / "hashes.json")
    return {card.file: card for card in Catalogue((models,), (), hashes).cards()}


def follow(problem: str | None, folder: Path) -> None:
    """Runs what the sentence ends with as a shell does, in the folder it names."""
    before, python, rest = str(problem).partition("python -c ")
    assert "take the same as safetensors" in before
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run(
        python + rest, shell=True, cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_checkpoint_of_lightning_becomes_one_that_loads(tmp_path: Path) -> None:
    pipe = sd1_pipe()
    config = write_config(pipe, tmp_path / "configs" / "sd1")
    tensors = sd1_tensors(pipe)
    # As training leaves them: one tensor under two names, and one that is a view of another.
    name = next(name for name, tensor in tensors.items() if tensor.ndim == 2)
    tensors["model_ema.shared"] = tensors[name]
    tensors[name] = tensors[name].t().contiguous().t()
    old = tmp_path / "models" / "old painter (v1).ckpt"
    old.parent.mkdir()
    save({"state_dict": tensors, "epoch": 3, "global_step": 7}, old)
    follow(cards(old.parent)[old.name].problem, old.parent)
    new = cards(old.parent)["old painter (v1).safetensors"]
    assert (new.kind, new.family, new.size > 0) == ("denoiser", "unknown", True)
    index = json.loads((config / "model_index.json").read_text())
    checkpoint = Checkpoint(
        "a", config, index["_class_name"], new.path, {}, key="a", content=NO_CONTENT
    )
    assert torch.equal(picture(load(checkpoint)), picture(pipe))


def test_an_embedding_of_a1111_becomes_one_that_is_read(tmp_path: Path) -> None:
    vectors = torch.nn.Parameter(torch.randn(3, 768))
    folder = tmp_path / "models" / "embeddings"
    folder.mkdir(parents=True)
    # A name that would do more in a terminal than name a file is not put into the command.
    old = folder / "fog'$(x).pt"
    save({"string_to_token": {"*": 265}, "string_to_param": {"*": vectors}, "name": "x"}, old)
    problem = cards(folder.parent)[f"embeddings/{old.name}"].problem
    assert problem is not None
    assert "renaming it to old.pt" in problem
    old.rename(folder / "old.pt")
    follow(problem, folder)
    (card,) = (
        card
        for card in EmbeddingShelf((folder.parent,), HashBook(tmp_path / "h.json")).cards()
        if card.file == "old.safetensors"
    )
    facts = card.facts
    assert (facts.family, facts.vectors, facts.problem) == ("SD 1", 3, None)
    word = EmbeddedWord(card.name, "", facts.vectors, facts.word, card.path)
    assert torch.equal(read_vectors(word, 768), vectors.detach())


def test_a_folder_of_pickles_becomes_one_that_loads(tmp_path: Path) -> None:
    pipe = sd1_pipe()
    folder = tmp_path / "models" / "harbour"
    pipe.save_pretrained(folder, safe_serialization=False)
    # transformers writes them no more.
    (folder / "text_encoder" / "model.safetensors").unlink()
    save(pipe.text_encoder.state_dict(), folder / "text_encoder" / "pytorch_model.bin")
    follow(cards(folder.parent)["harbour"].problem, folder)
    found = cards(folder.parent)["harbour"]
    assert (found.problem, found.family) == (None, "SD 1")
    checkpoint = Checkpoint(
        "harbour", folder, "StableDiffusionPipeline", key="h", content=NO_CONTENT
    )
    assert torch.equal(picture(load(checkpoint)), picture(pipe))


def test_half_precision_alone_and_what_is_not_used_are_no_hindrance(tmp_path: Path) -> None:
    """As caches of the hub are left by programs that ask for `variant="fp16"`."""
    pipe = sd1_pipe()
    folder = tmp_path / "models" / "harbour"
    pipe.save_pretrained(folder, variant="fp16")
    index = json.loads((folder / "model_index.json").read_text())
    index["feature_extractor"] = ["transformers", "CLIPFeatureExtractor"]
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    (folder / "model_index.json").write_text(json.dumps(index))
    assert cards(folder.parent)["harbour"].problem is None
    checkpoint = Checkpoint(
        "harbour", folder, "StableDiffusionPipeline", key="h", content=NO_CONTENT
    )
    assert torch.equal(picture(load(checkpoint)), picture(pipe))
    config = write_config(pipe, tmp_path / "configs" / "sd1")
    tensors = {n: t for n, t in sd1_tensors(pipe).items() if not n.startswith("first_stage")}
    file = single(tmp_path / "models" / "a.safetensors", config, tensors)
    made = picture(load(file, vae=folder / "vae"))
    assert torch.equal(made, picture(pipe))
