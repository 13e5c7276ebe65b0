"""Files of weights that DeepForest writes, read without running any code of theirs."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from treedet.errors import ModelFileError, UnknownFormatError

Json: TypeAlias = Mapping[str, Any]

PICKLES = (".ckpt", ".pt", ".pth", ".bin")
HUB_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
ACCEPTED = "a hub folder (config.json and model.safetensors), a Lightning .ckpt or a .pt of weights"


@dataclass(frozen=True)
class WeightFile:
    """What was found in a file or folder of weights.

    Attributes:
        path: The file with the tensors.
        kind: What it is, in words.
        tensors: The tensors by the names they have there.
        config: Settings stored with them; empty where there are none.
        labels: Class numbers by name as they stand there, or None.
    """

    path: Path
    kind: str
    tensors: Mapping[str, Tensor]
    config: Json
    labels: Mapping[object, object] | None


def read_weights(path: str | Path) -> WeightFile:
    """Read weights of DeepForest.

    Args:
        path: A hub folder, or its place in the hub's cache; a Lightning checkpoint; a file of tensors.

    Raises:
        ModelFileError: There is no such file, or the folder lacks the weights.
        UnknownFormatError: The file is damaged, or holds more than tensors and plain values.
    """
    path = Path(path)
    if path.is_dir():
        path = _in_folder(path)
    if not path.is_file():
        raise ModelFileError(f"{path} does not exist; give {ACCEPTED}")
    if path.suffix.lower() == ".safetensors":
        return _from_hub(path, _safetensors(path))
    if path.suffix.lower() not in PICKLES:
        raise UnknownFormatError(f"{path}: suffix {path.suffix!r} names no file of weights; accepted are {ACCEPTED}")
    return _from_pickle(path, _unpickled(path))


def _in_folder(folder: Path) -> Path:
    """Return the file with the weights of a hub folder."""
    found = [folder / name for name in HUB_WEIGHTS if (folder / name).is_file()]
    if not found:
        # The hub's cache keeps each revision in a folder of its own.
        found = sorted(folder.glob(f"snapshots/*/{HUB_WEIGHTS[0]}"))
        if len(found) > 1:
            raise ModelFileError(
                f"{folder} holds {len(found)} revisions; give one of them, such as {found[0].parent}"
            )
    if not found:
        there = ", ".join(sorted(entry.name for entry in folder.iterdir())[:5]) or "nothing"
        raise ModelFileError(f"folder {folder} holds no {HUB_WEIGHTS[0]}; found {there}; accepted is {ACCEPTED}")
    return found[0]


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise UnknownFormatError(f"{path} is damaged or no safetensors file: {error}; download it again") from error


def _from_hub(path: Path, tensors: Mapping[str, Tensor]) -> WeightFile:
    config = _json(path.with_name("config.json"))
    return WeightFile(path, "hub folder" if config else "file of tensors", tensors, config, _labels(config, path))


def _json(path: Path) -> Json:
    """Return the settings beside the weights; none where there is no such file."""
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UnknownFormatError(f"{path} is no JSON: {error}; download it again") from error
    if not isinstance(config, dict):
        raise UnknownFormatError(f"{path} holds no settings but a {type(config).__name__}; download it again")
    return config


def _unpickled(path: Path) -> Mapping[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if (named := re.search(r"GLOBAL ([\w.]+)", str(error))) is None:
            raise UnknownFormatError(f"{path} is damaged or no file of weights; accepted is {ACCEPTED}") from error
        raise UnknownFormatError(
            f"{path} holds more than weights and plain values ({named[1]}), and reading that would run its code; "
            "load it where DeepForest is installed, call model.model.save_pretrained('folder'), import that folder"
        ) from error
    except (RuntimeError, EOFError, ValueError, OSError, KeyError, AttributeError, TypeError) as error:
        raise UnknownFormatError(f"{path} is damaged or no file of weights; accepted is {ACCEPTED}") from error
    if not isinstance(content, Mapping):
        raise UnknownFormatError(
            f"{path} holds a {type(content).__name__}, no weights by name; accepted is {ACCEPTED}"
        )
    return content


def _from_pickle(path: Path, content: Mapping[str, Any]) -> WeightFile:
    state = content.get("state_dict")
    if not isinstance(state, Mapping):
        if path.name in HUB_WEIGHTS:
            return _from_hub(path, _tensors_of(content))
        return WeightFile(path, "file of tensors", _tensors_of(content), {}, None)
    kept = content.get("hyper_parameters")
    config = kept.get("config", {}) if isinstance(kept, Mapping) else {}
    if not isinstance(config, Mapping):
        config = {}
    labels = _labels(content, path) or _labels(config, path)
    return WeightFile(path, "Lightning checkpoint", _tensors_of(state), config, labels)


def _tensors_of(content: Mapping[str, Any]) -> dict[str, Tensor]:
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def _labels(content: Json, path: Path) -> Mapping[object, object] | None:
    """Return the label dictionary, or None where there is none."""
    found = content.get("label_dict")
    if not found:
        return None
    if not isinstance(found, Mapping):
        raise UnknownFormatError(
            f"{path}: its label_dict should give a number to each class, found {str(found)[:60]}; correct it"
        )
    return found
