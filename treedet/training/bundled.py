"""The recipe of the bundled model: from annotated imagery to a model file, resumable.

Run it as ``python -m treedet.training.bundled --data DATA --run runs/crowns --output crowns.safetensors``; the same
command again goes on where a run was stopped.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint

from treedet.core.spec import ModelSpec
from treedet.datasets.datamodule import CrownDataModule
from treedet.datasets.samples import Pool, SampleConfig
from treedet.datasets.scenes import random_config, render_scene
from treedet.datasets.sources import SOURCES, AnnotatedImage, load_source, split_by_place, tiles_of
from treedet.inference.detector import Detector
from treedet.models import model_file
from treedet.models.backends.eager import EagerBackend
from treedet.models.build import weights_of
from treedet.models.network import NetworkDetector
from treedet.training.config import TrainConfig
from treedet.training.module import CrownModule, averaged_weights
from treedet.training.operating_points import LEAST, Prediction, choose_points, predicted_boxes

log = logging.getLogger("treedet")

HELD_OUT = 0.15
"""Share of places held out to choose thresholds on; evaluation sets are never looked at for a choice."""
SPLIT_SEED = 7
CALM_STEPS = 700
"""Last steps, in which images are varied little."""
SCENE_PX = 416


def gather(data: Path, *, scenes: int, seed: int) -> tuple[list[Pool], list[AnnotatedImage]]:
    """Load the training sets and render scenes.

    Args:
        data: Folder that holds the sets.
        scenes: Rendered scenes to add; 0 for none.
        seed: Seed of the scenes.

    Returns:
        Pools to draw training windows from, and the images held out.
    """
    pools, held = [], []
    for source in SOURCES:
        images = load_source(data, source)
        train, validation = split_by_place(images, share=HELD_OUT, seed=SPLIT_SEED)
        train = [tile for image in train for tile in tiles_of(image, 512)]
        log.info("%s: %d training images, %d held out", source.name, len(train), len(validation))
        pools.append(
            Pool(train, weight=source.weight, equalised=source.equalised, tightening=0.9 if source.equalised else 1.0)
        )
        held.extend(validation)
    if scenes:
        pools.append(Pool(rendered(scenes, seed=seed), weight=1.5))
    return pools, held


def rendered(count: int, *, seed: int) -> list[AnnotatedImage]:
    """Render scenes of random kinds at the model's GSD."""
    rng = np.random.default_rng(seed)
    images = []
    for index in range(count):
        config = random_config(rng, gsd=0.1, width_px=SCENE_PX, height_px=SCENE_PX)
        scene = render_scene(config, seed=int(rng.integers(2**31)))
        images.append(
            AnnotatedImage(
                name=f"scene-{index}",
                place=f"scene-{index}",
                pixels=scene.pixels,
                boxes=scene.boxes.astype(np.float32),
                classes=np.zeros(len(scene.boxes), np.int64),
                gsd=0.1,
                source="scenes",
            )
        )
    return images


