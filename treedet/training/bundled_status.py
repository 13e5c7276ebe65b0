"""The recipe of the bundled model's ``status`` head: alive or dead, behind a detection that stays as it is.

Run it as ``python -m treedet.training.bundled_status --data DATA --run runs/status --output crowns.safetensors``; the
same command again goes on where a run was stopped.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from treedet.core.spec import ModelSpec
from treedet.datasets.annotated import AnnotatedRaster, pair
from treedet.datasets.crops import read_crops
from treedet.datasets.sample_config import SampleConfig
from treedet.datasets.sources import place_of, refuse_evaluation_only
from treedet.inference.detector import Detector
from treedet.inference.loading import load
from treedet.models import model_file
from treedet.models.build import weights_of
from treedet.models.loss_config import HeadConfig
from treedet.training.config import TrainConfig
from treedet.training.fine_tune import FineTuned, fine_tune
from treedet.training.head_plan import HeadRecipe
from treedet.training.head_validation import calibrated_heads
from treedet.training.recipe import Recipe
from treedet.vectors.truth import TruthOptions

log = logging.getLogger("treedet")

CROPS = "alive-dead-crops/train"
PLOTS = ("species-idtrees", "species-neon")
STATUS = {
    "Live": "alive",
    "Live, insect damaged": "alive",
    "Live, disease damaged": "alive",
    "Live,  other damage": "alive",
    "Live, physically damaged": "alive",
    "Live, broken bole": "alive",
    "Standing dead": "dead",
    "Dead, broken bole": "dead",
    "No longer qualifies": None,
}
"""What NEON's field crews say of a stem."""
PRIOR = {"alive": 0.85, "dead": 0.15}
"""Where probabilities shall hold: between field plots, where a twentieth of the crowns is dead, and the crops trained
on, of which a third is."""
HELD_OUT = 0.15
SEED = 0
CROPS_SHARE = 0.7
"""Share of canvases: the crops hold nearly all of the dead."""


def plots(data: Path) -> list[AnnotatedRaster]:
    """Return the plots whose crowns have a status.

    Args:
        data: Folder that holds the annotated sets.
    """
    truth = TruthOptions(columns={"status": "plantStatus"}, values={"status": STATUS}, drop=True)
    found = []
    for name in PLOTS:
        refuse_evaluation_only(name)
        found += pair(data / name, data / name / "annotations.csv", truth=truth)
    return found


def held_out(found: Sequence[AnnotatedRaster], *, seed: int) -> tuple[list[AnnotatedRaster], list[AnnotatedRaster]]:
    """Hold out a share of the places, whatever the year."""
    places = sorted({place_of(plot.path) for plot in found})
    drawn = np.random.default_rng(seed).permutation(len(places))[: round(HELD_OUT * len(places))]
    held = {places[i] for i in drawn}
    return (
        [plot for plot in found if place_of(plot.path) not in held],
        [plot for plot in found if place_of(plot.path) in held],
    )


def train(data: Path, run: Path, *, start: Detector, config: TrainConfig) -> FineTuned:
    """Train the head; a run in the folder that was stopped is taken up.

    Args:
        data: Folder that holds the annotated sets.
        run: Folder for checkpoints, settings and the history.
        start: Model whose detection is kept.
        config: Settings.
    """
    refuse_evaluation_only(CROPS)
    crops = read_crops(data / CROPS, attribute="status", gsd=0.1)
    train_plots, held = held_out(plots(data), seed=config.seed)
    recipe = Recipe(
        annotation="complete",
        classes=start.spec.labels.classes,
        validation_share=HELD_OUT,
        heads=HeadRecipe({"status": ("alive", "dead")}),
        crops=crops,
        crops_share=CROPS_SHARE,
    )
    return fine_tune(start, train_plots, validation=held, config=config, recipe=recipe, run=run, resume=True)


def finished_spec(start: ModelSpec, tuned: FineTuned, *, commit: str) -> ModelSpec:
    """Return the spec to ship: the detection's own provenance, with that of the head beside it."""
    assert tuned.said is not None
    heads = calibrated_heads(tuned.plan.spec, tuned.said, ("status",), priors={"status": PRIOR})
    trained = replace(tuned.detector.spec, heads=heads)
    provenance = {
        **start.provenance,
        "status head": {
            "data": ", ".join((CROPS, *PLOTS)),
            "commit": commit,
            "seed": tuned.plan.config.seed,
            "epochs": len(tuned.history),
            "best epoch": tuned.best_epoch,
            "held out": {
                k: round(v, 4) for k, v in tuned.history[tuned.best_epoch - 1].items() if k.startswith("val_")
            },
        },
    }
    return replace(trained, provenance=provenance)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the annotated sets")
    parser.add_argument("--run", type=Path, required=True, help="folder for checkpoints and the log")
    parser.add_argument("--output", type=Path, required=True, help="model file to write")
    parser.add_argument("--start", type=Path, help="model whose detection is kept; by default the bundled one")
    parser.add_argument("--epochs", type=int, default=15, help="of 400 windows")
    parser.add_argument("--commit", default="unknown", help="commit the run was started from, for the model file")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(2)
    config = TrainConfig(
        epochs=chosen.epochs,
        freeze="trunk",
        patience=0,
        seed=SEED,
        samples=SampleConfig(calm_from=chosen.epochs - max(1, chosen.epochs // 4), empty=0.0),
        heads=HeadConfig(hide_context=0.5),
    )
    start = load(chosen.start)
    tuned = train(chosen.data, chosen.run, start=start, config=config)
    for row in tuned.history:
        log.info("%s", row)
    spec = finished_spec(start.spec, tuned, commit=chosen.commit)
    assert tuned.detector.trunk is not None
    model_file.save(chosen.output, spec, weights_of(tuned.detector.trunk), overwrite=True)
    log.info("%s: %s", chosen.output, spec.heads)


if __name__ == "__main__":
    main()
