"""The facade: load a model, predict crowns, save the model. It only forwards."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely

from treedet.core.crowns import with_attributes
from treedet.core.labels import LabelSchema
from treedet.core.spec import ModelSpec
from treedet.errors import ConfigError
from treedet.inference.campaign_run import Run
from treedet.inference.campaign_summary import CampaignSummary
from treedet.inference.cautions import warn_cut, warn_dead
from treedet.inference.describe import describe_boxes
from treedet.inference.folder import Rasters, predict_many
from treedet.inference.memory import run_in_memory
from treedet.inference.options import PredictOptions
from treedet.inference.output import Filters, widest_cut_m
from treedet.inference.run_options import RUN_OPTIONS, RunOptions
from treedet.inference.setup import prepare
from treedet.inference.summary import Summary
from treedet.inference.tally import ClassTally
from treedet.inference.to_file import predict_to_file
from treedet.inference.watching import Observer, Watch
from treedet.inference.zone_options import ZoneOptions
from treedet.models import model_file
from treedet.models.backends.eager import EagerBackend
from treedet.models.base import WindowDetector
from treedet.models.build import build, weights_of
from treedet.models.network import NetworkDetector
from treedet.models.original import as_original
from treedet.models.transfer import transfer
from treedet.models.trunk import Trunk
from treedet.rasters.raster import Raster
from treedet.vectors.crs import bring_to

log = logging.getLogger("treedet")


class Detector:
    """Finds the crowns of rasters with a model.

    Args:
        model: Finds crowns in windows.
        name: The model's name, for summaries.
        trunk: The network's weights; None where the model has none.
        load: Returns the same model in another process; by default a model without weights is sent as it is.
    """

    def __init__(
        self,
        model: WindowDetector,
        *,
        name: str = "model",
        trunk: Trunk | None = None,
        load: Callable[..., WindowDetector] | None = None,
    ) -> None:
        self.model = model
        self.name = name
        self.trunk = trunk
        self._load = load

    @property
    def spec(self) -> ModelSpec:
        """What the model is and how it is to be used."""
        return self.model.spec

    def predict(
        self,
        raster: str | Path,
        options: PredictOptions | None = None,
        *,
        watch: Watch | None = None,
        **changes: Any,  # noqa: ANN401 - the fields of PredictOptions, checked there
    ) -> gpd.GeoDataFrame:
        """Return the crowns of a raster as a table in the raster's CRS.

        Args:
            raster: Anything GDAL reads as a raster.
            options: What to look for.
            watch: Called after each batch of windows.
            changes: Options by name, such as ``gsd=0.1``.

        Raises:
            TreedetError: The raster, the AOI or an option can not be used; see :mod:`treedet.errors`.
        """
        options = (options or PredictOptions()).but(changes)
        filters = Filters(options, self.spec)
        model = self._model_for(options)
        with prepare(str(raster), model, options) as setup:
            found = run_in_memory(setup, model, watch=watch)
            kept, table = filters.table(found, setup, first_id=1)
            if widest_cut_m(kept, setup.job.plan):
                warn_cut(setup.overlap_m)
            tally = ClassTally(self.spec.labels, setup.job.plan.grid, min_p=options.min_p)
            tally.add(found)
            warn_dead(tally.cautions)
        return table

    def predict_to_file(
        self,
        raster: str | Path,
        output: str | Path,
        options: PredictOptions | None = None,
        *,
        resume: bool = False,
        overwrite: bool = False,
        zoning: ZoneOptions | None = None,
        watch: Watch | None = None,
        observer: Observer | None = None,
        **changes: Any,  # noqa: ANN401 - the fields of PredictOptions, checked there
    ) -> Summary:
        """Find the crowns of a raster of any size in constant memory, and write them to a file.

        Args:
            raster: Anything GDAL reads as a raster.
            output: File to write; its suffix names the format.
            options: What to look for.
            resume: Go on with an interrupted run.
            overwrite: Replace an existing output.
            zoning: Polygons or cells to count crowns by, in a second table beside the output (``OUTPUT-zones``).
            watch: Called after each batch of windows.
            observer: Sees the raster and the crowns, to draw them for example.
            changes: Options by name, such as ``gsd=0.1``.

        Raises:
            TreedetError: An input or option can not be used, or the output can not be written.
        """
        options = (options or PredictOptions()).but(changes)
        how = RunOptions(resume=resume, overwrite=overwrite)
        run = Run(self._model_for(options), self.name, str(raster), Path(output), options, how, zoning=zoning)
        return predict_to_file(run, watch=watch, observer=observer)

    def predict_many(
        self,
        rasters: Rasters,
        output: str | Path,
        options: PredictOptions | None = None,
        *,
        how: RunOptions | None = None,
        zoning: ZoneOptions | None = None,
        watch: Watch | None = None,
        observer: Observer | None = None,
        **changes: Any,  # noqa: ANN401 - the fields of PredictOptions and RunOptions, checked there
    ) -> CampaignSummary:
        """Find the crowns of many rasters as one run; those that abut or overlap on one pixel grid are one raster.

        Args:
            rasters: A folder, a glob, a ``.txt`` list of paths, or a sequence of any of these.
            output: File to write; with ``per_raster`` a folder.
            options: What to look for.
            how: How the run goes.
            zoning: Polygons or cells to count crowns by, in a second table beside the output (``OUTPUT-zones``).
            watch: Called after each batch of windows.
            observer: Sees the ground and the crowns, to draw them for example.
            changes: Options of both kinds by name, such as ``gsd=0.1`` or ``per_raster=True``.

        Returns:
            What was found; its ``failures`` name the rasters that could not be read.

        Raises:
            TreedetError: An option can not be used, no raster can be read, or the output can not be written.
        """
        own = {name: changes.pop(name) for name in [*changes] if name in RUN_OPTIONS}
        options = (options or PredictOptions()).but(changes)
        source = str(rasters) if isinstance(rasters, str | Path) else f"{len(rasters)} paths"
        how = replace(how or RunOptions(), **own)
        run = Run(
            self._model_for(options),
            self.name,
            source,
            Path(output),
            options,
            how,
            zoning=zoning,
            load=self._elsewhere(options),
        )
        summary = predict_many(run, rasters, watch=watch, observer=observer)
        if summary.cure_m:
            warn_cut(summary.overlap_m)
        warn_dead(summary.cautions)
        return summary

    def describe(
        self,
        raster: str | Path,
        crowns: gpd.GeoDataFrame,
        options: PredictOptions | None = None,
        **changes: Any,  # noqa: ANN401 - the fields of PredictOptions, checked there
    ) -> gpd.GeoDataFrame:
        """Return crowns that are given, such as drawn ones, with what the model says about each.

        Args:
            raster: The raster they lie on.
            crowns: Any table of polygons in a CRS that leads to the raster's; boxes around them are looked at.
            options: How the raster is read (``gsd``, ``bands``, ``stretch``), and ``min_p``.
            changes: Options by name.

        Returns:
            The table with columns ``x`` and ``x_p`` for each attribute of the model; those it had are replaced.

        Raises:
            ConfigError: The model has no attributes.
            TreedetError: The raster or the crowns can not be used.
        """
        options = (options or PredictOptions()).but(changes)
        if not isinstance(self.model, NetworkDetector) or not self.spec.labels.attributes:
            raise ConfigError(
                f"{self.name} says nothing about crowns besides their class; train attributes first (treedet train)"
            )
        with Raster.open(str(raster), gsd=options.gsd, bands=options.bands, stretch=options.stretch) as opened:
            shapes = np.asarray(crowns.geometry.to_numpy(), dtype=object)
            if opened.source_crs is not None and crowns.crs is not None:
                shapes = bring_to(shapes, crowns.crs, opened.source_crs, where="the table of crowns")
            boxes = np.asarray(shapely.bounds(opened.to_grid(shapes)), np.float64).reshape(-1, 4)
            values = describe_boxes(opened, self.model, boxes)
        return with_attributes(crowns, values, self.spec.labels, min_p=options.min_p)

    def with_labels(self, labels: LabelSchema, *, comes_from: Mapping[str, str] | None = None) -> Detector:
        """Return a detector with other classes and attributes, to be trained: what is known moves by name.

        Args:
            labels: Classes and attributes wanted.
            comes_from: Class of this model that a new class starts as a copy of.

        Raises:
            ConfigError: The model has no weights, or ``comes_from`` names a class that is not there.
        """
        if self.trunk is None:
            raise ConfigError("this detector has no weights to go on from; only a network does")
        kept = {name: facts for name, facts in self.spec.heads.items() if name in labels.attributes}
        spec = replace(self.spec, labels=labels, heads=kept)
        tensors, report = transfer(weights_of(self.trunk), self.spec, spec, comes_from=comes_from)
        for line in report.lines():
            log.info("%s", line)
        trunk = build(spec, tensors)
        return Detector(
            NetworkDetector(EagerBackend(trunk, precision=spec.precision), spec), name=self.name, trunk=trunk
        )

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the model to a file that :func:`load` reads.

        Raises:
            OutputError: The file exists or can not be written.
            ConfigError: The model has no weights.
        """
        if self.trunk is None:
            raise ConfigError("this detector has no weights to save; only a network does")
        model_file.save(path, self.spec, weights_of(self.trunk), overwrite=overwrite)

    def _elsewhere(self, options: PredictOptions) -> Callable[[], WindowDetector] | None:
        """Return what gives the model in another process; None for weights that no file holds."""
        if self._load is not None:
            return partial(self._load, setting=options.setting)
        return partial(_given, self.model) if self.trunk is None else None

    def _model_for(self, options: PredictOptions) -> WindowDetector:
        return as_original(self.model, self.name) if options.setting == "original" else self.model


def _given(model: WindowDetector) -> WindowDetector:
    return model
