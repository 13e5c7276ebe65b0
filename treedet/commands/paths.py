"""Paths as users give them and as they are told back."""

from __future__ import annotations

import json
import os
from pathlib import Path

from treedet.errors import OutputError

MODEL_SUFFIX = ".safetensors"


def model_path(output: str) -> Path:
    """Return where a model file is to be written.

    Raises:
        OutputError: The name does not end in ``.safetensors``, is a folder, or its folder can not be written.
    """
    path = Path(output)
    if path.suffix.lower() != MODEL_SUFFIX:
        found = f"found {path.suffix!r}" if path.suffix else "found none"
        raise OutputError(f"{path}: a model file ends in {MODEL_SUFFIX}, {found}; write {path.stem}{MODEL_SUFFIX}")
    if path.is_dir():
        name = path / ("model" + MODEL_SUFFIX)
        raise OutputError(f"{path} is a folder; give the name of a file in it, such as {name}")
    if not path.parent.is_dir():
        raise OutputError(f"folder {path.parent} does not exist; make it first")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"folder {path.parent} can not be written; give another, or its rights to write")
    return path


def beside(path: Path, name: str) -> Path:
    """Return the path of a file that goes with another.

    >>> beside(Path("stand.safetensors"), "curves.png").name
    'stand-curves.png'
    """
    return path.with_name(f"{path.stem}-{name}")


def quoted(path: str) -> str:
    """Return a path as it can be pasted into a shell.

    >>> quoted("my stand.tif"), quoted("stand.tif")
    ('"my stand.tif"', 'stand.tif')
    """
    return json.dumps(path, ensure_ascii=False) if " " in path else path
