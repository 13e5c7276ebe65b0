import numpy as np
import pandas as pd
import pytest

from treedet.errors import ConfigError
from treedet.inference.where import holds

TABLE = pd.DataFrame(
    {
        "geometry": [None] * 5,
        "label": pd.Categorical(["tree"] * 5, categories=["tree", "bush"]),
        "score": np.array([0.9, 0.8, 0.4, 0.6, 0.95], np.float32),
        "status": pd.Categorical(["alive", "dead", None, "dead", None], categories=["alive", "dead"]),
        "status_p": np.array([0.9, 0.6, 0.55, 0.95, 0.5], np.float32),
        "species": pd.Categorical(["QURU", None, "ACRU", "PIST", None], categories=["ACRU", "PIST", "QURU"]),
        "cut": [False, True, True, False, False],
    }
)


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ("status == 'dead'", [0, 1, 0, 1, 0]),
        ("'dead' == status", [0, 1, 0, 1, 0]),
        ("status != 'dead'", [1, 0, 0, 0, 0]),
        ("not status == 'dead'", [1, 0, 0, 0, 0]),
        ("not (status != 'dead')", [0, 1, 0, 1, 0]),
        ("species in ['QURU', 'ACRU']", [1, 0, 1, 0, 0]),
        ("species not in ['QURU', 'ACRU']", [0, 0, 0, 1, 0]),
        ("not species in ('QURU', 'ACRU')", [0, 0, 0, 1, 0]),
        ("species.isin(['PIST'])", [0, 0, 0, 1, 0]),
        ("species == ['PIST']", [0, 0, 0, 1, 0]),
        ("status_p > 0.8 and status == 'dead'", [0, 0, 0, 1, 0]),
        ("(status_p > 0.8) & (status == 'dead')", [0, 0, 0, 1, 0]),
        ("status == 'dead' or score > 0.85", [1, 1, 0, 1, 1]),
        ("status == 'dead' and species == 'PIST'", [0, 0, 0, 1, 0]),
        ("status.isna()", [0, 0, 1, 0, 1]),
        ("status.isna() or status == 'dead'", [0, 1, 1, 1, 1]),
        ("status.notna() and not cut", [1, 0, 0, 1, 0]),
        ("status == status", [1, 1, 0, 1, 0]),
        ("label == 'tree' and score > 0.85", [1, 0, 0, 0, 1]),
        ("label == 'bush'", [0, 0, 0, 0, 0]),
    ],
)
def test_crowns_without_a_value_are_neither_equal_nor_unequal(where, kept):
    found = holds(where, TABLE)
    assert found.dtype == bool
    assert found.tolist() == [bool(value) for value in kept]
    nothing = holds(where, TABLE.iloc[:0])
    assert (nothing.dtype, len(nothing)) == (bool, 0)


@pytest.mark.parametrize("rows", [5, 0])
@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("status == 'Dead'", r"status is never 'Dead'; accepted are 'alive', 'dead', and status\.isna\(\)"),
        ("score > 0.5 and not 'Dead' != status", "status is never 'Dead'"),
        ("species in ['QURU', 'Quercus']", "species is never 'Quercus'; accepted are 'ACRU', 'PIST', 'QURU'"),
        ("species not in ['oak']", "species is never 'oak'"),
        ("label == 'Tree'", "label is never 'Tree'; accepted are 'tree', 'bush'"),
        ("status == None", r"status is never None; .*status\.isna\(\)"),
        ("status == 1", "status is never 1"),
    ],
)
def test_a_name_that_a_column_never_has_is_refused_with_those_it_has(where, says, rows):
    with pytest.raises(ConfigError, match=says) as caught:
        holds(where, TABLE.iloc[:rows])
    message = str(caught.value)
    assert message.startswith(f"condition {where!r} can not be used: ")
    assert "\n" not in message


@pytest.mark.parametrize(
    "where", ["status", "status < 'b'", "p_dead > 0.5", "@TABLE", "table", "where == 1", "status ="]
)
def test_what_is_no_condition_on_columns_is_one_line_with_the_columns_there_are(where):
    with pytest.raises(
        ConfigError, match=r"must be true or false for each crown, with the columns label, score"
    ) as caught:
        holds(where, TABLE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "where", ["status is not None", "status in {'dead'}", "score > 1 / 0", "label.str.contains('(')"]
)
def test_python_that_is_not_evaluated_is_one_line(where):
    with pytest.raises(ConfigError, match="can not be used"):
        holds(where, TABLE)
