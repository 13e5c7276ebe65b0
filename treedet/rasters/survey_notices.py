"""What a user should know about many files that are read together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from treedet.core.grid import Grid
from treedet.errors import RasterError
from treedet.rasters.connecting import environment
from treedet.rasters.decoding import Handle
from treedet.rasters.lattice import Cluster, meeting, same_crs
from treedet.rasters.opening import Opening
from treedet.rasters.raster import CACHE_MB

LOOKED_AT = 16
"""Overlaps whose pixels are compared."""
PATCH_PX = 64
SHOWN = 4


def notices(looked: Sequence[Opening], found: Sequence[Cluster]) -> Iterator[str]:
    """Yield a line for all that is out of the ordinary: several CRSs or resolutions, overlaps, other pixel grids.

    Args:
        looked: The files.
        found: Which of them are one piece of ground.
    """
    if len(looked) < 2:
        return
    kinds = Counter(_kind(opening) for opening in looked)
    if len(kinds) > 1:
        named = ", ".join(f"{count} at {kind}" for kind, count in kinds.most_common(SHOWN))
        more = f" and {len(kinds) - SHOWN} other kinds" if len(kinds) > SHOWN else ""
        yield f"rasters of different CRS or GSD are worked off one after the other: {named}{more}"
    yield f"{len(looked)} rasters are {len(found)} {'piece' if len(found) == 1 else 'pieces'} of ground"
    yield from _apart(looked, found)
    yield from _overlaps(looked, found)


def _kind(opening: Opening) -> str:
    crs = "no CRS" if opening.source_crs is None else repr(opening.source_crs.name)
    return f"{opening.native_grid.gsd:.3g} m in {crs}"


def _apart(looked: Sequence[Opening], found: Sequence[Cluster]) -> Iterator[str]:
    """Tell of files that overlap or touch on the map but not on one pixel grid."""
    piece = np.empty(len(looked), np.int64)
    for number, cluster in enumerate(found):
        piece[cluster.files] = number
    systems = same_crs([opening.source_crs for opening in looked])
    affected: set[int] = set()
    for number in np.unique(systems[systems >= 0]):
        files = np.flatnonzero(systems == number)
        bounds = np.array([_map_bounds(looked[i].native_grid) for i in files.tolist()])
        i, j = meeting(bounds[:, :2], bounds[:, 2:])
        apart = piece[files[i]] != piece[files[j]]
        affected |= {*files[i[apart]].tolist(), *files[j[apart]].tolist()}
    if affected:
        yield (
            f"{len(affected)} rasters, such as {looked[min(affected)].source.path}, touch others on another pixel "
            "grid, so crowns may be there twice or be cut where they meet; resample them to one grid to avoid that"
        )


def _map_bounds(grid: Grid) -> tuple[float, float, float, float]:
    corners = ((0, 0), (grid.width, 0), (0, grid.height), (grid.width, grid.height))
    x, y = zip(*(grid.transform @ corner for corner in corners), strict=True)
    return min(x), min(y), max(x), max(y)


def _overlaps(looked: Sequence[Opening], found: Sequence[Cluster]) -> Iterator[str]:
    pairs = [pair for cluster in found for pair in _shared(looked, cluster)]
    if not pairs:
        return
    chosen = np.unique(np.linspace(0, len(pairs) - 1, min(LOOKED_AT, len(pairs))).astype(int)).tolist()
    with environment(CACHE_MB):
        differ = [pairs[i] for i in chosen if _differs(looked, *pairs[i])]
    if differ:
        first, second, _ = differ[0]
        yield (
            f"{len(pairs)} pairs of rasters overlap, {len(differ)} of {len(chosen)} looked at with different "
            f"content, such as {looked[first].source.path} and {looked[second].source.path}; the first by name is "
            "read there"
        )
    else:
        yield f"{len(pairs)} pairs of rasters overlap; the first by name is read there"


Share = tuple[int, int, npt.NDArray[np.int64]]


def _shared(looked: Sequence[Opening], cluster: Cluster) -> list[Share]:
    """Return the overlapping pairs of files of one ground, with what they share: its corners and theirs."""
    if len(cluster.files) == 1:
        return []
    sizes = np.array([(looked[i].native_grid.height, looked[i].native_grid.width) for i in cluster.files], np.int64)
    i, j = meeting(cluster.corners, cluster.corners + sizes)
    low = np.maximum(cluster.corners[i], cluster.corners[j])
    high = np.minimum(cluster.corners[i] + sizes[i], cluster.corners[j] + sizes[j])
    real = np.flatnonzero((low < high).all(axis=1))
    return [
        (
            int(cluster.files[i[k]]),
            int(cluster.files[j[k]]),
            np.concatenate([low[k], high[k], cluster.corners[i[k]], cluster.corners[j[k]]]),
        )
        for k in real
    ]


def _differs(looked: Sequence[Opening], first: int, second: int, shared: npt.NDArray[np.int64]) -> bool:
    """Tell whether two files show different pixels in the middle of what they share."""
    low, high, corner_a, corner_b = shared.reshape(4, 2)
    side = np.minimum(high - low, PATCH_PX)
    start = (low + high - side) // 2
    try:
        a = _patch(looked[first], start - corner_a, side)
        b = _patch(looked[second], start - corner_b, side)
    except RasterError:
        return False  # told when its pixels are wanted
    both = a[1] & b[1]
    return bool((a[0] != b[0])[:, both].any())


def _patch(
    opening: Opening, start: npt.NDArray[np.int64], side: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    handle = Handle(opening.native_source)
    try:
        pixels, mask = handle.read(int(start[0]), int(start[1]), int(side[0]), int(side[1]))
    finally:
        handle.close()
    return pixels, np.ones(pixels.shape[1:], np.bool_) if mask is None else mask
