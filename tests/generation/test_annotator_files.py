from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from webui.generation.annotator_files import HED, complete_folder, missing
from webui.settings import ROOT


def test_a_package_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ControlNetHED.safetensors").touch()
    (tmp_path / "depth").mkdir()

    def nowhere(name: str) -> None:
        """No package is installed."""

    monkeypatch.setattr("importlib.util.find_spec", nowhere)
    assert "install the package controlnet-aux" in missing("hed", (tmp_path,))
    assert missing("depth", (tmp_path,)) == ""


def test_what_is_no_network_lacks_nothing(tmp_path: Path) -> None:
    assert missing("canny", (tmp_path,)) == missing("none", (tmp_path,)) == ""


def test_the_first_folder_with_all_of_it_is_taken(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    other.mkdir()
    assert complete_folder("hed", (one, other)) is None
    (other / HED).touch()
    assert complete_folder("hed", (one, other)) == other


def test_what_is_missing_is_known_without_torch() -> None:
    script = (
        "import sys, webui.generation.annotator_files, webui.generation.control_kinds;"
        "heavy = {'torch', 'cv2', 'diffusers', 'controlnet_aux'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
