from collections import Counter

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from factories import UTM, make_raster

from treedet.core.labels import LabelSchema
from treedet.datasets.annotated import AnnotatedRaster
from treedet.datasets.attributes import added, attribute_codes, attribute_counts, attribute_schema
from treedet.errors import ConfigError, CrownsError

STATUS = {"status": ("alive", "dead")}


def plot(folder, **columns):
    left = 500_001 + 2 * np.arange(3)
    crowns = gpd.GeoDataFrame(columns, geometry=shapely.box(left, 5_399_990, left + 1, 5_399_992), crs=UTM)
    return AnnotatedRaster(make_raster(folder / "a.tif", np.full((3, 150, 200), 90, np.uint8)), crowns)


def decide(known=None, **counts):
    options = {name: counts.pop(name) for name in ("wanted", "min_crowns", "rare") if name in counts}
    counters = {name: Counter(values) for name, values in counts.items()}
    return attribute_schema(counters, known=known or {}, **options)


def test_the_crowns_of_a_plot_are_counted_by_value(tmp_path):
    crowns = plot(tmp_path, status=["Live", None, "Live"], SP_CODE=["a", "b", "b"]).crowns
    assert attribute_counts(crowns) == {"status": Counter(Live=2), "species": Counter(a=1, b=2)}
    assert added([attribute_counts(crowns)] * 2)["species"] == Counter(a=2, b=4)


def test_a_column_that_is_all_empty_has_no_counts(tmp_path):
    assert attribute_counts(plot(tmp_path, status=["UNKNOWN", None, ""]).crowns) == {"status": Counter()}


def test_classes_of_the_model_come_first_in_its_order_and_spelling():
    found = decide({"status": ("dead", "alive")}, status={"Alive": 5, "DEAD": 2, "burnt": 3})
    assert found.classes == {"status": ("dead", "alive", "burnt")}
    assert found.renaming["status"] == {"Alive": "alive", "DEAD": "dead", "burnt": "burnt"}
    assert found.counts({"status": Counter({"Alive": 5, "DEAD": 2, "burnt": 3})}) == {
        "status": {"dead": 2, "alive": 5, "burnt": 3}
    }


def test_a_class_of_the_model_that_does_not_occur_is_left_out_and_said():
    found = decide({"species": ("PISY", "PIAB", "LADE")}, species={"PIAB": 3, "BEPE": 4})
    assert found.classes == {"species": ("PIAB", "BEPE")}
    assert found.lines == (
        "attribute species: classes of the starting model that are no longer classes: 'PISY', 'LADE'",
    )


def test_attributes_stand_in_the_order_of_the_model_then_by_name():
    two = {"a": 2, "b": 2}
    found = decide({"status": ("a", "b"), "age": ("a", "b")}, age=two, zone=two, species=two, status=two)
    assert list(found.classes) == ["status", "age", "species", "zone"]
    LabelSchema(attributes=dict(found.classes))


def test_rare_classes_are_left_out_with_their_counts():
    found = decide(species={"A": 30, "B": 20, "C": 2, "D": 1}, min_crowns=5)
    assert found.classes["species"] == ("A", "B")
    assert found.renaming["species"] == {"A": "A", "B": "B", "C": None, "D": None}
    assert found.lines == ("attribute species: classes of fewer than 5 crowns are left out: C 2, D 1",)


def test_rare_classes_are_merged_into_other_where_it_reaches_the_minimum():
    found = decide(species={"Z": 30, "B": 20, "C": 3, "D": 1, "other": 2}, min_crowns=6, rare="other")
    assert found.classes["species"] == ("B", "Z", "other")
    assert found.renaming["species"]["C"] == found.renaming["species"]["other"] == "other"
    assert "merged into 'other', which has 6: C 3, D 1, other 2" in found.lines[0]
    assert found.counts({"species": Counter(C=3, D=1, other=2)})["species"]["other"] == 6


def test_an_other_that_stays_rare_is_left_out_too():
    found = decide(species={"A": 30, "B": 20, "C": 2, "other": 2}, min_crowns=5, rare="other")
    assert found.classes["species"] == ("A", "B")
    assert found.renaming["species"]["C"] is found.renaming["species"]["other"] is None
    assert "left out, since together they are 4 only: C 2, other 2" in found.lines[0]


def test_a_frequent_other_takes_the_rare_ones():
    found = decide(species={"A": 30, "C": 2, "other": 20}, min_crowns=5, rare="other")
    assert found.classes["species"] == ("A", "other")
    assert found.renaming["species"] == {"A": "A", "C": "other", "other": "other"}


