"""Works off the units of a run over many rasters on Dask workers: a local cluster, or any that a client reaches.

A worker gets a unit, its ground and the options: paths and numbers, never pixels or tensors. It loads the model once,
and writes what it finds to the run folder, which all have to see. So whatever dies, finished units stay, and a
resumed run goes on behind them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from treedet.errors import BackendUnavailableError, ConfigError, TreedetError, WorkersError
from treedet.inference.campaign import Campaign, Ground, Unit
from treedet.inference.campaign_folder import CampaignFolder
from treedet.inference.campaign_run import Run
from treedet.inference.options import PredictOptions
from treedet.inference.watching import CampaignProgress
from treedet.inference.work import work_off
from treedet.models.backends.allocator import keep_memory
from treedet.models.base import WindowDetector

log = logging.getLogger("treedet")

WAITING = 3
"""Units handed out for each worker, so that none waits for the next."""
DEATHS = 3
"""Workers that may die over a unit before the run is given up."""
THREADS = "OMP_NUM_THREADS"
ANSWER_S = 10
"""Seconds a scheduler has to answer."""


@dataclass(frozen=True)
class Task:
    """All that a worker has to know about a run.

    Attributes:
        load: Returns the model; called once by each worker.
        identity: What the model has to say of itself, so that all workers compute alike.
        options: What is looked for.
        output: The output that the run folder lies beside.
        cwd: Folder that relative paths start from.
    """

    load: Callable[[], WindowDetector]
    identity: Mapping[str, str]
    options: PredictOptions
    output: str
    cwd: str


def work_on_dask(
    run: Run, campaign: Campaign, units: Sequence[Unit], folder: CampaignFolder, progress: CampaignProgress
) -> None:
    """Work off units on Dask workers.

    Args:
        run: The run; its options say which workers.
        campaign: What is worked off.
        units: Which of it.
        folder: Where workers put their results.
        progress: Is told of finished units.

    Raises:
        BackendUnavailableError: Dask is not installed.
        ConfigError: The model can not be loaded elsewhere, or the scheduler is not there.
        WorkersError: Workers or the scheduler were lost; what is finished stays.
        TreedetError: As raised by a worker.
    """
    if run.load is None:
        raise ConfigError("workers load the model from its file: save it, load() that file, and predict with it")
    task = Task(run.load, dict(run.model.identity), run.options, str(run.output.absolute()), str(Path.cwd()))
    with _client(run.how.workers, run.how.scheduler) as client:
        try:
            for unit, found in _results(client, task, campaign, units):
                progress.settle(unit.windows, found)
        except TreedetError:  # some are an OSError too
            raise
        except _losses() as error:
            reason = next(iter(str(error).splitlines()), "no reason given")
            raise WorkersError(
                f"workers were lost ({type(error).__name__}: {reason}); what is finished is kept "
                f"in {folder.path}, and resume=True (--resume) goes on; if they ran out of memory, take fewer"
            ) from error


def _results(client: Any, task: Task, campaign: Campaign, units: Sequence[Unit]) -> Iterator[tuple[Unit, int]]:  # noqa: ANN401 -- untyped
    """Yield units as they are finished, with the crowns found; a few are out with each worker at any time."""
    from distributed import as_completed  # noqa: PLC0415 -- an extra

    left = iter(units)
    by_key: dict[str, Unit] = {}

    def hand_out(unit: Unit) -> Any:  # noqa: ANN401 -- untyped
        ground = campaign.grounds[unit.ground]
        future = client.submit(work_unit, task, unit, ground, key=f"treedet-{unit.key}", pure=False)
        by_key[future.key] = unit
        return future

    info = client.scheduler_info()
    # Some releases list a few of the workers only.
    workers = max(1, info.get("n_workers", len(info["workers"])))
    first = [hand_out(unit) for unit in islice(left, WAITING * workers)]
    running = as_completed(first, loop=client.loop)
    for future in running:
        found = future.result()
        unit = by_key.pop(future.key)
        future.release()
        if (following := next(left, None)) is not None:
            running.add(hand_out(following))
        yield unit, found


_loaded: dict[str, WindowDetector] = {}
"""The model of this process."""


def work_unit(task: Task, unit: Unit, ground: Ground) -> int:
    """Work off a unit in a worker, write the result to the run folder, and return how many crowns were found.

    Raises:
        ConfigError: The model is another one here than where the run was started.
    """
    os.chdir(task.cwd)
    key = repr(sorted(task.identity.items()))
    if key not in _loaded:
        keep_memory()
        torch.set_num_threads(int(os.environ.get(THREADS, "1")))
        model = task.load()
        if dict(model.identity) != dict(task.identity):
            raise ConfigError(
                f"a worker has the model {dict(model.identity)}, the run was started with {dict(task.identity)}; "
                "give --device and --precision that all workers have"
            )
        _loaded.clear()
        _loaded[key] = model
    result = work_off(unit, ground, _loaded[key], task.options)
    CampaignFolder(Path(task.output)).save(unit.key, result)
    return len(result.closed) + len(result.open)


@contextmanager
def _client(workers: int | None, scheduler: str | None) -> Iterator[Any]:
    """Connect to a scheduler, or start workers on this machine, each with its share of the cores."""
    try:
        import dask  # noqa: PLC0415 -- an extra
        from distributed import Client, LocalCluster  # noqa: PLC0415
    except ImportError as error:
        raise BackendUnavailableError(
            "workers= and scheduler= (--workers, --scheduler) need Dask: pip install 'treedet[dask]'"
        ) from error
    settings = {
        "distributed.scheduler.allowed-failures": DEATHS,
        # A worker that died has to load libraries and a model again before it is back.
        "distributed.deploy.lost-worker-timeout": "10 minutes",
        "distributed.logging.distributed": "error",
    }
    with dask.config.set(settings):
        if scheduler is not None:
            _check_address(scheduler)
            try:
                client = Client(scheduler, timeout=ANSWER_S, set_as_default=False)
            except OSError as error:
                raise ConfigError(f"no Dask scheduler answers at {scheduler}: {error}") from error
            with client:
                if not client.scheduler_info()["workers"]:
                    log.info("the scheduler at %s has no workers yet; waiting for the first", scheduler)
                    client.wait_for_workers(1)
                yield client
            return
        count = workers or 1
        threads = max(1, (os.cpu_count() or 1) // count)
        with (
            LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                dashboard_address=None,
                env={THREADS: str(threads)},
                silence_logs=logging.CRITICAL,
            ) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            log.info("%d workers on this machine, %d threads each", count, threads)
            yield client


def _check_address(scheduler: str) -> None:
    """Refuse what is no address before a client is made of it: one that fails half-way may block the next."""
    from distributed.comm.addressing import parse_address, parse_host_port  # noqa: PLC0415 -- an extra
    from distributed.comm.registry import get_backend  # noqa: PLC0415

    try:
        scheme, place = parse_address(scheduler)
        get_backend(scheme)
        if scheme != "inproc":
            parse_host_port(place)
    except ValueError as error:
        raise ConfigError(
            f"{scheduler!r} is no address of a Dask scheduler: {error}; give it as tcp://HOST:8786"
        ) from error


def _losses() -> tuple[type[BaseException], ...]:
    """Return what is raised where workers or the scheduler went away."""
    from distributed import CancelledError, KilledWorker  # noqa: PLC0415 -- an extra
    from distributed.comm.core import CommClosedError  # noqa: PLC0415

    return KilledWorker, CancelledError, CommClosedError, OSError
