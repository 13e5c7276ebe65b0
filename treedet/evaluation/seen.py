"""Whether a model has met a raster before: thresholds chosen on a test set would make its scores too good."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from treedet.core.spec import ModelSpec
from treedet.rasters.fingerprint import fingerprint

USES: Mapping[str, str] = {
    "rasters": "train",
    "validation rasters": "choose the epoch or the thresholds of",
    "calibration rasters": "calibrate",
}
"""Lists of rasters in a model's provenance, and what was done with them."""


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
        if isinstance(named, Mapping):  # fingerprints, with paths
            places = set(named.values())
            met = [path for path in paths if fingerprint(path) in named or str(Path(path).resolve()) in places]
        else:
            places = {str(Path(name).resolve()) for name in named}
            met = [path for path in paths if str(Path(path).resolve()) in places]
        if met:
            found[use] = met
    return found
