import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from affine import Affine

from treedet.core.crown_arrays import CrownArrays
from treedet.core.grid import Grid
from treedet.core.labels import LabelSchema
from treedet.inference.tally import ClassRow, ClassTally, table_lines

SCHEMA = LabelSchema(classes=("tree", "bush"), attributes={"status": ("alive", "dead")})
GRID = Grid.build(None, Affine.identity(), width=500, height=400, gsd=0.5)


def crowns(alive_p, classes=None, side=10.0):
    alive = np.asarray(alive_p, np.float32)
    n = len(alive)
    return CrownArrays(
        boxes=np.tile([20.0, 20, 20 + side, 20 + side], (n, 1)),
        scores=np.ones(n, np.float32),
        classes=np.zeros(n, np.int64) if classes is None else np.asarray(classes),
        cut=np.zeros(n, bool),
        edge=np.zeros(n, bool),
        attributes={"status": np.stack([alive, 1 - alive], axis=1).reshape(n, 2)},
    )


def test_crowns_are_counted_by_label_and_attribute_part_by_part():
    tally = ClassTally(SCHEMA, GRID, min_p=0.7)
    tally.add(crowns([0.9, 0.8, 0.6], [0, 1, 0]))
    tally.add(crowns([]))
    tally.add(crowns([0.1, 0.45], [0, 0], side=20.0))
    small, large = math.pi / 4 * 5**2, math.pi / 4 * 10**2
    tables = tally.tables(2.0)
    assert tables["label"] == (
        ClassRow("tree", 4, 0.8, pytest.approx(2 * small + 2 * large), 2.0),
        ClassRow("bush", 1, 0.2, pytest.approx(small), 0.5),
    )
    assert tables["status"] == (
        ClassRow("alive", 2, 0.4, pytest.approx(2 * small), 1.0),
        ClassRow("dead", 1, 0.2, pytest.approx(large), 0.5),
        ClassRow(None, 2, 0.4, pytest.approx(small + large), 1.0),
    )
    assert json.loads(json.dumps([asdict(row) for row in tables["status"]]))[2]["name"] is None


def test_one_class_without_attributes_has_no_table_and_no_crowns_no_division():
    assert ClassTally(LabelSchema(), GRID).tables(1.0) == {}
    assert ClassTally(SCHEMA, GRID).tables(0.0)["status"] == tuple(
        ClassRow(name, 0, 0.0, 0.0, 0.0) for name in ("alive", "dead", None)
    )


@pytest.mark.parametrize(
    ("dead", "known", "unknown", "doubted"),
    [
        (26, 50, 0, True),
        (25, 50, 0, False),
        (49, 49, 0, False),
        (49, 49, 9, False),
        (30, 50, 500, True),
        (0, 0, 0, 0),
    ],
)
def test_more_dead_than_alive_among_many_is_doubted(dead, known, unknown, doubted):
    tally = ClassTally(SCHEMA, GRID, min_p=0.7)
    tally.add(crowns([0.1] * dead + [0.9] * (known - dead) + [0.6] * unknown))
    assert len(tally.cautions) == doubted
    for text in tally.cautions:
        assert text.startswith(f"{dead / known:.0%} of {known} crowns with a status are said to be dead")
        assert "leaf-off imagery, burnt or flooded ground?" in text
        assert "\n" not in text


@pytest.mark.parametrize("attributes", [{}, {"status": ("healthy", "sick")}, {"health": ("alive", "dead")}])
def test_only_a_status_of_dead_is_doubted(attributes):
    schema = LabelSchema(attributes=attributes)
    tally = ClassTally(schema, GRID)
    found = crowns([0.1] * 99)
    tally.add(
        CrownArrays(
            found.boxes,
            found.scores,
            found.classes,
            found.cut,
            found.edge,
            dict.fromkeys(attributes, found.attributes["status"]),
        )
    )
    assert tally.cautions == ()


def test_rows_are_aligned_and_the_rarest_of_many_are_one():
    rows = [ClassRow(f"SP{i:02d}", i, i / 900, 1000.0 * i, i / 2) for i in range(40)]
    rows.append(ClassRow(None, 120, 0.1333, 12_000.0, 60.0))
    lines = table_lines("species", rows)
    assert len({len(line) for line in lines}) == 1
    assert [line.split()[0] for line in lines] == ["species", *(f"SP{i}" for i in range(39, 28, -1)), "29", "no"]
    assert lines[-2].split() == ["29", "others", "406", "45.1%", "406,000", "203.0"]
    assert lines[-1].split() == ["no", "value", "120", "13.3%", "12,000", "60.0"]


def test_long_names_widen_the_table_and_no_missing_value_has_no_row():
    rows = [ClassRow("Pinus sylvestris var. hamata", 1, 1.0, 3.0, 1.0), ClassRow(None, 0, 0.0, 0.0, 0.0)]
    lines = table_lines("species", rows)
    assert len(lines) == 2
    assert len(lines[0]) == len(lines[1])
