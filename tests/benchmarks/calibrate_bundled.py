"""Calibrates the bundled model: ``python tests/benchmarks/calibrate_bundled.py --data DATA --model M --output O``.

On the images of the training sets that were held out from training, the same that its thresholds were chosen on. No
evaluation set is looked at.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from treedet.datasets.annotated import AnnotatedRaster, pair
from treedet.datasets.sources import SOURCES, load_source, split_by_place
from treedet.evaluation.calibrate import calibrate
from treedet.inference.loading import load
from treedet.training.bundled import HELD_OUT, SPLIT_SEED


def held_out(data: Path) -> tuple[list[AnnotatedRaster], list[str]]:
    """Return the held-out images of every training set, and the set of each."""
    plots, groups = [], []
    for source in SOURCES:
        _, held = split_by_place(load_source(data, source), share=HELD_OUT, seed=SPLIT_SEED)
        if not held:
            continue
        annotations = data / source.annotations
        found = pair([annotations.parent / image.name for image in held], annotations, gsd=source.gsd)
        plots += found
        groups += [source.name] * len(found)
    return plots, groups


def main() -> None:
    """Calibrate from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the annotated sets")
    parser.add_argument("--model", type=Path, help="model file; the bundled one by default")
    parser.add_argument("--output", type=Path, required=True, help="model file to write")
    given = parser.parse_args()
    plots, groups = held_out(given.data)
    result = calibrate(load(given.model), plots, groups=groups, tell=lambda what: print(what, file=sys.stderr))
    result.detector.save(given.output, overwrite=True)
    print("\n".join(result.lines()))


if __name__ == "__main__":
    main()
