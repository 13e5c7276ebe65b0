"""What attribute heads are worth and cost: ``python tests/benchmarks/heads.py --data DATA``.

- ``status``: alive or dead, of the bundled model: crops of the evaluation set, each taken whole; SOAP_061 and the
  plots that were held out from training, with boxes given and with boxes found.
- ``species``: five folds by plot on species-idtrees, against the most frequent species, and that of each site.
- ``cost``: time of heads against that of the trunk, at 100 crowns a window, in one run.

Evaluation sets are looked at to report, never to choose. ``--store`` keeps the figures beside this script.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from machine import commit, machine, versions

from treedet.core.labels import LabelSchema
from treedet.datasets.annotated import AnnotatedRaster, pair
from treedet.datasets.crops import read_crops
from treedet.datasets.sample_config import SampleConfig
from treedet.datasets.sources import place_of
from treedet.inference.describe import describe_boxes
from treedet.inference.detector import Detector
from treedet.inference.loading import load
from treedet.inference.memory import find_crowns
from treedet.metrics.calibration import reliability
from treedet.metrics.matching import match_boxes
from treedet.models.backends.allocator import keep_memory
from treedet.models.backends.eager import EagerBackend
from treedet.models.loss_config import HeadConfig
from treedet.models.trunk import Trunk
from treedet.training.bundled_status import held_out, plots
from treedet.training.config import TrainConfig
from treedet.training.fine_tune import fine_tune
from treedet.training.head_plan import HeadPlan, HeadRecipe
from treedet.training.head_validation import say_crops
from treedet.training.recipe import Recipe
from treedet.vectors.truth import TruthOptions

RESULTS = Path(__file__).parent / "results" / "heads.json"
STATUS = ("alive", "dead")
FOLDS = 5
LEAST_CROWNS = 15
CROWNS = 100
SIDES = (416, 1536)
"""Windows timed: one of 400 px with its padding, and the model's largest."""
SPECIES = TrainConfig(
    epochs=16,
    windows_per_epoch=96,
    batch_size=8,
    freeze="trunk",
    patience=0,
    # Plots of 200 px fill a window of 256. Colour tells species apart, so it is varied little.
    samples=SampleConfig(window_px=256, empty=0.0, calm_from=11, radiometry="calm"),
    heads=HeadConfig(balance="logits", strength=0.5),
)

Ints = npt.NDArray[np.int64]


def two_classes(known: Ints, dead_p: npt.NDArray[np.floating[Any]]) -> dict[str, Any]:
    """Return figures of alive (0) and dead (1) at a probability of one half, and the confusion matrix."""
    said = (dead_p >= 0.5).astype(np.int64)
    matrix = np.zeros((2, 2), np.int64)
    np.add.at(matrix, (known, said), 1)
    right = np.where(said == 1, dead_p, 1 - dead_p)
    found = reliability(right, said == known)
    return {
        "crowns": len(known),
        "accuracy": round(float((said == known).mean()), 4),
        "dead recall": round(float(matrix[1, 1] / max(1, matrix[1].sum())), 4),
        "dead precision": round(float(matrix[1, 1] / max(1, matrix[:, 1].sum())), 4),
        "always alive": round(float((known == 0).mean()), 4),
        "calibration error": round(found.ece, 4),
        "confusion (rows known alive, dead; columns said alive, dead)": matrix.tolist(),
    }


def status(data: Path, model: Path | None) -> dict[str, Any]:
    """Return the figures of the status head."""
    detector = load(model)
    heads = HeadPlan({"status": STATUS})
    crops = read_crops(
        data / "alive-dead-crops/test", attribute="status", gsd=0.1, values={"Alive": "alive", "Dead": "dead"}
    )
    said = say_crops(detector.model, crops, heads)
    rows = {"alive-dead-crops/test": two_classes(said.known[:, 0], said.probabilities["status"][:, 1])}
    truth = TruthOptions(columns={"status": "label"}, values={"status": {"Alive": "alive", "Dead": "dead"}})
    soap = AnnotatedRaster(
        data / "samples/SOAP_061.png", str(data / "samples/testfile_multi.csv"), gsd=0.1, truth=truth
    )
    for name, group in (("SOAP_061", [soap]), ("plots held out", held_out(plots(data), seed=0)[1])):
        rows[f"{name}, boxes given"] = two_classes(*asked(detector, group, "status", given=True)[:2])
        known, dead_p, every = asked(detector, group, "status", given=False)
        rows[f"{name}, boxes found"] = two_classes(known, dead_p) | {"annotated": every}
    return rows


