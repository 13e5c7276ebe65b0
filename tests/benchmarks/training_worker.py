"""Training steps, each kind measured in a process of its own; started by :mod:`processes`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.retinanet import RetinaNetHead

from treedet.core.spec import ModelSpec
from treedet.datasets.datamodule import CrownDataModule
from treedet.datasets.ground import Ground
from treedet.datasets.samples import Pool, SampleConfig
from treedet.datasets.scenes import random_config, render_scene
from treedet.models.backends.allocator import keep_memory
from treedet.models.losses import Targets
from treedet.models.trunk import Trunk
from treedet.rasters.decoded import DecodedRaster
from treedet.training.config import Precision, TrainConfig
from treedet.training.loop import trainer_precision
from treedet.training.module import CrownModule
from treedet.training.quiet import quiet

CROWNS = 40
WARMUP = 2
"""Steps before the clock runs: memory is taken and kernels are chosen."""
SCENES = 4


def ours(
    steps: int, *, side: int = 400, batch: int = 8, precision: Precision = "auto", keep: bool = True
) -> dict[str, Any]:
    """Time steps of the Lightning module as a training run makes them: loss, optimiser, clipping, average.

    Args:
        steps: Steps that count.
        side: Side of the windows in pixels; they are padded to whole 32 px, as torchvision does.
        batch: Windows in a batch.
        precision: Of the trainer.
        keep: Set the allocator as the command line does.
    """
    if keep:
        keep_memory()
    module, trainer, clock = _run(steps, side=side, batch=batch, precision=precision)
    padded = _padded(side)
    batches = []
    for number in range(WARMUP + steps):
        canvas = torch.zeros(batch, 3, padded, padded, dtype=torch.uint8)
        canvas[:, :, :side, :side] = pixels(number, batch, side)
        truth = [Targets(b, torch.zeros(len(b), dtype=torch.int64)) for b in boxes(number, batch, side)]
        batches.append((canvas, truth))
    with quiet():
        trainer.fit(module, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    return {"seconds": median(clock.seconds), "precision": trainer.precision, "side": padded}


def torchvision(steps: int, *, side: int = 400, batch: int = 8, keep: bool = False) -> dict[str, Any]:
    """Time steps of a plain loop around torchvision's RetinaNet: fp32, channels first, its own loss, AdamW.

    Trunk and anchors are those of our model; the windows lie in memory as the floats it wants.

    Args:
        steps: Steps that count.
        side: Side of the windows in pixels.
        batch: Windows in a batch.
        keep: Set the allocator as our command line does.
    """
    if keep:
        keep_memory()
    model = retinanet(ModelSpec(), side).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    seconds = []
    for number in range(WARMUP + steps):
        images = list(pixels(number, batch, side).float() / 255)
        truth = [{"boxes": b, "labels": torch.zeros(len(b), dtype=torch.int64)} for b in boxes(number, batch, side)]
        started = time.perf_counter()
        loss = torch.stack(list(model(images, truth).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - started)
    return {"seconds": median(seconds[WARMUP:]), "precision": "fp32", "side": _padded(side)}


def wait(steps: int, *, side: int = 400, batch: int = 8, workers: int = 1, scene_px: int = 1200) -> dict[str, Any]:
    """Measure the share of a step that training waits for windows, drawn and varied by background processes.

    Args:
        steps: Steps that count.
        side: Least side of the windows in pixels; whole 32 px are taken.
        batch: Windows in a batch.
        workers: Processes that draw windows.
        scene_px: Side of the rendered rasters they are drawn from.
    """
    keep_memory()
    module, trainer, clock = _run(steps, side=side, batch=batch, precision="auto", workers=workers)
    config = module.config
    data = CrownDataModule(
        [Pool(list(grounds(scene_px)))],
        samples=config.samples,
        batch_size=batch,
        epoch_windows=config.windows_per_epoch,
        workers=workers,
        seed=config.seed,
    )
    loader = TimedLoader(data.train_dataloader())
    with quiet():
        trainer.fit(module, loader)
    waited, total = sum(loader.waited[WARMUP:]), clock.total
    return {"share": waited / total, "waited_s": waited / steps, "seconds": total / steps, "side": _padded(side)}


class StepClock(pl.Callback):
    """Times steps, and the run from the end of the warm-up."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.seconds: list[float] = []
        self._started = 0.0

    def on_train_batch_start(self, *_: Any) -> None:
        """Start a step's clock."""
        self._started = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        """Stop it."""
        self.ends.append(time.perf_counter())
        if len(self.ends) > WARMUP:
            self.seconds.append(self.ends[-1] - self._started)

    @property
    def total(self) -> float:
        """Seconds from the end of the warm-up to the end of the last step, waiting included."""
        return self.ends[-1] - self.ends[WARMUP - 1]