class Progress(Callback):
    """Writes one line of JSON per epoch, so that a long run can be followed in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.started = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Append the epoch's figures."""
        del pl_module
        figures = {k: round(float(v), 4) for k, v in trainer.callback_metrics.items()}
        line = {"step": trainer.global_step, "seconds": round(time.monotonic() - self.started), **figures}
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def train(data: Path, run: Path, *, config: TrainConfig, spec: ModelSpec, scenes: int) -> Path:
    """Train and return the path of the last checkpoint; an earlier one in the run folder is taken up.

    Args:
        data: Folder that holds the annotated sets.
        run: Folder for checkpoints, settings and the log.
        config: Settings.
        spec: Architecture.
        scenes: Rendered scenes to add to the training images.
    """
    run.mkdir(parents=True, exist_ok=True)
    (run / "settings.json").write_text(json.dumps({"config": asdict(config), "spec": spec.to_dict()}, indent=1))
    pl.seed_everything(config.seed)
    pools, _ = gather(data, scenes=scenes, seed=config.seed)
    module = CrownModule(spec, config)
    feed = CrownDataModule(
        pools,
        samples=config.samples,
        batch_size=config.batch_size,
        epoch_windows=config.batch_size * config.steps_per_epoch,
        workers=config.workers,
        seed=config.seed,
    )
    trainer = pl.Trainer(
        accelerator="auto",
        devices=1,
        max_steps=config.max_steps,
        precision=config.precision,  # type: ignore[arg-type]
        gradient_clip_val=config.gradient_clip,
        use_distributed_sampler=False,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[
            ModelCheckpoint(run, filename="last", enable_version_counter=False, save_on_train_epoch_end=True),
            EMAWeightAveraging(decay=config.ema_decay, update_starting_at_step=config.warmup_steps),
            Progress(run / "log.jsonl"),
        ],
    )
    last = run / "last.ckpt"
    trainer.fit(module, datamodule=feed, ckpt_path=str(last) if last.exists() else None, weights_only=False)
    return last


def export(data: Path, run: Path, output: Path, *, spec: ModelSpec, provenance: Mapping[str, str]) -> ModelSpec:
    """Choose thresholds on the held-out images and write the model file.

    Args:
        data: Folder that holds the annotated sets.
        run: Folder with the checkpoint.
        output: Model file; replaced where it exists.
        spec: Architecture.
        provenance: Facts to store.

    Returns:
        The spec as stored.
    """
    checkpoint = torch.load(run / "last.ckpt", map_location="cpu", weights_only=False)
    trunk = averaged_weights(checkpoint, spec)
    detector = Detector(NetworkDetector(EagerBackend(trunk), spec), trunk=trunk)
    points = choose_points(held_out_predictions(data, detector))
    finished = replace(spec, operating_points=points, provenance={**provenance, "steps": checkpoint["global_step"]})
    model_file.save(output, finished, weights_of(trunk), overwrite=True)
    return finished


def held_out_predictions(data: Path, detector: Detector) -> list[Prediction]:
    """Predict the held-out images of every set, as a user would."""
    predictions = []
    for source in SOURCES:
        _, held = split_by_place(load_source(data, source), share=HELD_OUT, seed=SPLIT_SEED)
        for image in held:
            path = (data / source.annotations).parent / image.name
            boxes, found = predicted_boxes(detector, path, gsd=source.gsd, threshold=LEAST)
            predictions.append(Prediction(image.boxes, boxes, found, source.name))
    return predictions


def main(arguments: Sequence[str] | None = None) -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the annotated sets")
    parser.add_argument("--run", type=Path, required=True, help="folder for checkpoints and the log")
    parser.add_argument("--output", type=Path, help="model file to write at the end")
    parser.add_argument("--steps", type=int, default=TrainConfig.max_steps)
    parser.add_argument("--commit", default="unknown", help="commit the run was started from, for the model file")
    parser.add_argument("--scenes", type=int, default=400)
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(2)
    calm_after = max(0, chosen.steps - CALM_STEPS) * TrainConfig.batch_size
    config = TrainConfig(max_steps=chosen.steps, samples=SampleConfig(calm_after=calm_after))
    train(chosen.data, chosen.run, config=config, spec=ModelSpec(), scenes=chosen.scenes)
    if chosen.output is not None:
        provenance = {
            "start": "random weights",
            "data": ", ".join([*(source.name for source in SOURCES), f"{chosen.scenes} rendered scenes"]),
            "licence": "weights MIT; data CC BY 4.0 and MIT, see the model card",
            "seed": str(config.seed),
            "commit": chosen.commit,
        }
        stored = export(chosen.data, chosen.run, chosen.output, spec=ModelSpec(), provenance=provenance)
        log.info("%s: %s", chosen.output, stored.operating_points)


if __name__ == "__main__":
    main()