def asked(
    detector: Detector, group: list[AnnotatedRaster], name: str, *, given: bool
) -> tuple[Ints, npt.NDArray[np.float64], int]:
    """Return class and probability of the second class of crowns with a label, and how many of these there are."""
    known, values, every = [], [], 0
    for plot in group:
        codes, p, labelled = answers(detector, plot, name, given=given)
        known.append(codes)
        values.append(p[:, 1])
        every += labelled
    return np.concatenate(known), np.concatenate(values).astype(float), every


def answers(
    detector: Detector, plot: AnnotatedRaster, name: str, *, given: bool
) -> tuple[Ints, npt.NDArray[np.floating[Any]], int]:
    """Return classes ``[N]`` and probabilities ``[N, K]`` of labelled crowns, and how many there are in all."""
    heads = HeadPlan({name: detector.spec.labels.attributes[name]})
    codes = heads.said(plot)[:, 0]
    labelled = np.flatnonzero(codes >= 0)
    if given:
        with plot.open() as raster:
            return codes[labelled], describe_boxes(raster, detector.model, plot.boxes[labelled])[name], len(labelled)
    with plot.open() as raster:
        found = find_crowns(raster, detector.model)
    truth, predicted = match_boxes(plot.boxes, found.boxes, iou_threshold=0.4)
    keep = codes[truth] >= 0
    return codes[truth[keep]], found.attributes[name][predicted[keep]], len(labelled)


def macro_f1(known: Ints, said: Ints) -> float:
    """Return the mean F1 of the classes that occur."""
    scores = []
    for one in np.unique(known):
        right = float(((known == one) & (said == one)).sum())
        scores.append(2 * right / ((known == one).sum() + (said == one).sum()))
    return float(np.mean(scores))


def species(data: Path, model: Path | None) -> dict[str, Any]:
    """Return accuracy and macro F1 of species by fold, of the head and of what needs no image."""
    folder = data / "species-idtrees"
    truth = TruthOptions(columns={"species": "label"}, drop=True)
    every = pair(folder, folder / "annotations.csv", truth=truth)
    places = sorted({place_of(plot.path) for plot in every})
    fold_of = dict(zip(places, np.random.default_rng(0).permutation(len(places)) % FOLDS, strict=True))
    total: dict[str, int] = {}
    for plot in every:
        for name in plot.crowns["species"].dropna().astype(str):
            total[name] = total.get(name, 0) + 1
    names = tuple(sorted(name for name, count in total.items() if count >= LEAST_CROWNS))
    rows, matrices = [], []
    for number in range(FOLDS):
        row, matrix = fold(every, fold_of, number, names, model)
        print(row, flush=True)
        rows.append(row)
        matrices.append(matrix)
    matrix = np.sum(matrices, axis=0)
    mean = {key: round(float(np.mean([row[key] for row in rows])), 3) for key in rows[0] if key != "fold"}
    return {
        "species": list(names),
        "folds": rows,
        "mean": mean,
        "confusion, boxes given (rows known)": matrix.tolist(),
    }


def fold(
    every: list[AnnotatedRaster], fold_of: dict[str, int], number: int, names: tuple[str, ...], model: Path | None
) -> tuple[dict[str, Any], Ints]:
    """Train on four folds, and return the figures of the fifth, and its confusion matrix with boxes given."""
    test = [plot for plot in every if fold_of[place_of(plot.path)] == number]
    train = [plot for plot in every if fold_of[place_of(plot.path)] != number]
    # Rare taxa are left out of both sides, as the target asks.
    recipe = Recipe(
        annotation="complete",
        classes=("tree",),
        validation_share=0.0,
        heads=HeadRecipe({"species": ()}, min_crowns=LEAST_CROWNS - 5, rare="out"),
    )
    with tempfile.TemporaryDirectory() as run:
        tuned = fine_tune(load(model), train, config=SPECIES, recipe=recipe, run=Path(run) / "run")
    detector = tuned.detector
    order = detector.spec.labels.attributes["species"]
    place = {name: names.index(name) for name in order if name in names}
    to_common = np.array([place.get(name, -1) for name in order])
    row: dict[str, Any] = {"fold": number}
    matrix = np.zeros((len(names), len(names)), np.int64)
    sites = usual_by_site(train, names)
    for how, given in (("given", True), ("found", False)):
        known, said, usual, by_site, labelled = [], [], [], [], 0
        for plot in test:
            codes, p, _ = answers(detector, replace_schema(plot), "species", given=given)
            classes = to_common[codes]
            kept = classes >= 0
            known.append(classes[kept])
            said.append(to_common[p[kept].argmax(axis=1)])
            usual.append(np.full(int(kept.sum()), sites[""]))
            by_site.append(np.full(int(kept.sum()), sites.get(place_of(plot.path)[:4], sites[""])))
            labelled += int(plot.crowns["species"].isin(list(names)).sum())
        truth, answer = np.concatenate(known), np.concatenate(said)
        for what, values in (
            ("head", answer),
            ("majority", np.concatenate(usual)),
            ("site", np.concatenate(by_site)),
        ):
            row[f"{what} accuracy, boxes {how}"] = round(float((truth == values).mean()), 3)
            row[f"{what} macro F1, boxes {how}"] = round(macro_f1(truth, values), 3)
        row[f"crowns, boxes {how}"] = len(truth)
        row["labelled"] = labelled
        if given:
            np.add.at(matrix, (truth, answer), 1)
    return row, matrix