def test_classes_that_are_stated_are_the_schema_however_rare():
    found = decide(
        STATUS, wanted={"status": ("dead", "burnt", "alive")}, status={"Alive": 9, "dead": 1}, min_crowns=5
    )
    assert found.classes == {"status": ("dead", "burnt", "alive")}
    assert found.renaming == {"status": {"Alive": "alive", "dead": "dead"}}
    assert found.lines == ("attribute status: no crown is 'burnt', so it is not learned",)


def test_a_value_that_is_not_in_the_schema_is_an_error_in_one_line():
    with pytest.raises(CrownsError) as error:
        decide(wanted=STATUS, status={"alive": 9, "dead": 4, "Downed": 2, "Snag": 1})
    assert str(error.value) == (
        "attribute 'status': 3 crowns are 'Downed', 'Snag', not among its classes; accepted are 'alive', 'dead': add "
        'a class, or say what they are with values= (values: {status: {"Downed": alive}}, or null to leave them out)'
    )


@pytest.mark.parametrize(
    ("status", "what"),
    [
        ({}, "its column is all empty; fill it in, or name another with columns="),
        ({"alive": 7}, "all its 7 crowns with a label are 'alive'; label crowns of another class too"),
        ({"alive": 7, "dead": 2}, "only 'alive' has 5 crowns or more; label more crowns, or lower min_crowns"),
        ({"alive": 2, "dead": 2}, "no class has 5 crowns or more"),
    ],
    ids=["all empty", "one class", "one class that is not rare", "all rare"],
)
def test_what_can_not_be_learned_is_an_error_where_it_was_asked_for_else_a_line(status, what):
    two = {"a": 9, "b": 9}
    found = decide(status=status, species=two, min_crowns=5)
    assert list(found.classes) == ["species"]
    assert found.lines[-1].startswith(f"attribute status is not learned: {what}")
    with pytest.raises(ConfigError, match="attribute 'status' can not be learned: ") as error:
        decide(wanted={"status": ()}, status=status, species=two, min_crowns=5)
    assert what in str(error.value)


def test_one_of_two_classes_that_are_stated_is_not_enough():
    with pytest.raises(ConfigError, match="all its 7 crowns with a label are 'alive'"):
        decide(wanted=STATUS, status={"alive": 7})


def test_an_attribute_that_is_asked_for_and_in_no_file_is_an_error():
    with pytest.raises(ConfigError, match=r"'species' is in no annotation, which has status; .*--columns.species"):
        decide(wanted={"species": ()}, status={"alive": 1, "dead": 1})


def test_an_attribute_that_is_not_asked_for_is_passed_over_with_a_line():
    found = decide(wanted={"status": ()}, status={"alive": 1, "dead": 1}, species={"a": 1, "b": 1})
    assert list(found.classes) == ["status"]
    assert found.lines == ("attribute species is not learned: it was not asked for",)


def test_two_attributes_with_the_same_name_are_refused():
    for counts, known in (({"Status": {"a": 1}, "status": {"a": 1}}, {}), ({"Status": {"a": 1}}, STATUS)):
        with pytest.raises(ConfigError, match=r"two attributes have the same name.*rename one"):
            decide(known, **counts)


def test_values_that_differ_in_case_alone_stay_apart_and_are_said():
    found = decide(species={"PISY": 3, "pisy": 2, "BEPE": 3})
    assert found.classes["species"] == ("BEPE", "PISY", "pisy")
    assert found.lines == (
        "attribute species: 'PISY', 'pisy' differ in case alone; bring them together with values=",
    )


@pytest.mark.parametrize("wrong", [{"min_crowns": 0}, {"rare": "some"}])
def test_options_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ConfigError, match="min_crowns must be at least 1 and rare one of other, out"):
        decide(status={"a": 1, "b": 1}, **wrong)


def test_codes_follow_the_schema_and_what_is_not_known_is_minus_one():
    crowns = pd.DataFrame(
        {"status": pd.Categorical(["Dead", None, "alive", "gone"]), "species": ["b", "a", np.nan, "rare"]}
    )
    classes = {"species": ("a", "b"), "status": ("alive", "dead"), "age": ("old", "young")}
    renaming = {"status": {"Dead": "dead", "gone": None}, "species": {"rare": None}}
    codes = attribute_codes(crowns, classes, renaming, strict=True)
    assert codes.dtype == np.int64
    assert codes.tolist() == [[1, 1, -1], [0, -1, -1], [-1, 0, -1], [-1, -1, -1]]
    assert attribute_codes(crowns[:0], classes, renaming).shape == (0, 3)


def test_a_value_outside_the_schema_is_refused_where_that_is_asked_for():
    crowns = pd.DataFrame({"status": ["dead", "gone", "gone"]})
    assert attribute_codes(crowns, STATUS, {}).tolist() == [[1], [-1], [-1]]
    with pytest.raises(CrownsError, match="2 crowns are 'gone', not among its classes; accepted are 'alive', 'dead'"):
        attribute_codes(crowns, STATUS, {}, strict=True)
