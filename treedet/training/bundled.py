"""The recipe of the bundled model: from annotated imagery to a model file, resumable.

Run it stage by stage as ``python -m treedet.training.bundled first --data DATA --run runs/first --output
first.safetensors``, each later one with ``--start`` and the model before it; the same command again goes on where a
run was stopped.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from treedet.core.labels import LabelSchema
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


@dataclass(frozen=True)
class Stage:
    """A part of the training, with settings of its own.

    Attributes:
        config: Settings.
        scenes: Rendered scenes to add.
        scenes_weight: Share of training windows drawn from them, relative to the sets.
        weights: Shares of windows of the sets, where they are not those of :data:`SOURCES`.
        mosaic: Share of windows put together from four, by set, where it is not that of all.
    """

    config: TrainConfig
    scenes: int = 400
    scenes_weight: float = 1.5
    weights: Mapping[str, float] = field(default_factory=dict)
    mosaic: Mapping[str, float] = field(default_factory=dict)


def _early(epochs: int, learning_rate: float, resolutions: tuple[float, float] | None) -> Stage:
    samples = SampleConfig(calm_from=epochs - 7, resolutions=resolutions)
    return Stage(
        TrainConfig(
            epochs=epochs, windows_per_epoch=800, learning_rate=learning_rate, warmup_steps=200, samples=samples
        )
    )


def _late(epochs: int, learning_rate: float, *, calm_from: int, coarse: float, seed: int) -> Stage:
    samples = SampleConfig(
        zoom=(0.7, 1.4),
        turn=15.0,
        mosaic=0.3,
        empty=0.05,
        calm_from=calm_from,
        resolutions=(0.1, 0.5),
        coarse=coarse,
    )
    config = TrainConfig(
        epochs=epochs,
        windows_per_epoch=800,
        learning_rate=learning_rate,
        warmup_steps=100,
        seed=seed,
        loss=LossConfig(evenness=0.5),
        samples=samples,
    )
    # Plots of IDTReeS are 20 m wide, so four to a window.
    weights = {"neon-plots": 2.0, "yell": 0.8, "idtrees": 1.4}
    return Stage(config, scenes=200, scenes_weight=0.7, weights=weights, mosaic={"idtrees": 1.0})


STAGES = {
    "first": _early(38, 8e-4, None),
    "single": _early(10, 4e-4, None),
    "many": _early(10, 4e-4, (0.1, 0.5)),
    "more": _late(12, 7e-4, calm_from=9, coarse=0.4, seed=0),
    "long": _late(16, 8e-4, calm_from=13, coarse=0.3, seed=1),
}
"""By name, in the order in which they follow each other; ``single`` is compared with ``many`` and leads nowhere."""


def gather(data: Path, stage: Stage) -> tuple[list[Pool], list[AnnotatedImage]]:
    """Load the training sets and render scenes.

    Args:
        data: Folder that holds the sets.
        stage: What windows are drawn from, and how often.

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
            weight = stage.weights.get(source.name, source.weight)
            pools.append(Pool(grounds, weight=weight, mosaic=stage.mosaic.get(source.name)))
        held.extend(validation)
    if stage.scenes:
        pools.append(scene_pool(stage.scenes, gsd=0.1, weight=stage.scenes_weight, seed=stage.config.seed))
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


def train(data: Path, run: Path, *, stage: Stage, spec: ModelSpec, start: Detector | None = None) -> FitResult:
    """Train; a run in the folder that was stopped is taken up.

    Args:
        data: Folder that holds the annotated sets.
        run: Folder for checkpoints, settings and the history.
        stage: Settings.
        spec: Architecture.
        start: Model of the same architecture whose weights are trained on; None for random weights.
    """
    pools, _ = gather(data, stage)
    facts = {"scenes": stage.scenes, "sources": [source.name for source in SOURCES]}
    module = CrownModule(spec, stage.config, trunk=None if start is None else start.trunk)
    return fit(module, pools, stage.config, run=run, resume=True, facts=facts)


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
    parser.add_argument("stage", choices=STAGES, help="which part of the training")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the annotated sets")
    parser.add_argument("--run", type=Path, required=True, help="folder for checkpoints and the log")
    parser.add_argument("--output", type=Path, help="model file to write at the end")
    parser.add_argument("--start", type=Path, help="model file to train on; random weights by default")
    parser.add_argument("--commit", default="unknown", help="commit the run was started from, for the model file")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(2)
    keep_memory()
    stage = STAGES[chosen.stage]
    # Heads are trained afresh behind the new detection.
    start = load(chosen.start).with_labels(LabelSchema()) if chosen.start else None
    spec = for_resolutions(ModelSpec(), stage.config)
    result = train(chosen.data, chosen.run, stage=stage, spec=spec, start=start)
    if chosen.output is not None:
        provenance = {
            "start": "random weights" if start is None else f"{start.name} ({start.model.identity['model'][:12]})",
            "data": ", ".join([*(source.name for source in SOURCES), f"{stage.scenes} rendered scenes"]),
            "licence": "weights MIT; data CC BY 4.0 and MIT, see the model card",
            "seed": str(stage.config.seed),
            "commit": chosen.commit,
        }
        if stage.config.samples.resolutions:
            provenance["resolutions"] = "{:g} to {:g} m".format(*stage.config.samples.resolutions)
        stored = export(chosen.data, result, chosen.output, spec=spec, provenance=provenance)
        log.info("%s: %s", chosen.output, stored.operating_points)


if __name__ == "__main__":
    main()
