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

from treedet.core.labels import LabelSchema
from treedet.core.spec import ModelSpec
from treedet.datasets.ground import Ground
from treedet.datasets.sample_config import SampleConfig
from treedet.datasets.samples import Pool
from treedet.datasets.scenes import random_config, render_scene
from treedet.datasets.sources import SOURCES, AnnotatedImage, load_source, split_by_place
from treedet.inference.detector import Detector
from treedet.inference.loading import load
from treedet.metrics.operating_points import LEAST, choose_points
from treedet.metrics.paired import PairedCrowns
from treedet.models import model_file
from treedet.models.backends.allocator import keep_memory
from treedet.models.backends.eager import EagerBackend
from treedet.models.build import weights_of
from treedet.models.loss_config import LossConfig
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
CALM_EPOCHS = 5
"""Last epochs, in which images are varied little."""
RECIPE = TrainConfig(
    epochs=21,
    windows_per_epoch=800,
    learning_rate=7e-4,
    warmup_steps=100,
    loss=LossConfig(evenness=0.5),
    samples=SampleConfig(zoom=(0.7, 1.4), turn=15.0, mosaic=0.3, empty=0.05, resolutions=(0.1, 0.4), coarse=0.4),
)
"""What the last run was made with."""
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
        log.info("%s: %d training images, %d held out", source.name, len(train), len(validation))
        if train:
            grounds = [_ground(image, equalised=source.equalised) for image in train]
            pools.append(Pool(grounds, weight=source.weight, mosaic=source.mosaic))
        held.extend(validation)
    if scenes:
        pools.append(Pool([_ground(image) for image in rendered(scenes, seed=seed)], weight=0.7))
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
    parser.add_argument("--epochs", type=int, default=RECIPE.epochs, help="of 100 steps")
    parser.add_argument("--commit", default="unknown", help="commit the run was started from, for the model file")
    parser.add_argument("--scenes", type=int, default=200, help="rendered scenes to add")
    parser.add_argument("--start", type=Path, help="model file to train on; random weights by default")
    parser.add_argument("--learning_rate", type=float, default=RECIPE.learning_rate)
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(2)
    keep_memory()
    samples = replace(RECIPE.samples, calm_from=max(0, chosen.epochs - CALM_EPOCHS))
    config = replace(RECIPE, epochs=chosen.epochs, learning_rate=chosen.learning_rate, samples=samples)
    # Heads are trained afresh behind the new detection.
    start = load(chosen.start).with_labels(LabelSchema()) if chosen.start else None
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
