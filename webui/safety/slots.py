"""The folders with an operator's own guards: what is read of them, and that it is what was pinned.

A folder is a transformers model as its publisher gives it. Of its files only those named here are
read, once, and both the weights and what says how to read them are part of the pinned hash: who
could change the labels or the scaling of the pixels could blind a guard without touching its
weights.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from webui.errors import GuardError
from webui.safety.labels import Kind, Slot, kinds_of

FOLDERS: Mapping[Slot, str] = MappingProxyType(
    {"nsfw": "nsfw", "face age": "face-age", "explicit": "explicit", "text": "text"}
)
"""Folder of each slot under `models/guards/`; also its name in the policy file."""

WEIGHTS = "model.safetensors"
_CONFIG = "config.json"
_IMAGE_FILES = (_CONFIG, "preprocessor_config.json")
_TEXT_FILES = (
    _CONFIG,
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
_PICKLES = (".bin", ".ckpt", ".pkl", ".pt", ".pth")
_MAX_SMALL_FILE = 64_000_000
_AT_ONCE = 8
_MAX_TOKENS = 512
_OVERLAP = 64
"""Tokens that a long text's windows share."""

_log = logging.getLogger(__name__)


class PictureModel:
    """An `image-classification` model on the CPU.

    Attributes:
        kinds: What each of its labels stands for.
    """

    def __init__(self, kinds: tuple[Kind, ...], model: Any, processor: Any) -> None:
        self.kinds = kinds
        self._model = model
        self._processor = processor

    def shares(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """Probabilities of the labels: (pictures, labels).

        Args:
            pictures: Each height x width x 3, RGB, 0..255.
        """
        parts: list[NDArray[np.float64]] = []
        for start in range(0, len(pictures), _AT_ONCE):
            some = [np.ascontiguousarray(each) for each in pictures[start : start + _AT_ONCE]]
            read = self._processor(
                images=some, return_tensors="pt", input_data_format="channels_last"
            )
            parts.append(_probabilities(self._model, pixel_values=read["pixel_values"]))
        return np.concatenate(parts)


class TextModel:
    """A `text-classification` model on the CPU.

    Attributes:
        kinds: What each of its labels stands for.
    """

    def __init__(self, kinds: tuple[Kind, ...], model: Any, tokenizer: Any) -> None:
        self.kinds = kinds
        self._model = model
        self._tokenizer = tokenizer
        longest = getattr(model.config, "max_position_embeddings", _MAX_TOKENS)
        self._window = min(int(longest), int(tokenizer.model_max_length), _MAX_TOKENS)

    def shares(self, text: str) -> NDArray[np.float64]:
        """Probabilities of the labels: (windows, labels). The windows cover all of the text."""
        read = self._tokenizer(
            text,
            truncation=True,
            max_length=self._window,
            stride=min(_OVERLAP, self._window // 4),
            return_overflowing_tokens=True,
            padding=True,
            return_tensors="pt",
        )
        inputs = {name: read[name] for name in self._tokenizer.model_input_names if name in read}
        return _probabilities(self._model, **inputs)


def read_picture_model(slot: Slot, folder: Path, pin: str | None) -> PictureModel:
    """The model of a slot for pictures.

    Args:
        folder: That of the slot.
        pin: The `folder_hash` that the operator trusts.

    Raises:
        GuardError: It is not there, not as pinned, or cannot be used; the message says why.
    """
    with _reading(slot, folder, pin, _IMAGE_FILES) as (copy, weights):
        transformers: Any = import_module("transformers")
        kinds, model = _load(slot, copy, weights, transformers.AutoModelForImageClassification)
        processor = transformers.AutoImageProcessor.from_pretrained(
            copy, local_files_only=True, trust_remote_code=False
        )
        return PictureModel(kinds, model, processor)


def read_text_model(slot: Slot, folder: Path, pin: str | None) -> TextModel:
    """The model of a slot for texts; as `read_picture_model`."""
    with _reading(slot, folder, pin, _TEXT_FILES) as (copy, weights):
        transformers: Any = import_module("transformers")
        kinds, model = _load(slot, copy, weights, transformers.AutoModelForSequenceClassification)
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            copy, local_files_only=True, trust_remote_code=False
        )
        return TextModel(kinds, model, tokenizer)


def folder_hash(slot: Slot, folder: Path) -> str:
    """What the operator pins: the sha256 of the lines that `sha256sum` prints for the files that
    are read, in the order of their names.

    Raises:
        GuardError: There is no model, or it cannot be read.
    """
    return _hash_of(_files(slot, folder, _TEXT_FILES if slot == "text" else _IMAGE_FILES))


def _hash_of(files: Mapping[str, bytes]) -> str:
    lines = (f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _files(slot: Slot, folder: Path, names: Sequence[str]) -> dict[str, bytes]:
    place = f"models/guards/{FOLDERS[slot]}"
    present = {path.name for path in folder.iterdir()} if folder.is_dir() else set[str]()
    if WEIGHTS not in present:
        pickles = sorted(name for name in present if name.casefold().endswith(_PICKLES))
        if pickles:
            raise GuardError(
                f"{place}/{pickles[0]} is a pickle, which can hold programs and is not read: take"
                " the publisher's model.safetensors, or load the model with transformers on a"
                " machine you can spare and save it with `save_pretrained`."
            )
        raise GuardError(f"There is no {WEIGHTS} in {place}: see models/guards/README.md.")
    if _CONFIG not in present:
        raise GuardError(f"There is no {_CONFIG} in {place}: fetch the model again.")
    try:
        large = [name for name in names if _size(folder / name) > _MAX_SMALL_FILE]
        if large:
            raise GuardError(f"{place}/{large[0]} is far too long: fetch the model again.")
        read = sorted({WEIGHTS, *names} & present)
        return {name: (folder / name).read_bytes() for name in read}
    except OSError as error:
        raise GuardError(f"{place} cannot be read: {error.strerror}.") from None


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


@contextmanager
def _reading(
    slot: Slot, folder: Path, pin: str | None, names: Sequence[str]
) -> Generator[tuple[Path, bytes], None, None]:
    """A folder with copies of the small files and nothing else, and the weights.

    Whatever goes wrong with them is a `GuardError`.
    """
    files = _files(slot, folder, names)
    found = _hash_of(files)
    if pin is None or pin.casefold() != found:
        wrong = "is not pinned" if pin is None else "is another one than was pinned"
        raise GuardError(
            f"The guard in models/guards/{FOLDERS[slot]} {wrong}: compare its files with the"
            f" publisher's, then pin {found}."
        )
    weights = files.pop(WEIGHTS)
    try:
        with tempfile.TemporaryDirectory(prefix="easel-guard-") as name:
            for file, data in files.items():
                (Path(name) / file).write_bytes(data)
            yield Path(name), weights
    except GuardError:
        raise
    except ImportError as error:
        _log.warning("The guard %r needs a package: %s", slot, error)
        raise GuardError(
            f"The guard in models/guards/{FOLDERS[slot]} needs a Python package that is not"
            " installed (of the customary ones, those made with timm need timm and torchvision)."
        ) from error
    except Exception as error:
        # Configurations from elsewhere can be wrong in as many ways as there are classes.
        _log.warning("The guard %r cannot be loaded: %s", slot, error)
        raise GuardError(
            f"The guard in models/guards/{FOLDERS[slot]} cannot be loaded: its files are damaged"
            " or of a kind that is not known here."
        ) from error


def _load(slot: Slot, folder: Path, weights: bytes, kind: Any) -> tuple[tuple[Kind, ...], Any]:
    transformers: Any = import_module("transformers")
    torch: Any = import_module("torch")
    # A pickle, renamed or not, has no header of this format and ends here.
    state = cast(dict[str, Any], import_module("safetensors.torch").load(weights))
    config: Any = transformers.AutoConfig.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    kinds = kinds_of(slot, [config.id2label[place] for place in range(config.num_labels)])
    with torch.device("meta"):
        empty: Any = kind.from_config(config, trust_remote_code=False)
    model: Any
    model, said = empty.from_pretrained(
        None, config=config, state_dict=state, dtype=torch.float32, output_loading_info=True
    )
    # They would be drawn by lot, and the model would say anything.
    if said["missing_keys"] or said["mismatched_keys"]:
        raise GuardError(
            f"The weights in models/guards/{FOLDERS[slot]} are not all there: fetch the model"
            " again."
        )
    return kinds, model.eval()


def _probabilities(model: Any, **inputs: Any) -> NDArray[np.float64]:
    torch: Any = import_module("torch")
    with torch.inference_mode():
        logits = model(**inputs).logits.double()
    several = model.config.problem_type == "multi_label_classification"
    shares = logits.sigmoid() if several else logits.softmax(dim=-1)
    return np.asarray(shares.numpy(), dtype=np.float64)
