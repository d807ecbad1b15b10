from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.generation.folders import write_json, write_sd1
from tests.library import weights
from webui.generation.families import SD1
from webui.generation.unused import WORDS
from webui.library.checkpoints import CheckpointShelf
from webui.library.hashes import HashBook
from webui.library.loras import LoraShelf
from webui.library.wildcards import WildcardShelf
from webui.request import parse_request
from webui.settings import ROOT
from webui.ui.routes.answers import answer_errors
from webui.ui.routes.looking import Looker, add_looking_routes
from webui.ui.texts import Catalogue

Look = Callable[..., dict[str, Any]]
UNUSED = ["guidance", "refiner", "refiner_start"]
"""What is hidden where the family has none."""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    write_sd1(folder, "meadow")
    return folder


@pytest.fixture
def shelf(models: Path, tmp_path: Path) -> CheckpointShelf:
    return CheckpointShelf((models, ROOT / "models"), HashBook(tmp_path / "hashes.json"))


@pytest.fixture
def wildcards(tmp_path: Path) -> Path:
    folder = tmp_path / "wildcards"
    folder.mkdir()
    (folder / "colour.txt").write_text("red\ngreen\n", encoding="utf-8")
    return folder


@pytest.fixture
def client(shelf: CheckpointShelf, wildcards: Path) -> TestClient:
    app = FastAPI()
    answer_errors(app)
    add_looking_routes(app, shelf, WildcardShelf((wildcards,)))
    return TestClient(app)


@pytest.fixture
def look(client: TestClient) -> Look:
    def look(**request: Any) -> dict[str, Any]:
        answer = client.post("/look", json={"request": request})
        assert answer.status_code == 200, answer.text
        return answer.json()

    return look


def shelf_of(client: TestClient) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in client.get("/shelf").json()["models"]}


def test_the_shelf_says_what_suits_each_model(client: TestClient, tmp_path: Path) -> None:
    rows = shelf_of(client)
    assert list(rows) == ["meadow", "postcard"]
    assert rows["meadow"] == {
        "name": "meadow",
        "family": "Stable Diffusion 1",
        "loras": "SD 1",
        "width": 512,
        "height": 512,
        "cfg": [3, 12],
        "steps": [12, 40],
        "clip_skip": 12,
        "weighs": True,
        "hidden": UNUSED,
        "reasons": {
            "guidance": "no_distilled_guidance",
            "refiner": "no_refiner",
            "refiner_start": "no_refiner",
        },
        "refiners": [],
        "vaes": [],
        "problem": None,
    }
    assert (rows["postcard"]["width"], rows["postcard"]["clip_skip"]) == (256, 3)
    assert not (tmp_path / "hashes.json").exists(), "no weights are hashed for it"


@pytest.mark.parametrize(
    ("file", "data", "says"),
    [
        ("model_index.json", "{", "model_index.json"),
        ("model_index.json", {"_class_name": "KandinskyPipeline"}, "KandinskyPipeline"),
        ("unet/config.json", "[" * 9999, "unet/config.json"),
        ("facts.json", {"cfg": "<b>"}, "facts.json"),
    ],
)
def test_a_broken_model_stays_on_the_shelf_with_its_reason_and_harms_nothing(
    file: str, data: Any, says: str, client: TestClient, look: Look, models: Path
) -> None:
    write_sd1(models, "broken")
    write_json(models / "broken" / file, data)
    rows = shelf_of(client)
    assert says in rows["broken"]["problem"]
    assert rows["broken"]["width"] is None
    assert rows["meadow"]["problem"] is None
    answer = look(model="broken", prompt="(red")
    assert says in answer["problem"]["message"]
    assert answer["problem"]["field"] == "model"
    assert answer["prompt"]["brackets"] == [0]
    assert look(model="meadow")["problem"] is None


def test_models_that_come_change_and_go_are_seen(client: TestClient, models: Path) -> None:
    write_sd1(models, "new", sample_size=96)
    assert shelf_of(client)["new"]["width"] == 768
    write_json(models / "new" / "unet" / "config.json", {"sample_size": 128})
    assert shelf_of(client)["new"]["width"] == 1024
    shutil.rmtree(models / "new")
    assert "new" not in shelf_of(client)


def test_a_request_is_looked_at_as_a_whole(look: Look) -> None:
    answer = look(prompt="a (red:2 ball 🌊)", cfg=20, model="meadow")
    assert answer["problem"] is None
    assert answer["hidden"] == UNUSED
    assert answer["idle"] == []
    assert answer["advice"] == [
        {
            "kind": "cfg_high",
            "field": "cfg",
            "values": {"cfg": 20, "low": 3, "high": 12, "name": "meadow"},
            "fix": {"cfg": 12},
        }
    ]
    told = {"encoders", "brackets", "problem", "drawn", "unread", "embeddings", "remarks"}
    assert answer["prompt"].keys() == told
    assert answer["negative_prompt"]["encoders"] == [
        {"name": "CLIP", "tokens": 0, "room": 75, "chunks": 1, "cuts": [], "lost": False}
    ]


