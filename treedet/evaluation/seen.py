"""Whether a model has met a raster before: thresholds chosen on a test set would make its scores too good."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from treedet.core.spec import ModelSpec

SAMPLED_BYTES = 1 << 20
USES: Mapping[str, str] = {
    "rasters": "train",
    "validation rasters": "choose the epoch or the thresholds of",
    "calibration rasters": "calibrate",
}
"""Lists of rasters in a model's provenance, and what was done with them."""


def fingerprint(path: str | Path) -> str:
    """Return a short digest of a file's size and first MiB, by which it is known under another name too.

    Something that is no file, such as a URL, is known by its name.
    """
    file = Path(path)
    if not file.is_file():
        return hashlib.sha256(str(path).encode()).hexdigest()[:16]
    digest = hashlib.sha256(str(file.stat().st_size).encode())
    with file.open("rb") as content:
        digest.update(content.read(SAMPLED_BYTES))
    return digest.hexdigest()[:16]


def seen_before(spec: ModelSpec, paths: Sequence[str]) -> dict[str, list[str]]:
    """Return the rasters a model's provenance names, by what was done with them.

    Args:
        spec: The model's spec.
        paths: Rasters, as given.

    Returns:
        For each use that occurred, the paths concerned.
    """
    found: dict[str, list[str]] = {}
    for key, use in USES.items():
        named = spec.provenance.get(key)
        if not named:
            continue
        if isinstance(named, Mapping):  # calibration keeps fingerprints, with names for people
            met = [path for path in paths if fingerprint(path) in named]
        else:
            places = {str(Path(name).resolve()) for name in named}
            met = [path for path in paths if str(Path(path).resolve()) in places]
        if met:
            found[use] = met
    return found
