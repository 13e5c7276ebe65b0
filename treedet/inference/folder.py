"""Many rasters as one run: surveyed, worked off unit by unit, gathered into one table or one file each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from treedet.inference.campaign import Campaign, Unit, plan_campaign
from treedet.inference.campaign_folder import CampaignFolder
from treedet.inference.campaign_run import Run
from treedet.inference.campaign_summary import CampaignSummary
from treedet.inference.campaign_writing import Writing, check_output
from treedet.inference.on_dask import work_on_dask
from treedet.inference.watching import CampaignProgress, Observer, Watch
from treedet.inference.work import work_off
from treedet.rasters.listing import list_files
from treedet.rasters.survey import survey

Rasters = str | Path | Sequence[str | Path]


def predict_many(
    run: Run, rasters: Rasters, *, watch: Watch | None = None, observer: Observer | None = None
) -> CampaignSummary:
    """Find the crowns of many rasters and write them.

    Args:
        run: What is looked for, and how.
        rasters: See :func:`treedet.rasters.listing.list_files`.
        watch: Called after each batch of windows.
        observer: Sees the ground and the crowns, to draw them for example.

    Raises:
        TreedetError: An input or option can not be used, or the output can not be written. A raster that can not be
            read is in the summary's failures instead.
    """
    folder = CampaignFolder(run.output)
    taken_up = run.how.resume and folder.exists
    replacing = run.how.overwrite or taken_up
    filters = check_output(run, replacing=replacing)
    campaign = look(run, list_files(rasters), folder=folder if taken_up else None)
    writing = Writing(run, campaign, filters, replacing=replacing)
    folder.start(campaign.settings, join=run.how.resume)
    try:
        writing.begin(observer)
        work(run, campaign, campaign.units, folder, watch=watch)
        summary = writing.write(folder, observer)
    except BaseException:
        if not folder.finished(troubled=True):
            folder.remove()
        raise
    if not summary.failures:
        folder.remove()
    return summary


def look(run: Run, paths: Sequence[str], *, folder: CampaignFolder | None) -> Campaign:
    """Survey rasters and decide what is worked off.

    Args:
        run: The run.
        paths: The rasters.
        folder: A run that is taken up, whose stretch is kept to.
    """
    options = run.options
    measured = folder.stored().get("stretch measured", {}) if folder is not None else {}
    surveyed = survey(
        paths,
        gsd=options.gsd,
        bands=options.bands,
        stretch=options.stretch,
        measured={kind: (float(low), float(high)) for kind, (low, high) in measured.items()},
    )
    return plan_campaign(surveyed, run.model, options)


def work(
    run: Run, campaign: Campaign, units: Sequence[Unit], folder: CampaignFolder, *, watch: Watch | None = None
) -> None:
    """Work off the units that are not finished; those during which a raster could not be read are done again.

    Args:
        run: The run.
        campaign: What is worked off.
        units: Which of it.
        folder: Where results go.
        watch: Called after each batch of windows.
    """
    finished = folder.finished(troubled=False)
    left = [unit for unit in units if unit.key not in finished]
    total = sum(unit.windows for unit in units)
    progress = CampaignProgress(total, done=total - sum(unit.windows for unit in left), watch=watch)
    if run.how.shared:
        if left:
            work_on_dask(run, campaign, left, folder, progress)
        return
    for unit in left:
        result = work_off(unit, campaign.grounds[unit.ground], run.model, run.options, watch=progress.within)
        folder.save(unit.key, result)
        progress.settle(unit.windows, len(result.closed) + len(result.open))
