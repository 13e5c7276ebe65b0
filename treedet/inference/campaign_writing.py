"""The outputs of a run over many rasters: checked before it, written after it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from treedet.core.palette import coloured_by
from treedet.inference.campaign import Campaign, Ground, one_crs
from treedet.inference.campaign_folder import CampaignFolder
from treedet.inference.campaign_output import OneTable, PerRaster, check_targets, paths_per_raster
from treedet.inference.campaign_run import Run
from treedet.inference.campaign_summary import CampaignSummary, failures_path, write_failures
from treedet.inference.exclusion import Exclusion
from treedet.inference.gather import Totals, gather
from treedet.inference.output import CURE, Filters
from treedet.inference.setup import followed
from treedet.inference.watching import Observer, View, footprint
from treedet.inference.zone_grounds import check_zones_of_many, counted_by_zones, zones_on_grounds
from treedet.inference.zone_run import ZoneRun
from treedet.rasters.raster import Raster
from treedet.vectors.crowns_writer import WriteOptions, check_names
from treedet.vectors.writers import check_target, open_writer


def check_output(run: Run, *, replacing: bool) -> Filters:
    """Refuse what can not be written before any raster is opened, and return which crowns are kept.

    Args:
        run: The run.
        replacing: Whether existing outputs are replaced.

    Raises:
        OutputError: The output, or the table of zones, can not be written.
        ConfigError: A condition on crowns makes no sense.
    """
    check_zones_of_many(run.zoning, run.output, per_raster=run.how.per_raster, overwrite=replacing)
    labels = run.model.spec.labels
    if run.how.per_raster:
        check_targets({}, run.output, overwrite=replacing, schema=labels)
    else:
        check_target(run.output, overwrite=replacing, schema=labels, partition=run.options.partition)
    filters = Filters(run.options, run.model.spec)
    check_names(filters.probabilities, run.output)
    return filters


def excluded(run: Run, campaign: Campaign) -> Exclusion:
    """Return the polygons that crowns are dropped in, read before any work.

    Raises:
        CrownsError: The file can not be used.
    """
    exclusion = Exclusion(run.options.exclude)
    for ground in campaign.grounds[:1]:
        raster = Raster(ground.opening)
        exclusion.on(raster, raster.grid)
    return exclusion


class Writing:
    """Gathers a run into its outputs.

    Args:
        run: The run.
        campaign: What is worked off.
        filters: Which crowns are kept.
        replacing: Whether existing outputs are replaced.

    Raises:
        OutputError: A raster's file can not be written.
        ConfigError: The crowns do not go into one file, or zones not on the map.
        CrownsError: The zones can not be used.
    """

    def __init__(self, run: Run, campaign: Campaign, filters: Filters, *, replacing: bool) -> None:
        self._run, self._campaign, self._filters = run, campaign, filters
        self._rasters = [Raster(ground.opening) for ground in campaign.grounds]
        labels = run.model.spec.labels
        self._options = WriteOptions(
            overwrite=replacing,
            shape=run.options.shape,
            colour_by=coloured_by(labels.attributes, run.options.colour_by),
            partition=None if run.how.per_raster else run.options.partition,
        )
        self._paths: dict[str, Path] = {}
        self._crs = campaign.crs
        if run.how.per_raster:
            self._paths = paths_per_raster(run.output, [path for r in self._rasters for path in r.members.paths])
            check_targets(self._paths, run.output, overwrite=replacing, schema=labels)
        else:
            self._crs = one_crs(campaign)
        self._replacing, self._zones = replacing, zones_on_grounds(run.zoning, campaign)
        self._exclusion = excluded(run, campaign)

    def begin(self, observer: Observer | None) -> None:
        """Show the ground to an observer."""
        if observer is None:
            return
        grounds = self._campaign.grounds

        def view(number: int) -> View:
            raster = Raster(grounds[number].opening)
            return View(raster, grounds[number].area or footprint(raster, raster.grid))

        observer.begin_many(np.array([_square_metres(ground) for ground in grounds]), view)

    def write(self, folder: CampaignFolder, observer: Observer | None) -> CampaignSummary:
        """Gather finished units, write the crowns and what could not be read, and return the summary."""
        with counted_by_zones(self._zones, self._run, overwrite=self._replacing) as zones:
            summary = self._write_crowns(folder, observer, zones)
            if zones is not None:
                summary = replace(summary, zones=zones.write())
        write_failures(Path(summary.listed), summary.failures)
        return summary

    def _write_crowns(
        self, folder: CampaignFolder, observer: Observer | None, zones: ZoneRun | None
    ) -> CampaignSummary:
        started, run = time.perf_counter(), self._run
        totals = Totals(
            run.model,
            min_p=run.options.min_p,
            grounds=len(self._campaign.grounds),
            zones=zones,
            crs=self._campaign.crs,
        )
        troubles = dict(self._campaign.failures)
        common: dict[str, Any] = {
            "filters": self._filters,
            "labels": run.model.spec.labels,
            "totals": totals,
            "observer": observer,
        }
        if run.how.per_raster:
            files = PerRaster(self._paths, options=self._options, metadata=self._about, **common)
            gather(self._campaign, folder, run.model, files, exclusion=self._exclusion, troubles=troubles)
            return self._summary(totals, troubles, time.perf_counter() - started)
        labels = run.model.spec.labels
        sizes: dict[str, tuple[int, int]] = {}
        for raster in self._rasters:
            sizes |= raster.members.sizes
        with open_writer(
            run.output, schema=labels, crs=self._crs, raster_size=sizes, options=self._options
        ) as writer:
            table = OneTable(writer, crs=self._crs, **common)
            gather(self._campaign, folder, run.model, table, exclusion=self._exclusion, troubles=troubles)
            summary = self._summary(totals, troubles, time.perf_counter() - started)
            writer.finish(summary.to_dict())
        return summary

    def _about(self, source: str) -> dict[str, Any]:
        """Return what is stored in the file of one raster."""
        settings = self._campaign.settings
        kept = {name: settings[name] for name in ("model", "device", "precision", "score threshold", "version")}
        return {"source": source, "rasters": self._run.source, **kept, "filters": self._filters.text}

    def _summary(self, totals: Totals, troubles: dict[str, str], writing_s: float) -> CampaignSummary:
        run, campaign, spec = self._run, self._campaign, self._run.model.spec
        hectares, settings = totals.hectares, campaign.settings
        gsds = [raster.grid.gsd for raster in self._rasters]
        original, (iou, ios, _) = followed(spec, run.options), settings["merging"]
        gsd = min(gsds) / original.enlargement if original else spec.gsd
        crs = "the CRS of each raster" if run.how.per_raster else getattr(self._crs, "name", "pixel coordinates")
        return CampaignSummary(
            source=run.source,
            output=str(run.output.with_suffix("") if run.how.per_raster else run.output),
            rasters=campaign.rasters,
            grounds=len(campaign.grounds),
            outside=campaign.outside,
            crowns=totals.crowns,
            hectares=hectares,
            canopy_cover=min(1.0, totals.covered_hectares / hectares) if hectares else 0.0,
            cut=totals.cut,
            cure_m=CURE * totals.widest_cut_m,
            windows=int(totals.facts.windows),
            skipped=int(totals.facts.skipped),
            seconds=totals.facts.seconds + writing_s,
            network_s=totals.facts.network_s,
            gsds=(min(gsds), max(gsds)),
            model_gsd=gsd,
            native=0 if original else sum(ground.mode == "native" for ground in campaign.grounds),
            stretches=settings["stretch measured"],
            crs=str(crs),
            model=f"{run.name} ({settings['model'][:12]})",
            device=settings["device"],
            precision=settings["precision"],
            score_threshold=settings["score threshold"],
            iou_threshold=iou,
            ios_threshold=ios,
            overlap_m=settings["windows"]["overlap_px"] * (min(gsds) if original else gsd),
            aoi=run.options.aoi,
            filters=self._filters.text,
            version=settings["version"],
            min_p=run.options.min_p,
            failures=troubles,
            listed=str(failures_path(run.output, per_raster=run.how.per_raster)),
            classes=totals.kept.tables(hectares),
            cautions=totals.found.cautions,
            setting=settings.get("setting", "treedet"),
        )


def _square_metres(ground: Ground) -> float:
    """Return the area where crowns are looked for; ground that several files show counts several times."""
    grid, members = ground.opening.grid, ground.opening.members
    pixels = sum(m.size[0] * m.size[1] for m in members) if ground.area is None else shapely.area(ground.area)
    return float(pixels) * grid.gsd_x * grid.gsd_y
