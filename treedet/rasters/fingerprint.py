"""By what a raster is known again under another name, or from another folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from treedet.rasters.connecting import is_remote

SAMPLED_BYTES = 1 << 20


def fingerprint(path: str | Path) -> str:
    """Return a short digest of a file's size and first MiB.

    Something that is no file, such as a URL, is known by its name.
    """
    file = Path(path)
    if not file.is_file():
        return hashlib.sha256(str(path).encode()).hexdigest()[:16]
    digest = hashlib.sha256(str(file.stat().st_size).encode())
    with file.open("rb") as content:
        digest.update(content.read(SAMPLED_BYTES))
    return digest.hexdigest()[:16]


def known_by(paths: Iterable[str], earlier: Mapping[str, str] | Iterable[str] | None = None) -> dict[str, str]:
    """Return the paths of rasters by their fingerprints; absolute, for a model is used from other folders too.

    Args:
        paths: The rasters.
        earlier: Others that come first: by their fingerprints, or paths.
    """
    before = dict(earlier) if isinstance(earlier, Mapping) else known_by(earlier) if earlier else {}
    return before | {fingerprint(path): path if is_remote(path) else str(Path(path).resolve()) for path in paths}
