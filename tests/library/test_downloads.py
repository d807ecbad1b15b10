"""Downloads from a server on loopback that does what bad servers do."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from tests.library.download_server import DownloadServer, serving
from webui.errors import BadRequestError, BrokenFileError, StorageError, WebuiError
from webui.library import transfers
from webui.library.download_list import FILE, Download
from webui.library.downloads import Downloads
from webui.library.fetch_errors import FetchError
from webui.library.findings import Choices, Found
from webui.library.headers import Header
from webui.library.kinds import Kind, Places
from webui.library.offers import Offers
from webui.library.outward import Outward

LORA = save(
    {"lora_unet_x.lora_down.weight": np.zeros((4, 40_000), np.float32)},
    {"modelspec.license": "cc-by-4.0", "modelspec.title": "Paper"},
)
OTHER = save({"lora_unet_x.lora_down.weight": np.ones((4, 40_000), np.float32)})
THIRD = save({"lora_unet_x.lora_down.weight": np.full((4, 40_000), 2, np.float32)})
CONFIG = b'{"_class_name": "x"}'


def classify(header: Header, name: str) -> tuple[Kind, str]:
    return "lora", "SD 1"


SERVED = ("StableDiffusionPipeline", "ControlNetModel")


@pytest.fixture
def server() -> Generator[DownloadServer, None, None]:
    with serving() as server:
        yield server


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path / "models", tmp_path / "loras")


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "_LONGEST_WAIT", 0.05)


@pytest.fixture
def downloads(places: Places, tmp_path: Path) -> Generator[Downloads, None, None]:
    made = make(places, tmp_path)
    yield made
    made.close()


def make(
    places: Places, tmp_path: Path, free: Callable[[Path], int] = transfers.free_bytes
) -> Downloads:
    return Downloads(Outward(loopback=True), places, tmp_path / "state", free=free)


def offers(server: DownloadServer, **tokens: str) -> Offers:
    outward = Outward(loopback=True, tokens=tokens)
    return Offers(outward, classify, SERVED, hub=server.address, civitai=server.address)


def look(server: DownloadServer, pasted: str) -> Found:
    found = offers(server).look(pasted)
    assert isinstance(found, Found)
    return found


def finish(downloads: Downloads) -> Download:
    assert downloads.wait(60)
    (download,) = downloads.all()
    return download


@pytest.mark.parametrize("name", ["paper.safetensors", "paper.sft"])
def test_a_file_gets_its_name_when_it_is_whole(
    server: DownloadServer, downloads: Downloads, places: Places, name: str
) -> None:
    found = look(server, server.put(f"/{name}", LORA))
    assert (found.kind, found.family, found.licence) == ("lora", "SD 1", "cc-by-4.0")
    assert (found.size, found.title) == (len(LORA), "Paper")
    assert not places.loras.exists(), "looking keeps nothing"
    downloads.add(found)
    done = finish(downloads)
    assert (done.state, done.received) == ("done", len(LORA))
    assert [path.name for path in places.loras.iterdir()] == [name]
    assert (places.loras / name).read_bytes() == LORA


def test_what_breaks_off_is_taken_up_where_it_was(
    server: DownloadServer, downloads: Downloads, places: Places
) -> None:
    address = server.put("/paper.safetensors", LORA)
    found = look(server, address)
    server.files["/paper.safetensors"].cuts = [100_000, 200_000]
    server.asked.clear()
    downloads.add(found)
    assert finish(downloads).state == "done"
    assert server.ranges_asked() == ["", "bytes=100000-", "bytes=300000-"]
    assert server.asked[1].headers["if-range"] == '"one"'
    assert (places.loras / "paper.safetensors").read_bytes() == LORA


def test_a_file_that_changes_between_two_parts_is_begun_anew(
    server: DownloadServer, downloads: Downloads, places: Places
) -> None:
    found = look(server, server.put("/paper.safetensors", OTHER))
    server.files["/paper.safetensors"].cuts = [100_000]

    def change(asked: Any) -> None:
        if "if-range" in asked.headers:
            server.put("/paper.safetensors", THIRD, etag='"two"')

    server.change = change
    downloads.add(found)
    assert finish(downloads).state == "done"
    assert (places.loras / "paper.safetensors").read_bytes() == THIRD


def test_a_server_that_does_not_know_if_range_is_found_out(
    server: DownloadServer, downloads: Downloads, places: Places
) -> None:
    found = look(server, server.put("/paper.safetensors", OTHER))
    server.files["/paper.safetensors"].cuts = [100_000]

    def change(asked: Any) -> None:
        if "if-range" in asked.headers and server.files["/paper.safetensors"].etag == '"one"':
            server.put("/paper.safetensors", THIRD, etag='"two"')
            asked.headers.pop("if-range")

    server.change = change
    downloads.add(found)
    assert finish(downloads).state == "done"
    assert (places.loras / "paper.safetensors").read_bytes() == THIRD


def test_a_part_longer_than_the_file_is_begun_anew(
    server: DownloadServer, downloads: Downloads, places: Places
) -> None:
    found = look(server, server.put("/paper.safetensors", LORA))
    places.loras.mkdir()
    (places.loras / "paper.safetensors.part").write_bytes(b"x" * (len(LORA) + 9))
    downloads.add(found)
    assert finish(downloads).state == "done"
    assert (places.loras / "paper.safetensors").read_bytes() == LORA


def test_416_leads_to_a_new_begin(
    server: DownloadServer, downloads: Downloads, places: Places
) -> None:
    found = look(server, server.put("/paper.safetensors", LORA))
    server.files["/paper.safetensors"].cuts = [100_000]

    def change(asked: Any) -> None:
        if "if-range" in asked.headers:
            server.files["/paper.safetensors"].statuses = [(416, {})]

    server.change = change
    downloads.add(found)
    assert finish(downloads).state == "done"
    assert server.ranges_asked()[-2:] == ["bytes=100000-", ""]


def test_a_busy_server_is_left_alone_and_asked_again(
    server: DownloadServer, downloads: Downloads
) -> None:
    found = look(server, server.put("/paper.safetensors", LORA))
    busy = (429, {"retry-after": "30"})
    server.files["/paper.safetensors"].statuses = [busy, (503, {})]
    downloads.add(found)
    assert finish(downloads).state == "done"


def test_what_is_gone_is_said_and_can_be_tried_again(
    server: DownloadServer, downloads: Downloads
) -> None:
    found = look(server, server.put("/paper.safetensors", LORA))
    del server.files["/paper.safetensors"]
    added = downloads.add(found)
    failed = finish(downloads)
    assert (failed.state, failed.said) == (
        "failed",
        "There is nothing at this address any more (127.0.0.1 says 404).",
    )
    server.put("/paper.safetensors", LORA)
    downloads.resume(added.id)
    assert finish(downloads).state == "done"


def test_a_server_that_always_breaks_off_at_once_is_given_up(
    server: DownloadServer, downloads: Downloads
) -> None:
    found = look(server, server.put("/paper.safetensors", LORA))
    server.files["/paper.safetensors"].cuts = [0] * 50
    server.asked.clear()
    downloads.add(found)
    assert finish(downloads).state == "failed"
    assert len(server.asked) == transfers.MOST_TRIES


@pytest.mark.parametrize("length", [100, len(LORA) + 100])
def test_a_size_that_is_a_lie_is_found_out_when_looked_at(
    server: DownloadServer, length: int
) -> None:
    address = server.put("/paper.safetensors", LORA, length=length, ranges=False)
    with pytest.raises((FetchError, BrokenFileError), match=r"not whole|truncated"):
        look(server, address)


@pytest.mark.parametrize("length", [100, len(LORA) + 100])
def test_a_size_that_becomes_a_lie_is_found_out_later(
    server: DownloadServer, downloads: Downloads, places: Places, length: int
) -> None:
    found = look(server, server.put("/paper.safetensors", LORA))
    server.put("/paper.safetensors", LORA, length=length)
    downloads.add(found)
    failed = finish(downloads)
    assert failed.state == "failed"
    assert "lies about its size" in str(failed.said)
    assert not (places.loras / "paper.safetensors").exists()


def test_an_answer_without_an_end_is_stopped(
    server: DownloadServer, downloads: Downloads, places: Places
) -> None:
    address = server.put("/paper.safetensors", LORA, length=None, endless=True, ranges=False)
    found = look(server, address)
    assert found.size == len(LORA), "the file's own header tells its size"
    downloads.add(found)
    failed = finish(downloads)
    assert "sends more than the file is long" in str(failed.said)
    assert [*places.loras.iterdir()] == []


def test_a_file_without_a_word_of_its_length_is_fetched(
    server: DownloadServer, downloads: Downloads
) -> None:
    downloads.add(look(server, server.put("/p.safetensors", LORA, length=None, ranges=False)))
    assert finish(downloads).state == "done"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("model.ckpt", LORA),
        ("model.PT", LORA),
        ("model.safetensors", b"\x80\x02}q\x00X\x05\x00\x00\x00abc." + b"x" * 100),
        ("model.safetensors", b"PK\x03\x04\x00\x00\x08\x08" + b"x" * 100),
    ],
)
def test_pickles_are_refused_by_name_and_by_content(
    server: DownloadServer, name: str, data: bytes
) -> None:
    with pytest.raises(BadRequestError, match="pickle"):
        look(server, server.put(f"/{name}", data))


def test_a_pickle_that_takes_the_place_of_the_file_is_refused_at_once(
    server: DownloadServer, downloads: Downloads, places: Places
) -> None:
    found = look(server, server.put("/paper.safetensors", LORA))
    server.put("/paper.safetensors", b"\x80\x04" + b"p" * (len(LORA) - 2))
    downloads.add(found)
    assert "pickle" in str(finish(downloads).said)
    assert not (places.loras / "paper.safetensors").exists()


def test_a_page_instead_of_a_file_is_called_one(server: DownloadServer) -> None:
    address = server.put("/login", b"<html></html>", headers={"content-type": "text/html"})
    with pytest.raises(BadRequestError, match="a page instead of a file"):
        look(server, address)


def test_the_checksum_counts(server: DownloadServer, downloads: Downloads, places: Places) -> None:
    found = look(server, server.put("/paper.safetensors", LORA))
    wrong = replace(found, files=(replace(found.files[0], sha256="0" * 64),))
    downloads.add(wrong)
    assert "checksum" in str(finish(downloads).said)
    assert [*places.loras.iterdir()] == []


def test_a_full_disk_is_said_before(server: DownloadServer, places: Places, tmp_path: Path) -> None:
    found = look(server, server.put("/paper.safetensors", LORA))
    full = make(places, tmp_path, free=lambda _: transfers.RESERVE_BYTES + 9)
    with pytest.raises(StorageError, match="free some space"):
        full.add(found)
    assert full.all() == ()


def test_a_disk_that_becomes_full_stops_it_and_it_goes_on_later(
    server: DownloadServer, places: Places, tmp_path: Path
) -> None:
    found = look(server, server.put("/paper.safetensors", LORA))
    server.files["/paper.safetensors"].cuts = [100_000]
    room = [10**12, 10**12, 9, 10**12]
    downloads = make(places, tmp_path, free=lambda _: room.pop(0) if room else 10**12)
    added = downloads.add(found)
    failed = finish(downloads)
    assert (failed.state, failed.received) == ("failed", 100_000)
    assert "free some space" in str(failed.said)
    downloads.resume(added.id)
    assert finish(downloads).state == "done"
    downloads.close()


def test_pause_resume_and_giving_up(
    server: DownloadServer, downloads: Downloads, places: Places
) -> None:
    found = look(server, server.put("/paper.safetensors", LORA, slow=0.2))
    added = downloads.add(found)
    part = places.loras / "paper.safetensors.part"
    while not part.exists() or not part.stat().st_size:
        time.sleep(0.01)
    downloads.pause(added.id)
    paused = finish(downloads)
    assert paused.state == "paused"
    assert 0 < part.stat().st_size < len(LORA)
    downloads.resume(added.id)
    while part.stat().st_size <= paused.received:
        time.sleep(0.01)
    downloads.remove(added.id)
    assert downloads.wait(60)
    assert downloads.all() == ()
    assert [*places.loras.iterdir()] == []


def test_it_survives_a_restart_and_asks_nobody_before_it_is_told_to(
    server: DownloadServer, places: Places, tmp_path: Path
) -> None:
    found = look(server, server.put("/paper.safetensors", LORA, slow=0.2))
    before = make(places, tmp_path)
    added = before.add(found)
    part = places.loras / "paper.safetensors.part"
    while not part.exists() or not part.stat().st_size:
        time.sleep(0.01)
    before.close()
    have = part.stat().st_size
    server.asked.clear()
    after = make(places, tmp_path)
    (kept,) = after.all()
    assert (kept.id, kept.state) == (added.id, "paused")
    assert server.asked == []
    server.files["/paper.safetensors"].slow = 0
    after.resume(added.id)
    assert finish(after).state == "done"
    assert server.ranges_asked() == [f"bytes={have}-"]
    assert (places.loras / "paper.safetensors").read_bytes() == LORA
    assert after.all()[0].state == "done"
    assert json.loads((tmp_path / "state" / FILE).read_bytes()) == []
    after.close()


def test_the_list_is_for_its_owner_alone(
    server: DownloadServer, downloads: Downloads, tmp_path: Path
) -> None:
    downloads.add(look(server, server.put("/paper.safetensors", LORA)))
    finish(downloads)
    assert (tmp_path / "state" / FILE).stat().st_mode & 0o077 == 0


def test_one_at_a_time_in_order(
    server: DownloadServer, downloads: Downloads, places: Places
) -> None:
    open_at_once: list[str] = []
    found = [look(server, server.put(f"/{n}.safetensors", LORA, slow=0.05)) for n in "abc"]
    server.asked.clear()
    for one in found:
        downloads.add(one)
    with pytest.raises(BadRequestError, match="in the list"):
        downloads.add(found[2])
    while not downloads.wait(0.02):
        running = [one for one in downloads.all() if one.state in ("running", "checking")]
        assert len(running) <= 1
        open_at_once += [one.found.name for one in running]
    assert [asked.path[1] for asked in server.asked] == ["a", "b", "c"]
    with pytest.raises(BadRequestError, match="already"):
        downloads.add(found[0])


def test_a_name_that_was_taken_meanwhile_is_left_alone(
    server: DownloadServer, downloads: Downloads, places: Places
) -> None:
    found = look(server, server.put("/paper.safetensors", LORA, slow=0.03))
    downloads.add(found)
    places.loras.mkdir(exist_ok=True)
    (places.loras / "paper.safetensors").write_bytes(b"mine")
    assert finish(downloads).state == "failed"
    assert (places.loras / "paper.safetensors").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('attachment; filename="ink.safetensors"', "ink.safetensors"),
        ("attachment; filename*=UTF-8''%C3%A9tude.safetensors", "étude.safetensors"),
        ('attachment; filename="../../../ink.safetensors"', "ink.safetensors"),
        ('attachment; filename="..\\\\..\\\\ink.safetensors"', "ink.safetensors"),
        ('attachment; filename="/etc/ink.safetensors"', "ink.safetensors"),
        ("attachment; filename*=UTF-8''..%2F..%2Fink.safetensors", "ink.safetensors"),
        ('attachment; filename=".ink.safetensors"', "ink.safetensors"),
    ],
)
def test_names_of_servers_lead_nowhere(server: DownloadServer, disposition: str, name: str) -> None:
    address = server.put("/download/7", LORA, headers={"content-disposition": disposition})
    assert look(server, address).name == name


def test_two_threads_may_ask_for_the_same(server: DownloadServer, downloads: Downloads) -> None:
    found = look(server, server.put("/paper.safetensors", LORA, slow=0.02))
    failed: list[WebuiError] = []

    def add() -> None:
        try:
            downloads.add(found)
        except WebuiError as error:
            failed.append(error)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(failed) == 3
    assert finish(downloads).state == "done"


UNET = save({"a": np.zeros((9, 9), np.float32)})
HALF = save({"a": np.zeros((9, 9), np.float16)})
FILES = {
    "model_index.json": json.dumps(
        {
            "_class_name": "StableDiffusionPipeline",
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
            "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
            "scheduler": ["diffusers", "PNDMScheduler"],
        }
    ).encode(),
    "unet/config.json": CONFIG,
    "unet/diffusion_pytorch_model.safetensors": UNET,
    "unet/diffusion_pytorch_model.fp16.safetensors": HALF,
    "unet/diffusion_pytorch_model.bin": b"\x80\x02",
    "vae/config.json": CONFIG,
    "vae/diffusion_pytorch_model.safetensors": UNET,
    "safety_checker/config.json": CONFIG,
    "safety_checker/model.safetensors": UNET,
    "scheduler/scheduler_config.json": CONFIG,
    "whole.safetensors": UNET,
    "README.md": b"x",
}


class TestRepositories:
    def test_a_folder_comes_whole_in_half_precision_without_what_is_not_used(
        self, server: DownloadServer, downloads: Downloads, places: Places
    ) -> None:
        server.put_repo("someone/meadow", FILES, cardData={"license": "openrail"})
        several = offers(server).look("someone/meadow")
        assert isinstance(several, Choices)
        assert [row.name for row in several.rows] == ["", "whole.safetensors"]
        found = look(server, several.rows[0].source)
        assert (found.kind, found.licence, found.is_folder) == ("model", "openrail", True)
        assert found.page == f"{server.address}/someone/meadow"
        server.files["/far/someone/meadow/unet/diffusion_pytorch_model.fp16.safetensors"].cuts = [
            50
        ]
        downloads.add(found)
        assert finish(downloads).state == "done"
        folder = places.models / "meadow"
        assert [path.name for path in places.models.iterdir()] == ["meadow"]
        assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.*")) == [
            "model_index.json",
            "scheduler/scheduler_config.json",
            "unet/config.json",
            "unet/diffusion_pytorch_model.safetensors",
            "vae/config.json",
            "vae/diffusion_pytorch_model.safetensors",
        ]
        weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
        assert weights.read_bytes() == HALF

    def test_a_file_of_one_has_the_checksum_that_the_hub_tells(
        self, server: DownloadServer, downloads: Downloads
    ) -> None:
        server.put_repo("someone/ink", {"pytorch_lora_weights.safetensors": LORA})
        found = look(server, "someone/ink")
        assert (found.name, found.kind) == ("ink.safetensors", "lora")
        assert found.files[0].sha256 == hashlib.sha256(LORA).hexdigest()
        server.put("/far/someone/ink/pytorch_lora_weights.safetensors", _flipped(LORA))
        downloads.add(found)
        assert "checksum" in str(finish(downloads).said)

    def test_one_with_pickles_alone_says_so(self, server: DownloadServer) -> None:
        server.put_repo("someone/old", {"model.ckpt": b"x"})
        with pytest.raises(BadRequestError, match="pickles alone"):
            look(server, "someone/old")
        with pytest.raises(BadRequestError, match=r"no safetensors file"):
            look(server, "someone/old/model.ckpt")

    def test_a_controlnet_is_a_folder_of_its_own_kind(
        self, server: DownloadServer, downloads: Downloads, places: Places
    ) -> None:
        config = b'{"_class_name": "ControlNetModel"}'
        files = {"config.json": config, "diffusion_pytorch_model.safetensors": UNET}
        server.put_repo("someone/control-edges", files)
        found = look(server, "someone/control-edges")
        downloads.add(found)
        assert finish(downloads).state == "done"
        assert {path.name for path in (places.models / "controlnet/control-edges").iterdir()} == {
            "config.json",
            "diffusion_pytorch_model.safetensors",
        }

    def test_a_path_that_leads_out_is_not_taken(self, server: DownloadServer) -> None:
        files = {**FILES, "unet/../../../out.json": CONFIG}
        server.put_repo("someone/meadow", files)
        found = look(server, "someone/meadow/model_index.json")
        assert all(".." not in file.path for file in found.files)


def _flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])
