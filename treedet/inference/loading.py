"""From a model file to a detector."""

from __future__ import annotations

from functools import partial
from importlib import resources
from pathlib import Path
from typing import Literal

from treedet.inference.detector import Detector
from treedet.models import model_file
from treedet.models.backends.eager import EagerBackend, Precision
from treedet.models.base import WindowDetector
from treedet.models.build import build
from treedet.models.network import NetworkDetector
from treedet.models.original import as_original

BUNDLED = "crowns.safetensors"


def bundled_model() -> Path:
    """Return the path of the model file that comes with the package."""
    return Path(str(resources.files("treedet") / "weights" / BUNDLED))


def load(path: str | Path | None = None, *, device: str = "auto", precision: Precision = "auto") -> Detector:
    """Load a model.

    Args:
        path: A treedet model file; None loads the bundled model.
        device: ``auto`` takes a GPU where there is one; else ``cpu``, ``cuda``, ``mps``.
        precision: ``auto`` takes the model's own: fp32 for imported weights, else bf16 where the device computes it
            natively. Otherwise ``fp32`` or ``bf16``.

    Raises:
        ModelFileError: The file is missing, of another format, or damaged.
        BackendUnavailableError: The device or precision is not available.
    """
    path = bundled_model() if path is None else Path(path)
    spec, tensors = model_file.load(path)
    trunk = build(spec, tensors)
    backend = EagerBackend(trunk, device=device, precision=spec.precision if precision == "auto" else precision)
    model = NetworkDetector(backend, spec, digest=model_file.digest(path))
    again = partial(load_model, str(path.absolute()), device, precision)
    return Detector(model, name=path.name, trunk=trunk, load=again)


def load_model(
    path: str, device: str, precision: Precision, setting: Literal["treedet", "original"] = "treedet"
) -> WindowDetector:
    """Return what finds crowns in windows, as workers need it; see :func:`load`."""
    detector = load(path, device=device, precision=precision)
    return as_original(detector.model, detector.name) if setting == "original" else detector.model
