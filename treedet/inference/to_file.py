"""Finds the crowns of one raster in constant memory and writes them to a file."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from treedet.core.palette import coloured_by
from treedet.inference.campaign_run import Run
from treedet.inference.cautions import warn_cut, warn_dead
from treedet.inference.output import Filters, Ledger, native_boxes
from treedet.inference.parts import RunFolder
from treedet.inference.pipeline import run as run_pipeline
from treedet.inference.setup import Setup, prepare
from treedet.inference.summary import Summary
from treedet.inference.watching import Observer, Watch
from treedet.inference.zone_run import ZoneRun, check_zones, counted_by
from treedet.vectors.crowns_writer import check_names
from treedet.vectors.writers import WriteOptions, check_target, open_writer


def predict_to_file(run: Run, *, watch: Watch | None = None, observer: Observer | None = None) -> Summary:
    """Find the crowns of a raster and write them.

    Args:
        run: The run; its source is the path of the raster.
        watch: Called after each batch of windows.
        observer: Sees the raster and the crowns, to draw them for example.

    Raises:
        TreedetError: An input or option can not be used, or the output can not be written; what is finished stays in
            the run folder.
    """
    filters, options = _check(run)
    labels = run.model.spec.labels
    with (
        prepare(run.source, run.model, run.options) as setup,
        counted_by(run.zoning, setup, run.output, labels=labels, overwrite=run.how.overwrite) as zones,
        RunFolder(run.output) as folder,
    ):
        if observer is not None:
            observer.begin(setup.raster, setup.job.aoi, setup.job.plan.grid)
        first = folder.start(setup.fingerprint, resume=run.how.resume)
        before = folder.open_detections(first - 1) if first else None
        run_pipeline(setup.raster, run.model, setup.job, folder, first_row=first, open_=before, watch=watch)
        summary = _Writing(run, setup, filters, options, zones, observer).write(folder)
        if zones is not None:
            summary = replace(summary, zones=zones.write())
        folder.remove()
        if summary.cure_m:
            warn_cut(setup.overlap_m)
        warn_dead(summary.cautions)
    return summary


def _check(run: Run) -> tuple[Filters, WriteOptions]:
    """Refuse what can not be written before any work, and return which crowns are kept and how they are written."""
    options, labels, overwrite = run.options, run.model.spec.labels, run.how.overwrite
    check_target(run.output, overwrite=overwrite, schema=labels, partition=options.partition)
    filters = Filters(options, run.model.spec)
    check_names(filters.probabilities, run.output)
    colour_by = coloured_by(labels.attributes, options.colour_by)
    check_zones(run.zoning, run.output, overwrite=overwrite)
    return filters, WriteOptions(overwrite, options.shape, colour_by=colour_by, partition=options.partition)


@dataclass
class _Writing:
    """What takes the finished parts of a run: the output, the zones, and who looks on."""

    run: Run
    setup: Setup
    filters: Filters
    options: WriteOptions
    zones: ZoneRun | None
    observer: Observer | None
    started: float = field(default_factory=time.perf_counter)

    def write(self, folder: RunFolder) -> Summary:
        """Write the crowns of all parts, and return what the run found."""
        run, setup = self.run, self.setup
        ledger = Ledger(setup.job.plan, run.model.spec.labels, min_p=run.options.min_p)
        with open_writer(
            run.output,
            schema=run.model.spec.labels,
            crs=setup.crs,
            raster_size=(setup.raster.facts.width, setup.raster.facts.height),
            options=self.options,
        ) as writer:
            for part, facts in folder.parts():
                kept, table = self.filters.table(part, setup, first_id=ledger.crowns + 1)
                # A part without rows may be the only one, and then tells the file its columns.
                first_part = not ledger.crowns
                ledger.add(part, kept, facts)
                if self.zones is not None:
                    self.zones.add(kept, facts.ground, setup.job.plan.grid)
                if len(table) or first_part:
                    writer.append(table, native_boxes(kept.boxes, setup))
                if self.observer is not None:
                    self.observer.observe(kept, setup.job.plan.grid)
            summary = ledger.summary(
                setup,
                name=run.name,
                output=str(run.output),
                filters=self.filters.text,
                extra_s=time.perf_counter() - self.started,
            )
            writer.finish(summary.to_dict())
        return summary