def replace_schema(plot: AnnotatedRaster) -> AnnotatedRaster:
    """Return the plot with all its crowns trees, as the detector calls them."""
    return plot.renamed(dict.fromkeys(map(str, plot.labels), "tree"))


def usual_by_site(train: list[AnnotatedRaster], names: tuple[str, ...]) -> dict[str, int]:
    """Return the most frequent species of each site, and of all under the empty name."""
    counts: dict[str, np.ndarray[Any, Any]] = {"": np.zeros(len(names))}
    for plot in train:
        site = counts.setdefault(place_of(plot.path)[:4], np.zeros(len(names)))
        for name in plot.crowns["species"].dropna().astype(str):
            if name in names:
                site[names.index(name)] += 1
                counts[""][names.index(name)] += 1
    return {site: int(seen.argmax()) for site, seen in counts.items()}


def cost(data: Path, model: Path | None) -> dict[str, Any]:
    """Return how long heads take against the trunk, medians of one run; the machine may be shared."""
    del data
    detector = load(model)
    rng = np.random.default_rng(0)
    rows: dict[str, Any] = {}
    for attributes in ({"status": STATUS}, {"status": STATUS, "species": tuple(f"species {n}" for n in range(20))}):
        spec = replace(detector.spec, labels=LabelSchema(attributes=attributes), heads={})
        trunk = Trunk(spec).eval()
        for precision in ("bf16", "fp32"):
            backend = EagerBackend(trunk, precision=precision)
            for side in SIDES:
                centres = rng.uniform(40, side - 40, (CROWNS, 2))
                half = rng.uniform(15, 35, (CROWNS, 2))
                boxes = [torch.tensor(np.hstack([centres - half, centres + half]), dtype=torch.float32)]
                pixels = rng.integers(0, 255, (1, 3, side, side), dtype=np.uint8)
                before, after = [], []
                for _ in range(15 if side < 1000 else 5):
                    t0 = time.perf_counter()
                    out = backend.trunk(pixels)
                    t1 = time.perf_counter()
                    backend.attributes(out, boxes, size=(side, side))
                    before.append(t1 - t0)
                    after.append(time.perf_counter() - t1)
                share = float(np.median(after) / np.median(before))
                key = f"{len(attributes)} heads, {precision}, window of {side} px"
                rows[key] = {
                    "trunk ms": round(1e3 * float(np.median(before)), 1),
                    "heads ms": round(1e3 * float(np.median(after)), 1),
                    "share": round(share, 3),
                }
                print(key, rows[key], flush=True)
    return rows


ROWS: dict[str, Callable[[Path, Path | None], dict[str, Any]]] = {"status": status, "species": species, "cost": cost}


def main(arguments: list[str] | None = None) -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the annotated sets")
    parser.add_argument("--model", type=Path, help="model file; the bundled one by default")
    parser.add_argument("--only", choices=list(ROWS), nargs="*", default=list(ROWS))
    parser.add_argument("--store", action="store_true", help="keep the figures beside this script")
    chosen = parser.parse_args(arguments)
    logging.getLogger("treedet").setLevel(logging.ERROR)
    torch.set_num_threads(2)
    keep_memory()
    for name in chosen.only:
        found = ROWS[name](chosen.data, chosen.model)
        print(json.dumps({name: found}, indent=1))
        if chosen.store:
            kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
            kept[name] = {**found, "commit": commit(), "machine": machine(), "versions": versions()}
            RESULTS.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
