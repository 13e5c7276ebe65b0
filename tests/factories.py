"""Small builders that tests share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from rasterio.transform import from_origin

from treedet.core.spec import ModelSpec

UTM = "EPSG:32632"


def tiny_spec(**changes: object) -> ModelSpec:
    """Return a spec of a network small enough to run in milliseconds."""
    values: dict[str, object] = {
        "fpn_channels": 16,
        "head_convs": 1,
        "levels": (3, 4),
        "anchor_sizes_m": ((1.6, 3.2), (6.4, 10.0)),
        "window_px": 256,
        "crown_range_m": (1.0, 5.0),
    }
    return ModelSpec(**{**values, **changes})  # type: ignore[arg-type]


def disks(
    rng: np.random.Generator,
    *,
    width: float,
    height: float,
    count: int,
    radius: tuple[float, float],
    gap: float = 3.0,
) -> npt.NDArray[np.float64]:
    """Return disks ``(x, y, r)`` that lie inside the picture and do not touch, found by rejection."""
    found: list[tuple[float, float, float]] = []
    for _ in range(count * 60):
        if len(found) == count:
            break
        r = rng.uniform(*radius)
        x, y = rng.uniform(r + 2, width - r - 2), rng.uniform(r + 2, height - r - 2)
        if all((x - a) ** 2 + (y - b) ** 2 > (r + c + gap) ** 2 for a, b, c in found):
            found.append((x, y, r))
    return np.array(found, dtype=float).reshape(-1, 3)


def paint(circles: npt.NDArray[np.float64], *, width: int, height: int, value: int = 200) -> npt.NDArray[np.uint8]:
    """Return uint8 ``[3, H, W]`` with disks on black."""
    pixels = np.zeros((3, height, width), np.uint8)
    for x, y, r in circles:
        x0, x1 = max(0, int(x - r) - 1), min(width, int(x + r) + 2)
        y0, y1 = max(0, int(y - r) - 1), min(height, int(y + r) + 2)
        yy, xx = np.mgrid[y0:y1, x0:x1] + 0.5
        pixels[:, y0:y1, x0:x1][:, (xx - x) ** 2 + (yy - y) ** 2 <= r * r] = value
    return pixels


def make_raster(
    path: Path, pixels: npt.NDArray[np.generic], *, gsd: float = 0.1, crs: str | None = UTM, **profile: object
) -> Path:
    """Write pixels ``[C, H, W]`` as a GeoTIFF with its corner at (500000, 5400000)."""
    count, height, width = pixels.shape
    where = {"transform": from_origin(500_000, 5_400_000, gsd, gsd), "crs": crs} if crs else {}
    settings = {"driver": "GTiff", "width": width, "height": height, "count": count, "dtype": pixels.dtype.name}
    with rasterio.open(path, "w", **{**settings, **where, **profile}) as dataset:
        dataset.write(pixels)
    return path


def cut_up(
    folder: Path,
    pixels: npt.NDArray[np.generic],
    *,
    columns: tuple[int, ...],
    rows: tuple[int, ...],
    gsd: float = 0.1,
    margin: int = 0,
    transform: Affine | None = None,
    **profile: object,
) -> dict[str, tuple[int, int, int, int]]:
    """Write a picture as a grid of files, and return the pixels ``(left, top, right, bottom)`` of each by its path.

    ``columns`` and ``rows`` are where files begin, with the end of the last one; ``margin`` pixels are added to each
    side, so that neighbours overlap.
    """
    _, height, width = pixels.shape
    whole = transform or from_origin(500_000, 5_400_000, gsd, gsd)
    folder.mkdir(parents=True, exist_ok=True)
    places = {}
    for i, (top, bottom) in enumerate(pairwise(rows)):
        for j, (left, right) in enumerate(pairwise(columns)):
            x0, x1 = max(0, left - margin), min(width, right + margin)
            y0, y1 = max(0, top - margin), min(height, bottom + margin)
            path = folder / f"{i}_{j}.tif"
            corner = whole @ Affine.translation(x0, y0)
            make_raster(path, pixels[:, y0:y1, x0:x1], **{"gsd": gsd, "transform": corner, **profile})
            places[str(path)] = (x0, y0, x1, y1)
    return places


def write_vrt(
    path: Path, files: Sequence[str | Path], *, change: Callable[[str], str] = str, nodata: str = ""
) -> Path:
    """Write a mosaic of files as ``gdalbuildvrt`` does; ``change`` rewrites each source of a band."""
    opened = []
    for file in files:
        with rasterio.open(file) as dataset:
            opened.append((str(file), dataset.profile, dataset.colorinterp, dataset.bounds))
    _, first, colours, _ = opened[0]
    step = first["transform"].a
    west, north = min(b.left for *_, b in opened), max(b.top for *_, b in opened)
    width = round((max(b.right for *_, b in opened) - west) / step)
    height = round((north - min(b.bottom for *_, b in opened)) / step)
    bands = []
    for band, colour in enumerate(colours, start=1):
        sources = ""
        for file, profile, _, bounds in opened:
            size = f'xSize="{profile["width"]}" ySize="{profile["height"]}"'
            place = f'xOff="{(bounds.left - west) / step:.10g}" yOff="{(north - bounds.top) / step:.10g}"'
            raster = f'RasterXSize="{profile["width"]}" RasterYSize="{profile["height"]}"'
            sources += change(
                f'<SimpleSource><SourceFilename relativeToVRT="1">{os.path.relpath(file, path.parent)}'
                f"</SourceFilename><SourceBand>{band}</SourceBand>"
                f'<SourceProperties {raster} DataType="Byte" BlockXSize="{profile["width"]}" BlockYSize="1" />'
                f'<SrcRect xOff="0" yOff="0" {size} /><DstRect {place} {size} /></SimpleSource>'
            )
        bands.append(
            f'<VRTRasterBand dataType="Byte" band="{band}">{nodata}<ColorInterp>{colour.name.capitalize()}'
            f"</ColorInterp>{sources}</VRTRasterBand>"
        )
    place = f"{west!r}, {step!r}, 0, {north!r}, 0, {-step!r}"
    path.write_text(
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><SRS>{first["crs"].to_wkt()}</SRS>'
        f"<GeoTransform>{place}</GeoTransform>{''.join(bands)}</VRTDataset>"
    )
    return path
