from __future__ import annotations

import pytest

from webui.errors import BadRequestError
from webui.library.filenames import MAX_NAME_BYTES, sound_name
from webui.library.sources import AddressSource, CivitaiSource, HubSource, Source, source_of


@pytest.mark.parametrize(
    ("pasted", "source"),
    [
        ("someone/meadow", HubSource("someone/meadow")),
        ("  <https://huggingface.co/someone/meadow> ", HubSource("someone/meadow")),
        ("huggingface.co/someone/meadow/tree/main", HubSource("someone/meadow")),
        ("hf.co/someone/meadow", HubSource("someone/meadow")),
        ("someone/meadow/tokenizer_2/", HubSource("someone/meadow", "tokenizer_2")),
        ("someone/meadow/tree/fp16/vae", HubSource("someone/meadow", "vae", "fp16")),
        ("someone/meadow/vae/a b.safetensors", HubSource("someone/meadow", "vae/a b.safetensors")),
        (
            "https://huggingface.co/someone/meadow/blob/fp16/a%20b.safetensors?x=1#y",
            HubSource("someone/meadow", "a b.safetensors", "fp16"),
        ),
        ("https://civitai.com/models/3/paper", CivitaiSource(None, 3)),
        ("civitai.com/models/3?modelVersionId=7", CivitaiSource(7, 3)),
        ("https://civitai.com/api/download/models/7", CivitaiSource(7, None)),
        (
            "https://civitai.com/api/download/models/7?type=Model",
            CivitaiSource(7, None, "type=Model"),
        ),
        ("https://example.com/a#b", AddressSource("https://example.com/a")),
    ],
)
def test_what_people_paste_is_understood(pasted: str, source: Source) -> None:
    assert source_of(pasted) == source


@pytest.mark.parametrize(
    "pasted",
    [
        "",
        "meadow",
        "x" * 3000,
        "someone/meadow/../../etc",
        "https://huggingface.co/datasets/someone/pictures",
        "https://huggingface.co/someone/meadow/blob/main/../../x",
        "https://user:word@example.com/a",
        "https://[broken/a",
    ],
)
def test_what_leads_nowhere_is_said(pasted: str) -> None:
    with pytest.raises(BadRequestError):
        source_of(pasted)


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("../../a.safetensors", "a.safetensors"),
        ("..\\a.safetensors", "a.safetensors"),
        ("con.safetensors", "_con.safetensors"),
        (".hidden.safetensors", "hidden.safetensors"),
        ('a:b*"c".safetensors', "a_b__c_.safetensors"),
        ("a\u202esrotsnetefas.exe", "asrotsnetefas.exe"),
        ("a. . ", "a"),
    ],
)
def test_names_are_made_sound(said: str, name: str) -> None:
    assert sound_name(said) == name


@pytest.mark.parametrize("said", ["", "..", "/", " . ", "\x00"])
def test_what_has_no_name_is_refused(said: str) -> None:
    with pytest.raises(BadRequestError):
        sound_name(said)


@pytest.mark.parametrize("said", ["é" * 300 + ".safetensors", "y." + "z" * 400, "w" * 400])
def test_names_have_an_end(said: str) -> None:
    name = sound_name(said)
    assert 0 < len(name.encode()) <= MAX_NAME_BYTES
