"""What is looked at before it is fetched, by the rules of the real shelves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from tests.library.download_server import DownloadServer, serving
from webui.errors import BadRequestError, BrokenFileError, NotFoundError
from webui.library.downloads import Downloads
from webui.library.fetch_errors import CutError, FetchError
from webui.library.findings import Choices, Found
from webui.library.kinds import Places
from webui.library.notes import read_notes
from webui.library.offers import Offers
from webui.library.outward import Outward
from webui.ui.fetched import SERVED, keep_origin, kind_and_family


def weights(**shapes: tuple[int, ...]) -> bytes:
    """A file with tensors of these names ("__" is a dot) and shapes."""
    tensors = {name.replace("__", "."): np.zeros(of, np.float16) for name, of in shapes.items()}
    return save(tensors)


LORA = weights(
    lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k__lora_down__weight=(4, 768)
)
CLIP = weights(
    text_model__embeddings__position_embedding__weight=(77, 768),
    text_model__embeddings__token_embedding__weight=(2, 768),
)
T5 = weights(encoder__final_layer_norm__weight=(4096,), shared__weight=(1, 4096))
VAE = weights(decoder__conv_in__weight=(512, 4, 3, 3), decoder__conv_out__weight=(3, 128, 3, 3))
CONTROLNET = save(
    {
        name: np.zeros(shape, np.float16)
        for name, shape in {
            "control_all_x_embedder.2-1.weight": (8, 132),
            "control_layers.0.adaLN_modulation.0.weight": (8, 8),
            "control_layers.0.attention.norm_q.weight": (4,),
            "control_layers.0.attention.to_q.weight": (8, 8),
            "control_layers.0.attention.to_k.weight": (8, 8),
        }.items()
    }
)


@pytest.fixture
def server() -> Generator[DownloadServer, None, None]:
    with serving() as server:
        yield server


@pytest.fixture
def downloads(tmp_path: Path) -> Generator[Downloads, None, None]:
    places = Places(tmp_path / "models", tmp_path / "loras")
    outward = Outward(loopback=True)
    made = Downloads(outward, places, tmp_path / "state", finished=keep_origin)
    yield made
    made.close()


def look(server: DownloadServer, pasted: str) -> Found | Choices:
    offers = Offers(
        Outward(loopback=True),
        kind_and_family,
        SERVED,
        hub=server.address,
        civitai=server.address,
    )
    return offers.look(pasted)


def look_at_one(server: DownloadServer, pasted: str) -> Found:
    found = look(server, pasted)
    assert isinstance(found, Found)
    return found


def fetched(downloads: Downloads, found: Found) -> Path:
    downloads.add(found)
    assert downloads.wait(60)
    (done,) = downloads.all()
    assert (done.state, done.said) == ("done", None)
    return downloads.place_of(found)


class TestRefused:
    @pytest.mark.parametrize(
        ("index", "says"),
        [
            ({"_class_name": "WanPipeline"}, "is a WanPipeline"),
            ({"_class_name": "LTXPipeline"}, "is a LTXPipeline"),
            ({"_class_name": ["pipeline.py", "MyPipeline"]}, "does not say what it is"),
            ({}, "does not say what it is"),
        ],
    )
    def test_a_model_of_a_class_that_is_not_run_here(
        self, server: DownloadServer, index: dict[str, Any], says: str
    ) -> None:
        index["transformer"] = ["diffusers", "WanTransformer3DModel"]
        files = {
            "model_index.json": json.dumps(index).encode(),
            "transformer/diffusion_pytorch_model.safetensors": LORA,
        }
        server.put_repo("someone/film", files)
        with pytest.raises(BadRequestError, match=f"someone/film {says}.*not served"):
            look(server, "someone/film")
        assert not any("safetensors" in asked.path for asked in server.asked)

    def test_a_controlnet_of_such_a_class(self, server: DownloadServer) -> None:
        config = b'{"_class_name": "HunyuanDiT2DControlNetModel"}'
        files = {"config.json": config, "diffusion_pytorch_model.safetensors": LORA}
        server.put_repo("someone/control-edges", files)
        with pytest.raises(BadRequestError, match="is a HunyuanDiT2DControlNetModel"):
            look(server, "someone/control-edges")

    @pytest.mark.parametrize(
        ("data", "says"),
        [
            (weights(image_proj__proj__weight=(8, 8)), "is an IP-Adapter, which is not served"),
            (weights(body__0__block1__weight=(8, 8)), "is a T2I-Adapter, which is not served"),
            (weights(conv_first__weight=(8, 3, 3, 3)), "is an upscaler, which is not served"),
            (weights(head__modulation=(1, 2, 8)), "is a Wan video model"),
            (weights(lora_controlnet=(1,)), "is a Control-LoRA"),
            (weights(emb_params=(99, 768)), "holds 99 vectors"),
            (weights(some__weight=(8, 8)), "holds nothing that is known here"),
        ],
    )
    def test_a_file_of_which_it_is_known_what_it_is(
        self, server: DownloadServer, data: bytes, says: str
    ) -> None:
        with pytest.raises(BrokenFileError, match=f"^thing.safetensors {says}"):
            look(server, server.put("/thing.safetensors", data))

    def test_a_redirect_to_the_network_around(
        self, server: DownloadServer, downloads: Downloads
    ) -> None:
        """When it is looked at, and when it is gone on with later."""
        address = server.put("/ink.safetensors", LORA)
        found = look_at_one(server, address)
        inward = "https://192.168.1.1/ink.safetensors"
        server.put("/inward.safetensors", b"", redirect=inward)
        with pytest.raises(FetchError, match="the network around it") as caught:
            look(server, f"{server.address}/inward.safetensors")
        assert not isinstance(caught.value, CutError), "refused, not tried in vain"

        server.files["/ink.safetensors"].cuts = [1000]

        def change(asked: Any) -> None:
            if "if-range" in asked.headers:
                server.files["/ink.safetensors"].redirect = inward

        server.change = change
        added = downloads.add(found)
        assert downloads.wait(60)
        (failed,) = downloads.all()
        assert (failed.state, failed.received) == ("failed", 1000)
        assert "192.168.1.1" in str(failed.said)
        assert "the network around it" in str(failed.said)
        assert server.ranges_asked()[-1] == "bytes=1000-"
        downloads.remove(added.id)


@pytest.mark.parametrize(
    ("file", "data", "folder"),
    [
        ("ink.safetensors", LORA, "loras"),
        ("clear.safetensors", VAE, "models/vae"),
        ("clip_l.safetensors", CLIP, "models/text_encoders"),
        ("split_files/text_encoders/t5xxl_fp16.safetensors", T5, "models/text_encoders"),
        ("grey-fog.safetensors", weights(emb_params=(8, 768)), "models/embeddings"),
        ("Z-Image-Fun-Controlnet-Union.safetensors", CONTROLNET, "models/controlnet"),
    ],
)
def test_a_file_comes_into_the_folder_of_its_kind(
    server: DownloadServer,
    downloads: Downloads,
    tmp_path: Path,
    file: str,
    data: bytes,
    folder: str,
) -> None:
    """Told from the header, before the download."""
    server.put_repo("someone/files", {file: data, "other.safetensors": LORA})
    path = fetched(downloads, look_at_one(server, f"someone/files/{file}"))
    assert path == tmp_path / folder / Path(file).name
    assert path.read_bytes() == data


def test_a_part_with_a_repository_of_its_own_is_a_file_called_by_it(
    server: DownloadServer,
) -> None:
    config = b'{"_class_name": "AutoencoderKL"}'
    files = {"config.json": config, "diffusion_pytorch_model.safetensors": VAE}
    server.put_repo("someone/sdxl-vae-clear", files)
    found = look_at_one(server, "someone/sdxl-vae-clear")
    # What its name tells counts: both kinds of VAE look alike.
    assert (found.kind, found.family, found.name) == ("vae", "SDXL", "sdxl-vae-clear.safetensors")


MEADOW = {
    "model_index.json": b"{}",
    "text_encoder_2/model-00001-of-00002.safetensors": T5,
    "tokenizer_2/special_tokens_map.json": b"{}",
    "tokenizer_2/spiece.model": b"\x0a\x0e" * 300,
    "tokenizer_2/tokenizer_config.json": b'{"tokenizer_class": "T5Tokenizer"}',
    "tokenizer_2/tokenizer.json": b'{"model": {}}',
    "tokenizer_2/program.py": b"print()",
    "tokenizer_2/training_args.bin": b"\x80\x02",
    "tokenizer_2/inner/vocab.json": b"{}",
    "split_files/vae/ae.safetensors": VAE,
    "split_files/vae/other.safetensors": VAE,
}


class TestFoldersOfARepository:
    @pytest.mark.parametrize(
        "pasted",
        [
            "someone/meadow/tokenizer_2",
            "someone/meadow/tree/main/tokenizer_2",
            "https://huggingface.co/someone/meadow/tree/main/tokenizer_2/",
            "someone/meadow/tokenizer_2/tokenizer_config.json",
        ],
    )
    def test_a_tokenizer_comes_without_programs_to_where_it_is_looked_for(
        self, server: DownloadServer, downloads: Downloads, tmp_path: Path, pasted: str
    ) -> None:
        server.put_repo("someone/meadow", MEADOW)
        found = look_at_one(server, pasted)
        assert (found.kind, found.is_folder) == ("tokenizer", True)
        folder = fetched(downloads, found)
        assert folder == tmp_path / "models" / "text_encoders" / "meadow-tokenizer_2"
        assert {path.name for path in folder.iterdir()} == {
            "special_tokens_map.json",
            "spiece.model",
            "tokenizer.json",
            "tokenizer_config.json",
            "easel.json",
        }

    def test_one_with_nothing_else_is_offered_as_it_is(self, server: DownloadServer) -> None:
        files = {
            "tokenizer_config.json": b'{"tokenizer_class": "T5Tokenizer"}',
            "spiece.model": b"\x0a\x0e" * 300,
            "config.json": b"{}",
            "pytorch_model.bin": b"\x80\x02",
        }
        server.put_repo("someone/words", files)
        found = look_at_one(server, "someone/words")
        assert (found.kind, found.name) == ("tokenizer", "words")
        assert {file.path for file in found.files} == {"tokenizer_config.json", "spiece.model"}

    def test_a_folder_of_files_is_chosen_from(self, server: DownloadServer) -> None:
        server.put_repo("someone/meadow", MEADOW)
        several = look(server, "https://huggingface.co/someone/meadow/tree/main/split_files")
        assert isinstance(several, Choices)
        assert [Path(row.name).name for row in several.rows] == [
            "ae.safetensors",
            "other.safetensors",
        ]
        assert look_at_one(server, several.rows[0].source).kind == "vae"
        for folder, says in (("nowhere", "There is no"), ("text_encoder_2", "in several files")):
            with pytest.raises(NotFoundError, match=says):
                look(server, f"someone/meadow/{folder}")


class TestCivitai:
    def about(self, server: DownloadServer, **more: Any) -> dict[str, Any]:
        digest = hashlib.sha256(LORA).hexdigest().upper()
        address = server.put("/api/download/models/7", b"", redirect=f"{server.address}/cdn/x")
        disposition = {"content-disposition": 'attachment; filename="paper_v2.safetensors"'}
        server.put("/cdn/x", LORA, headers=disposition)
        file = {
            "name": "paper_v2.safetensors",
            "primary": True,
            "downloadUrl": address,
            "hashes": {"SHA256": digest},
        }
        return {
            "id": 7,
            "modelId": 3,
            "name": "v2",
            "baseModel": "SD 1.5",
            "trainedWords": ["paper cut"],
            "model": {"name": "Paper", "type": "LORA"},
            "files": [{"name": "paper.pt"}, file],
            **more,
        }

    def test_a_version_tells_its_words_its_page_and_its_terms(
        self, server: DownloadServer, downloads: Downloads
    ) -> None:
        server.put_json("/api/v1/model-versions/7", self.about(server))
        model = {
            "modelVersions": [{"id": 7}, {"id": 5}],
            "allowNoCredit": False,
            "allowCommercialUse": ["Image", "RentCivit"],
            "allowDerivatives": True,
            "allowDifferentLicense": False,
        }
        server.put_json("/api/v1/models/3", model)
        found = look_at_one(server, "https://civitai.com/models/3/paper")
        assert (found.name, found.title) == ("paper_v2.safetensors", "Paper · v2")
        assert (found.words, found.base) == (("paper cut",), "SD 1.5")
        assert found.page == f"{server.address}/models/3?modelVersionId=7"
        terms = ("credit", "pictures", "no_services", "no_sale", "merges", "same_terms")
        assert found.terms == terms
        assert read_notes(fetched(downloads, found)).terms == terms

    def test_a_version_and_a_repository_may_call_it_sft(self, server: DownloadServer) -> None:
        server.put_repo("someone/paper", {"paper.SFT": LORA, "paper.ckpt": b"x"})
        assert look_at_one(server, "someone/paper").name == "paper.SFT"
        about = self.about(server)
        about["files"][1]["name"] = "paper.sft"
        server.put_json("/api/v1/model-versions/7", about)
        version = "https://civitai.com/models/3?modelVersionId=7"
        assert look_at_one(server, version).name == "paper.sft"

    @pytest.mark.parametrize(
        ("said", "terms"),
        [
            # As one word, which stands for all before it; as a set of the database; nothing.
            ({"allowCommercialUse": "Rent"}, ("pictures", "services", "no_sale")),
            ({"allowCommercialUse": "{Sell}"}, ("no_pictures", "no_services", "sale")),
            ({"allowCommercialUse": []}, ("no_pictures", "no_services", "no_sale")),
            ({"allowNoCredit": True, "allowDerivatives": False}, ("no_credit", "no_merges")),
            ({"allowDerivatives": False, "allowDifferentLicense": True}, ("no_merges",)),
            ({"allowNoCredit": "maybe"}, ()),
            (None, ()),
        ],
    )
    def test_terms_in_every_form(
        self, server: DownloadServer, said: dict[str, Any] | None, terms: tuple[str, ...]
    ) -> None:
        server.put_json("/api/v1/model-versions/7", self.about(server))
        if said is not None:
            server.put_json("/api/v1/models/3", said)
        assert look_at_one(server, "https://civitai.com/models/3?modelVersionId=7").terms == terms

    def test_the_link_of_a_download_button_tells_the_same(self, server: DownloadServer) -> None:
        about = self.about(server)
        about["files"][1]["downloadUrl"] += "?type=Model&fp=fp16"
        server.put_json("/api/v1/model-versions/7", about)
        server.put_json("/api/v1/models/3", {"allowNoCredit": False})
        button = "https://civitai.com/api/download/models/7"
        for query in ("fp=fp16&type=Model", "type=Model&token=hush"):
            server.files[f"/api/download/models/7?{query}"] = server.files["/api/download/models/7"]
            found = look_at_one(server, f"{button}?{query}")
            assert (found.title, found.terms) == ("Paper · v2", ("credit",))
            assert found.files[0].address == f"{server.address}/api/download/models/7?{query}"
            known = found.files[0].sha256 == hashlib.sha256(LORA).hexdigest()
            # Of another file than those that are told of, the checksum is not known.
            assert known == ("fp16" in query)

    def test_a_version_that_is_a_pickle_alone_is_refused(self, server: DownloadServer) -> None:
        server.put_json(
            "/api/v1/model-versions/7", self.about(server, files=[{"name": "paper.pt"}])
        )
        with pytest.raises(NotFoundError, match="pickle"):
            look(server, "https://civitai.com/api/download/models/7")
