"""The real page over a fake generator, shared through a stand-in tunnel or open to the network.

`python -m tests.ui.shared_server FOLDER PACE share|listen`: both ask visitors for `PASSWORD`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

from tests.fakes import FakeGenerator
from tests.ui.fake_server import READY
from tests.ui.served import Served, client, copied
from tests.ui.stand_in import StandInGate
from tests.ui.stand_in_tunnel import StandInTunnel
from webui.cli.building import build_backend
from webui.jobs import Jobs
from webui.settings import ServerSettings, Settings
from webui.ui.server import bind, serve

PASSWORD = "a quiet orchard"


@dataclass(frozen=True)
class Visited:
    """A running server, and how visitors get there.

    Attributes:
        host: The name of its public end, with the port.
    """

    served: Served
    host: str
    folder: Path

    def owner(self) -> httpx.Client:
        """Somebody at this machine, with a session."""
        with client(self.served.address) as unknown:
            given = unknown.get("/status").headers["set-cookie"]
        return client(self.served.address, {"cookie": given.partition(";")[0]})

    def visitor(self, **headers: str) -> httpx.Client:
        """Somebody who knows the link."""
        return client(self._public, {"host": self.host, **headers})

    def guest(self) -> httpx.Client:
        """A visitor who was let in."""
        with self.visitor() as visitor:
            answer = visitor.post("/enter", data={"password": PASSWORD})
        assert answer.status_code == 303, answer.text
        return self.visitor(cookie=answer.headers["set-cookie"].partition(";")[0])

    @property
    def _public(self) -> str:
        return f"http://127.0.0.1:{self.host.rpartition(':')[2]}"


def shared(folder: Path, pace: float = 0.001) -> Visited:
    """A server with a share link, once both are there."""
    served = _started(folder, pace, "share")
    with client(served.address) as owner:
        address = owner.get("/share").json()["address"]
    return Visited(served, address.removeprefix("http://"), folder)


def listening(folder: Path, pace: float = 0.001) -> Visited:
    """A server that listens at every address."""
    served = _started(folder, pace, "listen")
    return Visited(served, f"192.0.2.1:{served.port}", folder)


def _started(folder: Path, pace: float, way: str) -> Served:
    folder.mkdir(parents=True, exist_ok=True)
    arguments = ("tests.ui.shared_server", str(folder), str(pace), way)
    served = copied(arguments, log=folder.with_name(f"{folder.name}.txt"))
    served.wait_for()
    return served


def main(folder: Path, pace: float, way: str) -> None:
    """Serves until it is told to end."""
    host = "0.0.0.0" if way == "listen" else "127.0.0.1"
    server = ServerSettings(host=host, port=0, open_browser=False, password=PASSWORD)
    listener = bind(server)
    places = Settings(outputs=folder, state=folder / ".state", own_presets=folder / ".presets")
    jobs = Jobs(FakeGenerator(folder, seconds_per_step=pace))
    backend = build_backend(places, jobs, lambda: READY, StandInGate().answer)
    tunnel = StandInTunnel if way == "share" else None
    try:
        serve(listener, server, backend, announce=partial(print, flush=True), tunnel=tunnel)
    finally:
        backend.history.close()
        jobs.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3])
