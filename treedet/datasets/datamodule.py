"""Lightning data module: random training windows, whole validation images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytorch_lightning as pl
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from treedet.datasets.samples import CrownWindows, Pool, SampleConfig, collate
from treedet.datasets.sources import AnnotatedImage
from treedet.models.losses import Targets


class EpochSampler(Sampler[int]):
    """Counts on through the epochs, so that each draws new windows and a resumed run none twice.

    Args:
        windows: Windows in an epoch.
    """

    def __init__(self, windows: int) -> None:
        self.windows = windows
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Tell which epoch comes next; Lightning calls this."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        start = self.epoch * self.windows
        return iter(range(start, start + self.windows))

    def __len__(self) -> int:
        return self.windows


class WholeImages(Dataset[AnnotatedImage]):
    """Validation images as they are.

    Args:
        images: Annotated images.
    """

    def __init__(self, images: Sequence[AnnotatedImage]) -> None:
        self.images = images

    def __getitem__(self, index: int) -> AnnotatedImage:
        return self.images[index]

    def __len__(self) -> int:
        return len(self.images)


class CrownDataModule(pl.LightningDataModule):
    """Feeds training and validation.

    Args:
        pools: Training images.
        validation: Validation images; may be empty.
        samples: How windows are drawn.
        batch_size: Windows in a batch.
        epoch_windows: Windows in an epoch.
        workers: Background processes that draw windows.
        seed: Seed of all draws.
    """

    def __init__(
        self,
        pools: Sequence[Pool],
        validation: Sequence[AnnotatedImage] = (),
        *,
        samples: SampleConfig,
        batch_size: int,
        epoch_windows: int,
        workers: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.windows = CrownWindows(pools, config=samples, seed=seed)
        self.validation = validation
        self.batch_size = batch_size
        self.epoch_windows = epoch_windows
        self.workers = workers

    def train_dataloader(self) -> DataLoader[tuple[Tensor, list[Targets]]]:
        """Batches of ``(uint8 [B, 3, S, S], targets)``."""
        return DataLoader(
            self.windows,  # type: ignore[arg-type]
            batch_size=self.batch_size,
            sampler=EpochSampler(self.epoch_windows),
            collate_fn=collate,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            drop_last=True,
        )

    def val_dataloader(self) -> DataLoader[AnnotatedImage]:
        """Whole annotated images, one at a time."""
        return DataLoader(WholeImages(self.validation), batch_size=None, num_workers=0)