class TimedLoader:
    """Batches of a loader, and how long each was waited for."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader = loader
        self.waited: list[float] = []

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self.loader)
        for _ in range(len(self.loader)):
            started = time.perf_counter()
            batch = next(batches)
            self.waited.append(time.perf_counter() - started)
            yield batch


class _Levels(nn.Module):
    """Our backbone as torchvision's RetinaNet wants one."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.backbone = Trunk(spec).backbone
        self.out_channels = spec.fpn_channels

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {str(level): maps for level, maps in enumerate(self.backbone(images))}


def retinanet(spec: ModelSpec, side: int) -> RetinaNet:
    """Return torchvision's RetinaNet with the trunk and the anchors of a spec.

    Args:
        spec: Architecture.
        side: Side that it resizes windows to.
    """
    backbone = _Levels(spec)
    # torchvision has whole pixels alone.
    sizes = tuple(tuple(round(size / spec.gsd) for size in level) for level in spec.anchor_sizes_m)
    anchors = AnchorGenerator(sizes, (spec.anchor_ratios,) * len(sizes))
    head = RetinaNetHead(backbone.out_channels, anchors.num_anchors_per_location()[0], len(spec.labels.classes))
    for branch in (head.classification_head, head.regression_head):
        # torchvision's branches always have four convolutions.
        branch.conv = nn.Sequential(*list(branch.conv)[: spec.head_convs])
    return RetinaNet(
        backbone,
        len(spec.labels.classes),
        min_size=side,
        max_size=side,
        image_mean=list(spec.mean),
        image_std=list(spec.std),
        anchor_generator=anchors,
        head=head,
    )


def pixels(number: int, batch: int, side: int) -> Tensor:
    """Return noise, uint8 ``[B, 3, S, S]``: the time of a step does not depend on what is to be seen."""
    draw = torch.Generator().manual_seed(number)
    return torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8, generator=draw)


def boxes(number: int, batch: int, side: int) -> list[Tensor]:
    """Return crowns for each window, float32 ``[CROWNS, 4]``, of 2 to 8 m at 10 cm."""
    draw = torch.Generator().manual_seed(number)
    centre = torch.rand(batch, CROWNS, 2, generator=draw) * (side - 10) + 5
    half = torch.rand(batch, CROWNS, 1, generator=draw) * 30 + 10
    return list(torch.cat([centre - half, centre + half], dim=2).clamp(0, side))


def grounds(scene_px: int) -> Iterator[Ground]:
    """Yield rendered forests as training ground in memory."""
    for number in range(SCENES):
        config = random_config(np.random.default_rng(number), gsd=0.1, width_px=scene_px, height_px=scene_px)
        scene = render_scene(config, seed=number)
        yield Ground(
            name=f"scene {number}",
            pixels=DecodedRaster.of_pixels(scene.pixels, gsd=0.1),
            boxes=scene.boxes.astype(np.float64),
            classes=np.zeros(len(scene.boxes), np.int64),
        )


def _run(
    steps: int, *, side: int, batch: int, precision: Precision, workers: int = 0
) -> tuple[CrownModule, pl.Trainer, StepClock]:
    config = TrainConfig(
        epochs=1,
        windows_per_epoch=(WARMUP + steps) * batch,
        batch_size=batch,
        precision=precision,
        workers=workers,
        samples=SampleConfig(window_px=_padded(side)),
    )
    clock = StepClock()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        precision=trainer_precision(config),  # type: ignore[arg-type]
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[clock],
    )
    return CrownModule(ModelSpec(), config), trainer, clock


def _padded(side: int) -> int:
    return -(-side // 32) * 32


WORK = {function.__name__: function for function in (ours, torchvision, wait)}

if __name__ == "__main__":
    work, arguments, answer = sys.argv[1:]
    Path(answer).write_text(json.dumps(WORK[work](**json.loads(arguments))))
