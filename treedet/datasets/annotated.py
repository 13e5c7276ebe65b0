"""A raster and the crowns somebody drew on it: what training and evaluation start from."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj
import shapely
from shapely.geometry.base import BaseGeometry

from treedet.core.grid import Grid
from treedet.datasets.annotation_set import AnnotationSet
from treedet.datasets.notices import each_once
from treedet.datasets.outside import say_outside
from treedet.datasets.pairing import files_by_stem, match_images, named_rasters, say_left_out, some
from treedet.datasets.tables import annotations_of
from treedet.errors import CrownsError, CrsMismatchError
from treedet.rasters.listing import list_rasters
from treedet.rasters.raster import Raster
from treedet.vectors.annotations import read_polygons
from treedet.vectors.truth import Annotations, TruthOptions, on_raster, read_annotations

log = logging.getLogger("treedet")


class AnnotatedRaster:
    """A raster, its crowns and the area where all crowns are annotated; holds no pixels and no open file.

    Attributes:
        path: The raster as given.
        grid: The metric grid pixels are read on: the raster's own, unless it is warped.
        crs: CRS of the raster, or None.
        crowns: Crowns table (:mod:`treedet.core.crowns`) in the raster's CRS; the index is the row in the file.
        boxes: Float64 ``[N, 4]``: bounds of the crowns in pixels of ``grid``; of points ``(x, y, x, y)``.
        labels: Object ``[N]``: class name of each crown.
        points: The crowns are points without a size (stems, street trees), good for evaluation only.
        aoi: Where annotation is complete, in pixels of ``grid``; None for everywhere.
        ignored: Float64 ``[M, 4]``, pixels of ``grid``: boxes that are neither crown nor background.
        image: What a file of pixel boxes calls the raster; None for formats on the map.
        origin: The set it is trained on with; None where there are no sets.
    """

    path: str
    grid: Grid
    crs: pyproj.CRS | None
    crowns: gpd.GeoDataFrame
    boxes: npt.NDArray[np.float64]
    labels: npt.NDArray[np.object_]
    points: bool
    aoi: BaseGeometry | None
    ignored: npt.NDArray[np.float64]
    image: str | None
    origin: AnnotationSet | None = None

    def __init__(
        self,
        raster: str | os.PathLike[str],
        crowns: str | os.PathLike[str] | gpd.GeoDataFrame | Annotations,
        *,
        aoi: str | os.PathLike[str] | None = None,
        columns: Mapping[str, str] | None = None,
        gsd: float | None = None,
        bands: Sequence[int] | None = None,
        stretch: tuple[float, float] | None = None,
        truth: TruthOptions | None = None,
        image: str | None = None,
    ) -> None:
        """Open the raster, read its crowns and close it again.

        Args:
            raster: Any raster GDAL reads.
            crowns: A file of crowns, a table, or annotations that were read before. Of the last, which may cover
                other rasters too, none need lie on this one.
            aoi: Vector file with the polygons inside which every crown is annotated.
            columns: Which of the file's columns hold ``label`` or an attribute; goes before ``truth.columns``.
            gsd: Ground metres per pixel of the raster, overriding what the file says.
            bands: Bands to read, counted from 1; by default red, green and blue.
            stretch: Values that become 0 and 255.
            truth: How the crowns are read.
            image: What a file of pixel boxes calls this raster; by default found by its path.

        Raises:
            RasterError: The raster can not be used.
            CrownsError: The crowns or the AOI can not be used; a :class:`CrsMismatchError` where they do not lie on
                the raster.
        """
        self.path = os.fspath(raster)
        options = truth or TruthOptions()
        options = replace(options, columns={**options.columns, **(columns or {})})
        with Raster.open(self.path, gsd=gsd, bands=bands, stretch=stretch) as opened:
            # Kept closed: a clone opens files of its own, without deciding on bands and stretch again.
            self._raster = opened
            self.grid = opened.grid
            self.crs = opened.source_crs
            annotations = crowns if isinstance(crowns, Annotations) else _read(crowns, options)
            if annotations.in_pixels and image is None:
                image = _image_of(annotations, self.path)
            native = _truth_grid(opened, gsd)
            self.crowns = _centred_on(native, on_raster(annotations, native, image=image))
            self.image = image
            self.points = annotations.points
            if not isinstance(crowns, Annotations):
                say_outside(annotations, [self], drop=options.drop)
            shapes = opened.to_grid(self.crowns.geometry.to_numpy())
            self.boxes = np.asarray(shapely.bounds(shapes), dtype=np.float64).reshape(-1, 4)
            self.labels = self.crowns["label"].to_numpy(dtype=object)
            self.aoi = None
            if aoi is not None:
                polygons = read_polygons(os.fspath(aoi), crs=self.crs)
                self.aoi = opened.area_on_grid(polygons, name=f"the AOI {aoi}")
        self.ignored = np.zeros((0, 4))

    def open(self) -> Raster:
        """Return the raster, open for reading with the same GSD, bands and stretch."""
        return self._raster.clone()

    def with_ignored(self, boxes: npt.ArrayLike) -> AnnotatedRaster:
        """Return the same plot with other boxes that are neither crown nor background.

        Args:
            boxes: ``[M, 4]`` in pixels of ``grid``.
        """
        other = copy.copy(self)
        other.ignored = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        return other

    def of(self, origin: AnnotationSet) -> AnnotatedRaster:
        """Return the same plot as one of a set."""
        other = copy.copy(self)
        other.origin = origin
        return other

    def renamed(self, names: Mapping[str, str]) -> AnnotatedRaster:
        """Return the same plot with other names of its crowns' classes.

        Args:
            names: New name by old one; a class that is not in it keeps its name.
        """
        if not any(names.get(str(name), str(name)) != str(name) for name in set(self.labels)):
            return self
        other = copy.copy(self)
        other.labels = np.array([names.get(str(name), str(name)) for name in self.labels], dtype=object)
        other.crowns = self.crowns.assign(label=pd.Categorical(other.labels))
        return other

    @cached_property
    def hectares(self) -> float:
        """Annotated ground in hectares: the AOI, else what of the raster is not nodata (estimated from a sample)."""
        if self.aoi is not None:
            return float(shapely.area(self.aoi)) * self.grid.gsd_x * self.grid.gsd_y / 1e4
        with self.open() as raster:
            return self.grid.hectares * raster.valid_share()

    @property
    def diameters_m(self) -> npt.NDArray[np.float64]:
        """Diameter of each crown in metres, float64 ``[N]``."""
        return np.asarray(self.crowns["diameter_m"].to_numpy(dtype=np.float64))

    def __len__(self) -> int:
        return len(self.crowns)

    def __repr__(self) -> str:
        return f"AnnotatedRaster({self.path!r}, {len(self)} crowns, {self.grid.gsd:.3g} m per pixel)"


def pair(
    rasters: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    crowns: str | os.PathLike[str],
    *,
    aoi: str | os.PathLike[str] | None = None,
    gsd: float | None = None,
    bands: Sequence[int] | None = None,
    truth: TruthOptions | None = None,
) -> list[AnnotatedRaster]:
    """Bring rasters and annotations together.

    - *A map format* (Shapefile, GeoPackage, ...): a crown belongs to every raster that shows the centre of its box. A
      raster without crowns is kept, as ground without crowns.
    - *A pixel format that names images* (CSV, COCO, ...): see :func:`treedet.datasets.pairing.match_images`. A raster
      that is not named was not annotated and is left out. An image that is not among the rasters is left out too,
      unless a folder of rasters was given and the image is not beside the annotation file either: then it is missing.
    - *A folder with one file of crowns per raster*, of the raster's stem. A raster without a file is left out.

    Rasters that do not overlap the AOI, or share no CRS with the crowns, are left out as long as others remain.
    All that is left out is said.

    Args:
        rasters: See :func:`treedet.rasters.listing.list_rasters`.
        crowns: File or folder of annotations.
        aoi: Vector file with the polygons inside which every crown is annotated, for all rasters.
        gsd: Ground metres per pixel of the rasters, overriding what the files say.
        bands: Bands to read, counted from 1.
        truth: How the crowns are read.

    Raises:
        RasterError: A raster can not be used.
        CrownsError: The annotations can not be used, or a name in them fits no raster or several.
        CrsMismatchError: No crown lies on any raster.
        DegenerateCrownError: Boxes in pixels lie outside the raster they name.
    """
    paths = list_rasters(rasters)
    whole_folder = isinstance(rasters, str | os.PathLike) and Path(rasters).is_dir()
    options = truth or TruthOptions()
    jobs = _jobs(paths, crowns, options, whole_folder=whole_folder)
    plots: dict[str, AnnotatedRaster] = {}
    failures: list[CrsMismatchError] = []
    with each_once():  # what holds for the file of crowns, or for the AOI, is not said again for each raster
        for job in jobs:
            try:
                plots[job.path] = AnnotatedRaster(
                    job.path, job.annotations, aoi=aoi, gsd=gsd, bands=bands, image=job.image
                )
            except CrsMismatchError as error:
                failures.append(error)
    if not plots:
        raise failures[0]
    for failure in failures:
        log.info("left out: %s", failure)
    # Of one file for all rasters some may show no crown, but not all.
    for annotated in {id(job.annotations): job.annotations for job in jobs}.values():
        shown = [plots[job.path] for job in jobs if job.annotations is annotated and job.path in plots]
        say_outside(annotated, shown, drop=options.drop)
    if empty := [path for path, plot in plots.items() if not len(plot)]:
        log.info("%d rasters are without crowns and kept as such, ground without trees: %s", len(empty), some(empty))
    return list(plots.values())


@dataclass(frozen=True, eq=False)
class _Job:
    """A raster, the annotations that may cover it, and its name in them if they are in pixels."""

    path: str
    annotations: Annotations
    image: str | None = None


def _jobs(
    paths: Sequence[str], crowns: str | os.PathLike[str], options: TruthOptions, *, whole_folder: bool
) -> list[_Job]:
    place = Path(crowns)
    if place.is_dir() and (files := files_by_stem(place, paths)):
        say_left_out([path for path in paths if path not in files], f"without a file of that name in {place}")
        return [_Job(path, read_annotations(file, options)) for path, file in files.items()]
    annotations = read_annotations(place, options)
    if not annotations.in_pixels:
        return [_Job(path, annotations) for path in paths]
    named = named_rasters(annotations, paths, whole_folder=whole_folder)
    return [_Job(path, annotations, image) for path, image in named.items()]


def _read(crowns: str | os.PathLike[str] | gpd.GeoDataFrame, options: TruthOptions) -> Annotations:
    if isinstance(crowns, gpd.GeoDataFrame):
        return annotations_of(crowns, options)
    return read_annotations(os.fspath(crowns), options)


def _truth_grid(raster: Raster, gsd: float | None) -> Grid:
    """Return the grid of the file's own pixels, with the ground scale that holds for the raster."""
    native = raster.native_grid
    if gsd is None:
        return native
    return Grid.build(native.crs, native.transform, width=native.width, height=native.height, gsd=gsd)


def _centred_on(grid: Grid, crowns: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Leave out crowns whose box has its centre outside the grid; pixel formats may state any."""
    boxes = grid.to_pixels(crowns.geometry.to_numpy())
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    return crowns[((centre >= 0) & (centre <= [grid.width, grid.height])).all(axis=1)]


def _image_of(annotations: Annotations, path: str) -> str:
    """Return what a pixel format calls a raster."""
    found = match_images(annotations.images, annotations.path, [path])
    if path not in found:
        raise CrownsError(
            f"{annotations.path} names no image that is {path}; it has {some(annotations.images)}; give the raster "
            "it was drawn on, or correct the names in it"
        )
    return found[path]
