"""Lightning data module: batches of random training windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import pytorch_lightning as pl
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from treedet.datasets.mixed import Canvases, MixedWindows, Windows
from treedet.datasets.sample_config import SampleConfig
from treedet.datasets.samples import CrownWindows, Pool, collate
from treedet.errors import ConfigError
from treedet.models.losses import Targets


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields ``(epoch, index)``, so that each epoch draws new windows and a resumed run the same ones.

    Args:
        windows: Windows in an epoch, over all processes; what is left over from equal shares is not drawn.
        rank: Number of this process.
        world: Processes that share the windows.
    """

    def __init__(self, windows: int, rank: int = 0, world: int = 1) -> None:
        self.windows = windows
        self.rank = rank
        self.world = world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Tell which epoch comes next; Lightning calls this."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter([(self.epoch, i * self.world + self.rank) for i in range(len(self))])

    def __len__(self) -> int:
        return self.windows // self.world


class CrownDataModule(pl.LightningDataModule):
    """Feeds training; processes that train together share the windows of an epoch.

    Args:
        pools: What windows are drawn from.
        samples: How.
        batch_size: Windows in a batch.
        epoch_windows: Windows in an epoch, over all processes.
        workers: Background processes that draw windows.
        seed: Seed of all draws.
        canvases: Crops on canvases that are drawn besides, or instead where there is no pool.
    """

    def __init__(
        self,
        pools: Sequence[Pool],
        *,
        samples: SampleConfig,
        batch_size: int,
        epoch_windows: int,
        workers: int = 1,
        seed: int = 0,
        canvases: Canvases | None = None,
    ) -> None:
        super().__init__()
        self.windows: Windows
        if canvases is not None and not pools:
            self.windows = canvases.windows
        else:
            self.windows = CrownWindows(pools, config=samples, seed=seed)
            if canvases is not None:
                self.windows = MixedWindows(self.windows, canvases.windows, share=canvases.share, seed=seed)
        self.batch_size = batch_size
        self.epoch_windows = epoch_windows
        self.workers = workers

    def train_dataloader(self) -> DataLoader[tuple[Tensor, list[Targets]]]:
        """Batches of ``(uint8 [B, 3, S, S], targets)``.

        Raises:
            ConfigError: An epoch holds less than one batch for each process.
        """
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        sampler = EpochSampler(self.epoch_windows, rank, world)
        if len(sampler) < self.batch_size:
            raise ConfigError(
                f"an epoch of {self.epoch_windows} windows for {world} processes is less than one batch of "
                f"{self.batch_size}; give more windows or a smaller batch"
            )
        return DataLoader(
            self.windows,  # type: ignore[arg-type]
            batch_size=self.batch_size,
            sampler=sampler,
            collate_fn=collate,
            num_workers=self.workers,
            worker_init_fn=_one_thread,
            persistent_workers=self.workers > 0,
            drop_last=True,
        )


def _one_thread(worker: int) -> None:
    """Keep OpenCV to one thread in a worker: more would take the cores of training and of the other workers."""
    del worker
    cv2.setNumThreads(0)
