"""The shelf of VAEs that can be used in place of a model's own, by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from webui.errors import BrokenFileError, NotFoundError
from webui.library.components import Component
from webui.library.contents import Content, Contents
from webui.library.hashes import HashBook
from webui.library.recognised_files import RecognisedFiles
from webui.library.recognition import Recognised
from webui.library.weight_files import Found, find_weights
from webui.request import nearest

FOLDER = "vae"
"""Name of the folder in each folder of models that the VAEs lie in."""


@dataclass(frozen=True)
class Vae:
    """A VAE on the shelf.

    Attributes:
        component: Which one it is.
        key: Stands for the file as it lies there, as `Checkpoint.key`.
        content: The hash of its weights.
    """

    name: str
    path: Path
    component: Component
    key: str
    content: Content = field(compare=False, repr=False)


class VaeShelf:
    """Finds VAEs under a few folders, the first to hold a name wins; no name leads out.

    Safe to use from several threads; several processes may share the files beside `hashes`.
    """

    def __init__(self, folders: tuple[Path, ...], hashes: HashBook) -> None:
        """`folders` are those of the models."""
        self._folders = tuple(folder / FOLDER for folder in folders)
        self._contents = Contents(hashes)
        self._recognised = RecognisedFiles(hashes.folder)

    def all(self) -> tuple[Vae, ...]:
        """Those that can be used, by name."""
        found = list(self._found().values())
        facts = [facts.recognised for facts in self._recognised.of(found)]
        vaes = [self._vae(one, said) for one, said in zip(found, facts, strict=True)]
        return tuple(vae for vae in vaes if vae is not None)

    def find(self, name: str) -> Vae:
        """The VAE of that name: its file's, with suffix or without.

        Raises:
            NotFoundError: There is none; names the nearest.
            BrokenFileError: It cannot be used; says why.
        """
        found = self._found()
        fitting = [one for known, one in found.items() if name in (known, one.file)]
        if not fitting:
            known = (
                nearest(name, tuple(found)) if found else f"there is none in {self._folders[0]}."
            )
            raise NotFoundError(f"Unknown VAE {name!r}: {known}", field="vae")
        (facts,) = self._recognised.of(fitting[:1])
        vae = self._vae(fitting[0], facts.recognised)
        if vae is None:
            problem = facts.recognised.problem or f"{fitting[0].path.name} is no VAE."
            raise BrokenFileError(problem, field="vae")
        return vae

    def _vae(self, one: Found, said: Recognised) -> Vae | None:
        if said.problem is not None or said.kind != "vae" or said.component is None:
            return None
        content = self._contents.of(one.key, {one.path: one.stamp}, None)
        return Vae(one.long, one.path, said.component, one.key, content)

    def _found(self) -> dict[str, Found]:
        found: dict[str, Found] = {}
        for folder in self._folders:
            for one in find_weights(folder):
                if not one.is_folder:
                    found.setdefault(one.long, one)
        return dict(sorted(found.items()))