def test_every_fix_can_be_laid_over_the_request(look: Look) -> None:
    request = {
        "prompt": "(red:2)",
        "cfg": 28,
        "steps": 99,
        "width": 1024,
        "height": 512,
        "batch": 16,
    }
    advice = look(**request)["advice"]
    assert len(advice) == 5
    for each in advice:
        request |= each["fix"]
    assert look(**parse_request(request).model_dump(mode="json"))["advice"] == []


def test_the_models_own_tokenizer_counts(look: Look, models: Path) -> None:
    text = "ball, " * 40 + "🌊 ball"
    toy, postcard = (
        look(prompt=text, model=name)["prompt"]["encoders"][0] for name in ("meadow", "postcard")
    )
    assert toy["tokens"] > postcard["tokens"] > 75
    assert toy["chunks"] == len(toy["cuts"]) + 1 > postcard["chunks"]
    (models / "meadow" / "tokenizer" / "vocab.json").unlink()
    lost = look(prompt=text + " )", model="meadow")
    assert lost["prompt"]["encoders"][0]["tokens"] is None
    assert lost["prompt"]["brackets"] == [248]
    assert lost["problem"] is None


def test_what_the_prompts_grammar_refuses_is_said_at_the_prompt(look: Look) -> None:
    answer = look(prompt="(a AND b)", negative_prompt="[a:(b:1.2.3):5] (c")
    assert answer["problem"] is None
    assert "AND" in answer["prompt"]["problem"]
    assert answer["negative_prompt"]["problem"].startswith("Negative prompt, character 7:")
    assert answer["negative_prompt"]["brackets"] == [16]


def test_what_is_drawn_is_counted_by_an_example(look: Look) -> None:
    answer = look(prompt="{a|b} __colour__ ball", negative_prompt="__colur__")
    assert answer["prompt"]["drawn"]
    assert answer["prompt"]["encoders"][0]["tokens"] > 2
    assert answer["prompt"]["encoders"][0]["cuts"] == []
    assert "did you mean 'colour'" in answer["negative_prompt"]["problem"]
    assert not look(prompt="a ball")["prompt"]["drawn"]


def test_the_negative_prompt_is_idle_without_guidance(look: Look) -> None:
    assert look(cfg=1)["idle"] == [{"field": "negative_prompt", "kind": "guidance_off"}]
    assert look(cfg=1.5)["idle"] == []


@pytest.mark.parametrize(
    ("request_", "field", "says"),
    [
        ({"steps": 0}, "steps", "at least 1"),
        ({"width": 100}, "width", "multiple of 8"),
        ({"stpes": 3}, "stpes", "did you mean 'steps'"),
        ({"model": "postcrad"}, "model", "did you mean 'postcard'"),
        ({"model": "../postcard"}, "model", "Unknown model"),
        ({"model": ["postcard"]}, "model", "valid string"),
        ({"prompt": 5}, "prompt", "valid string"),
        ({"prompt": "a" * 2001}, "prompt", "at most 2,000"),
        ({"sampler": "LCM", "schedule": "karras"}, "schedule", "cannot run the schedule"),
        ({"sampler": "LCM", "steps": 60}, "steps", "at most 50 steps"),
        ({"clip_skip": 4}, "clip_skip", "has 3 layers"),
        ({"strength": 0}, "strength", "at least 0.01"),
        ({"mask": "0" * 64}, "mask", "A mask needs an init picture"),
    ],
)
def test_what_cannot_be_made_is_said_with_its_field(
    request_: dict[str, Any], field: str, says: str, look: Look
) -> None:
    answer = look(**({"negative_prompt": "grey (hill"} | request_))
    assert answer["problem"]["field"] == field
    assert says in answer["problem"]["message"]
    assert answer["negative_prompt"]["brackets"] == [5]


def test_the_page_gives_the_reasons_that_the_engine_gives() -> None:
    said = Catalogue.load().of("en").words
    for reason, words in WORDS.items():
        assert said[f"useless.{reason}"] == f"{words.why[0].upper()}{words.why[1:]}."


