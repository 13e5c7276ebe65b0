"""The model file: one ``.safetensors`` with the tensors, and the spec as JSON in its header. No pickle anywhere."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_bytes
from torch import Tensor

from treedet.core.spec import ModelSpec
from treedet.errors import ConfigError, ModelFileError, OutputError, SpecMismatchError, UnknownFormatError

FORMAT = "treedet-model"
VERSION = 1


def save(path: str | Path, spec: ModelSpec, tensors: Mapping[str, Tensor], *, overwrite: bool = False) -> None:
    """Write a model file, first under a temporary name.

    Convolution weights are stored in half precision unless the spec's precision is ``fp32``; biases and
    normalisation statistics, which need the range, in single precision.

    Raises:
        OutputError: The file exists and ``overwrite`` is off, or it can not be written.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists; give another name, or overwrite=True (--overwrite)")
    if not path.parent.is_dir():
        raise OutputError(f"folder {path.parent} does not exist; make it first")
    halved = spec.precision != "fp32"
    stored = {
        k: v.to(torch.float16 if halved and v.ndim > 1 else torch.float32).contiguous() for k, v in tensors.items()
    }
    metadata = {"format": FORMAT, "format_version": str(VERSION), "spec": json.dumps(spec.to_dict())}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        # Written by Python rather than by safetensors, which makes files only their owner can read.
        temporary.write_bytes(save_bytes(stored, metadata=metadata))
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"{path} can not be written: {error}") from error


def read_spec(path: str | Path) -> ModelSpec:
    """Read the spec of a model file without its tensors; same errors as :func:`load`."""
    path = _existing(path)
    try:
        with safe_open(path, framework="pt") as file:
            return _spec(path, file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise _unknown(path, str(error)) from error


def load(path: str | Path) -> tuple[ModelSpec, dict[str, Tensor]]:
    """Read a model file.

    Args:
        path: The file.

    Returns:
        The spec, and the tensors by parameter name in the precision they are stored in.

    Raises:
        ModelFileError: The file is missing.
        UnknownFormatError: It is no treedet model file, is damaged, or is of a later version.
        SpecMismatchError: Its spec can not be understood.
    """
    path = _existing(path)
    try:
        with safe_open(path, framework="pt") as file:
            spec = _spec(path, file.metadata() or {})
            return spec, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise _unknown(path, str(error)) from error


def digest(path: str | Path) -> str:
    """Return the SHA-256 of a file, so that a run can tell whether its model changed."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"model file {path} does not exist; give the path of a .safetensors file")
    return path


def _spec(path: Path, metadata: Mapping[str, str]) -> ModelSpec:
    if metadata.get("format") != FORMAT:
        raise _unknown(path, "its header does not name the format")
    version = metadata.get("format_version", "")
    if not version.isdecimal() or int(version) > VERSION:
        raise UnknownFormatError(
            f"{path} is a treedet model file of version {version or 'unknown'}, this treedet reads up to {VERSION}; "
            "install a newer treedet"
        )
    try:
        return ModelSpec.from_dict(json.loads(metadata["spec"]))
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise SpecMismatchError(f"{path}: its spec can not be understood ({error}); the file is damaged") from error


def _unknown(path: Path, why: str) -> UnknownFormatError:
    return UnknownFormatError(
        f"{path} is no treedet model file, or is damaged: {why}; accepted is a .safetensors file that treedet wrote"
    )
