"""Where things are and how the server listens; one frozen object, built in `webui.cli.building`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from webui.levels import Level

ROOT = Path(__file__).resolve().parent.parent
"""The repository: the folder that holds `webui/`, `models/` and `launch.py`."""

DeviceName = Literal["auto", "cpu", "cuda", "mps", "xpu"]
DtypeName = Literal["auto", "bfloat16", "float16", "float32"]
AttentionName = Literal["auto", "native", "math", "flash", "xformers", "sage"]
PlanName = Literal["resident", "turns", "drop", "stream", "sequential", "fp8"]
MemoryName = Literal["auto", PlanName]

GIB = 1024**3


@dataclass(frozen=True)
class Settings:
    """Everything an engine needs to know about this machine and installation.

    Attributes:
        models: Folder of models, one folder or file each.
        loras: Folder of LoRAs, subfolders too.
        hub_cache: Whether models in the hub's own cache, which other programs fill, are shown too.
        wildcards: Folder of lists that prompts draw from, subfolders too.
        outputs: Folder the pictures are saved to.
        state: Folder of what can be made anew (file hashes), and of the signing key.
        presets: Folder of the presets and word lists that come with Easel.
        own_presets: Folder of the user's own.
        device: Device the engine computes on; "auto" takes a GPU where there is one.
        dtype: Number format of the weights; "auto" takes the fastest the device has units for.
        attention: How attention is computed; "auto" takes the fastest exact way that works here.
        memory: How a model is laid out in memory; "auto" plans it by what is free.
        keep_models_bytes: Bound of the models kept in memory beside the one in use, in bytes;
            None: as many as leave half of the device's memory free.
        cache_bytes: Bound of the stage cache in bytes.
        max_level: Holds the filter's level lower than the operator's settings do, never higher.
        exposed: Whether others than the person at this machine can reach the page.
    """

    models: Path = ROOT / "models"
    loras: Path = ROOT / "loras"
    hub_cache: bool = True
    wildcards: Path = ROOT / "wildcards"
    outputs: Path = ROOT / "outputs"
    state: Path = ROOT / ".easel"
    presets: Path = ROOT / "presets"
    own_presets: Path = ROOT / "presets" / "mine"
    device: DeviceName = "auto"
    dtype: DtypeName = "auto"
    attention: AttentionName = "auto"
    memory: MemoryName = "auto"
    keep_models_bytes: int | None = None
    cache_bytes: int = GIB
    max_level: Level | None = None
    exposed: bool = False


@dataclass(frozen=True)
class ServerSettings:
    """How the page is served.

    Attributes:
        host: Address to listen on; 127.0.0.1 is reachable from this machine only.
        port: TCP port.
        open_browser: Whether the default browser is opened on the page.
        allowed_hosts: Further host names the server may be called by, such as a proxy's.
        password: Visitors who are not at this machine need it; `None`: made up for a share link,
            otherwise nobody needs one.
        share_hours: How long a share link lasts.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    open_browser: bool = True
    allowed_hosts: tuple[str, ...] = ()
    password: str | None = None
    share_hours: float = 8.0