def test_a_field_that_is_set_is_not_hidden_so_that_it_can_be_emptied(
    look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    picky = dataclasses.replace(SD1, refused=MappingProxyType({"controls": "no_controlnets"}))
    monkeypatch.setattr("webui.generation.families.FAMILIES", (picky,))
    assert look(controls=[{"picture": "0" * 64}])["hidden"] == UNUSED
    assert look(controls=[], loras=[])["hidden"] == [*UNUSED, "controls"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("{", 422),
        ("[]", 422),
        ('{"request": 3}', 422),
        ("{}", 422),
        ('{"request": {"prompt": "\\ud83d"}}', 200),
        ('{"request": {"loras": ' + "[" * 400 + "]" * 400 + "}}", 200),
        ('{"request": {"cfg": NaN, "steps": 1e999}}', 200),
        ('{"request": {"seed": ' + "9" * 4000 + "}}", 200),
    ],
)
def test_any_body_gets_an_answer(client: TestClient, body: str, status: int) -> None:
    answer = client.post("/look", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    said = answer.json()["problem"] if status == 200 else answer.json()
    assert said["message"]


def test_configurations_are_read_once(
    shelf: CheckpointShelf, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looker = Looker(shelf, WildcardShelf(()))
    request = {"model": "meadow", "prompt": "red"}
    first = looker.look(request)
    reads: list[str] = []
    read_bytes = Path.read_bytes

    def counted(path: Path) -> bytes:
        reads.append(path.name)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    assert looker.look(request) == first
    assert set(reads) == {"model_index.json"}
    write_json(models / "meadow" / "facts.json", {"cfg": [1, 4]})
    assert looker.look(request)["own"]["cfg"] == 4
    assert looker.look(request | {"cfg": 5})["advice"][0]["kind"] == "cfg_high"
    assert "facts.json" in reads


def test_looking_loads_neither_torch_nor_gradio() -> None:
    script = (
        "import sys, webui.ui.routes.looking;"
        "heavy = {'torch', 'transformers', 'diffusers', 'gradio', 'tokenizers'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_single_files_that_share_a_configuration_are_told_apart(
    models: Path, tmp_path: Path
) -> None:
    write_sd1(tmp_path / "configs", "sd1", sample_size=64)
    weights.put(models / "harbour.safetensors", weights.sd1())
    weights.put(models / "meadow-v2.safetensors", weights.sd1())
    (models / "old.ckpt").write_bytes(b"")
    shelf = CheckpointShelf((models,), HashBook(tmp_path / "hashes.json"), tmp_path / "configs")
    rows = {row["name"]: row for row in Looker(shelf, WildcardShelf(())).models()}
    assert [name for name, row in rows.items() if row["family"] == "Stable Diffusion 1"] == [
        "harbour",
        "meadow",
        "meadow-v2",
    ]
    assert "is a pickle" in rows["old"]["problem"]


def test_the_answer_is_plain_json(shelf: CheckpointShelf) -> None:
    looker = Looker(shelf, WildcardShelf(()))
    json.dumps([looker.models(), looker.look({"cfg": 20})], allow_nan=False)


def test_what_was_made_for_few_steps_says_so_by_model_and_by_lora(
    models: Path, tmp_path: Path
) -> None:
    write_sd1(tmp_path / "configs", "sd1")
    weights.put(models / "realm_lightning_4step.safetensors", weights.sd1())
    cross = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    lora = {f"{cross}.lora_down.weight": (4, 768), f"{cross}.lora_up.weight": (320, 4)}
    weights.put(tmp_path / "loras" / "lcm-lora-sdv1-5.safetensors", lora)
    hashes = HashBook(tmp_path / "hashes.json")
    shelf = CheckpointShelf((models,), hashes, tmp_path / "configs")
    looker = Looker(shelf, WildcardShelf(()), LoraShelf((tmp_path / "loras",), hashes))

    def own(**request: Any) -> tuple[Any, ...]:
        answer = looker.look(request)
        assert answer["problem"] is None
        assert answer["advice"] == []
        return tuple(answer["own"].values())

    lightning = (8, 2.0, "DPM++ SDE", "karras", None, "realm_lightning_4step")
    assert own(model="realm_lightning_4step") == lightning
    assert own(model="realm_lightning_4step", steps=16, schedule="karras") == lightning
    (told,) = looker.look({"model": "realm_lightning_4step", "cfg": 7})["advice"]
    assert told["kind"] == "few_steps"
    assert told["fix"] == dict.fromkeys(("steps", "cfg", "sampler", "schedule"))
    row = {"name": "lcm-lora-sdv1-5"}
    lcm = (6, 1.0, "LCM", "normal", None, "lcm-lora-sdv1-5")
    assert own(model="meadow", loras=[row]) == lcm
    usual = (20, 7.0, "DPM++ 2M", "normal", None, None)
    assert own(model="meadow", loras=[row | {"enabled": False}]) == usual
    assert own(model="meadow", sampler="Heun") == usual
    tagged = looker.look({"model": "meadow", "prompt": "red <lora:lcm-lora-sdv1-5:1>"})
    assert tagged["own"]["sampler"] == "LCM"
