"""The recipe of the bundled model: from annotated imagery to a model file, resumable.

Run it as ``python -m treedet.training.bundled --data DATA --run runs/crowns --output crowns.safetensors``; the same
command again goes on where a run was stopped.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from treedet.core.spec import ModelSpec
from treedet.datasets.ground import Ground
from treedet.datasets.sample_config import SampleConfig
from treedet.datasets.samples import Pool
from treedet.datasets.scene_pool import scene_pool
from treedet.datasets.sources import SOURCES, AnnotatedImage, load_source, split_by_place
from treedet.inference.detector import Detector
from treedet.inference.loading import load
from treedet.metrics.operating_points import LEAST, choose_points
from treedet.metrics.paired import PairedCrowns
from treedet.models import model_file
from treedet.models.backends.eager import EagerBackend
from treedet.models.build import weights_of
from treedet.models.network import NetworkDetector
from treedet.rasters.decoded import DecodedRaster
from treedet.training.config import TrainConfig
from treedet.training.loop import FitResult, fit
from treedet.training.module import CrownModule
from treedet.training.plan import for_resolutions
from treedet.training.validation import predicted_boxes

log = logging.getLogger("treedet")

HELD_OUT = 0.15
"""Share of places held out to choose thresholds on; evaluation sets are never looked at for a choice."""
SPLIT_SEED = 7
EPOCHS = 50
CALM_EPOCHS = 7
"""Last epochs, in which images are varied little."""


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
        log.info("%s: %d training images, %d held out", source.name, len(train), len(validation))
        if train:
            pools.append(Pool([_ground(image, equalised=source.equalised) for image in train], weight=source.weight))
        held.extend(validation)
    if scenes:
        pools.append(scene_pool(scenes, gsd=0.1, weight=1.5, seed=seed))
    return pools, held


def _ground(image: AnnotatedImage, *, equalised: bool = False) -> Ground:
    return Ground(
        name=image.name,
        pixels=DecodedRaster.of_pixels(image.pixels, gsd=image.gsd),
        boxes=image.boxes.astype(np.float64),
        classes=image.classes,
        equalised=equalised,
        # Boxes of the equalised set are drawn loosely.
        tightening=(0.9, 1.0) if equalised else (1.0, 1.0),
    )


def train(
    data: Path, run: Path, *, config: TrainConfig, spec: ModelSpec, scenes: int, start: Detector | None = None
) -> FitResult:
    """Train; a run in the folder that was stopped is taken up.

    Args:
        data: Folder that holds the annotated sets.
        run: Folder for checkpoints, settings and the history.
        config: Settings.
        spec: Architecture.
        scenes: Rendered scenes to add to the training images.
        start: Model of the same architecture whose weights are trained on; None for random weights.
    """
    pools, _ = gather(data, scenes=scenes, seed=config.seed)
    facts = {"scenes": scenes, "sources": [source.name for source in SOURCES]}
    module = CrownModule(spec, config, trunk=None if start is None else start.trunk)
    return fit(module, pools, config, run=run, resume=True, facts=facts)


def export(
    data: Path, result: FitResult, output: Path, *, spec: ModelSpec, provenance: Mapping[str, str]
) -> ModelSpec:
    """Choose thresholds on the held-out images and write the model file.

    Args:
        data: Folder that holds the annotated sets.
        result: What training gave.
        output: Model file; replaced where it exists.
        spec: Architecture.
        provenance: Facts to store.

    Returns:
        The spec as stored.
    """
    detector = Detector(NetworkDetector(EagerBackend(result.best), spec), trunk=result.best)
    points = choose_points(held_out_predictions(data, detector))
    steps = int(result.history[-1]["step"])
    finished = replace(spec, operating_points=points, provenance={**provenance, "steps": steps})
    model_file.save(output, finished, weights_of(result.best), overwrite=True)
    return finished


def held_out_predictions(data: Path, detector: Detector) -> list[PairedCrowns]:
    """Predict the held-out images of every set, as a user would."""
    predictions = []
    for source in SOURCES:
        _, held = split_by_place(load_source(data, source), share=HELD_OUT, seed=SPLIT_SEED)
        for image in held:
            path = (data / source.annotations).parent / image.name
            boxes, found = predicted_boxes(detector, path, gsd=source.gsd, threshold=LEAST)
            predictions.append(
                PairedCrowns(image.boxes * image.gsd, boxes * image.gsd, found, name=image.name, group=source.name)
            )
    return predictions


def main(arguments: Sequence[str] | None = None) -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the annotated sets")
    parser.add_argument("--run", type=Path, required=True, help="folder for checkpoints and the log")
    parser.add_argument("--output", type=Path, help="model file to write at the end")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of 100 steps")
    parser.add_argument("--commit", default="unknown", help="commit the run was started from, for the model file")
    parser.add_argument("--scenes", type=int, default=400)
    parser.add_argument("--start", type=Path, help="model file to train on; random weights by default")
    parser.add_argument("--learning_rate", type=float, default=8e-4)
    parser.add_argument("--resolutions", type=float, nargs=2, help="finest and coarsest metres per pixel to imitate")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(2)
    config = TrainConfig(
        epochs=chosen.epochs,
        windows_per_epoch=100 * TrainConfig.batch_size,
        learning_rate=chosen.learning_rate,
        warmup_steps=200,
        samples=SampleConfig(
            calm_from=max(0, chosen.epochs - CALM_EPOCHS),
            resolutions=tuple(chosen.resolutions) if chosen.resolutions else None,
        ),
    )
    start = load(chosen.start) if chosen.start else None
    spec = for_resolutions(ModelSpec(), config)
    result = train(chosen.data, chosen.run, config=config, spec=spec, scenes=chosen.scenes, start=start)
    if chosen.output is not None:
        provenance = {
            "start": "random weights" if start is None else f"{start.name} ({start.model.identity['model'][:12]})",
            "data": ", ".join([*(source.name for source in SOURCES), f"{chosen.scenes} rendered scenes"]),
            "licence": "weights MIT; data CC BY 4.0 and MIT, see the model card",
            "seed": str(config.seed),
            "commit": chosen.commit,
        }
        if config.samples.resolutions:
            provenance["resolutions"] = "{:g} to {:g} m".format(*config.samples.resolutions)
        stored = export(chosen.data, result, chosen.output, spec=spec, provenance=provenance)
        log.info("%s: %s", chosen.output, stored.operating_points)


if __name__ == "__main__":
    main()
