import numpy as np
import pandas as pd
import pytest

from treedet.evaluation import answers


def rasters(truth, predicted):
    return pd.DataFrame({"truth": truth, "predicted": predicted})


def row(truth, predicted, **values):
    total = {"truth": sum(truth), "predicted": sum(predicted), "rasters": len(truth)}
    return {**total, "micro_recall": 0.9, "micro_precision": 0.9, **values}


@pytest.mark.parametrize(
    ("truth", "predicted", "verdict"),
    [
        ([100] * 8, [98, 102, 101, 97, 103, 99, 100, 96], "For totals, yes"),
        ([100] * 8, [140, 150, 145, 160, 139, 141, 155, 150], "No: 48 % too many"),
        ([100] * 8, [95, 80, 92, 85, 96, 84, 97, 90], "With care"),
        ([100] * 8, [20, 180, 40, 170, 60, 150, 30, 160], "Not settled"),
        ([100] * 3, [100] * 3, "Not settled: right in total here, but 3 rasters say little"),
        ([100], [96], "Not settled: 4 % too few here, but one raster says little"),
    ],
)
def test_the_count_is_trusted_only_where_the_rasters_allow_it(truth, predicted, verdict):
    found = answers.of_count(row(truth, predicted), rasters(truth, predicted))
    assert found.answer.startswith(verdict)


def test_a_count_that_is_right_by_chance_is_said():
    truth = predicted = [100] * 8
    found = answers.of_count(row(truth, predicted, micro_recall=0.5, micro_precision=0.5), rasters(truth, predicted))
    assert any("cancel out" in sentence for sentence in found.sentences)
    honest = answers.of_count(row(truth, predicted), rasters(truth, predicted))
    assert not any("cancel out" in sentence for sentence in honest.sentences)


def test_rasters_without_trees_have_an_answer():
    assert answers.of_count(row([0], [3]), rasters([0], [3])).answer == "It counts 3 where there is none"
    assert answers.headline(row([0], [0])) == "There are no crowns here; it finds none, as it should."


def table(f1, gsds=(0.1, 0.2, 0.3), mode="adapt"):
    return pd.DataFrame({"gsd": gsds, "mode": mode, "f1": f1})


@pytest.mark.parametrize(
    ("f1", "answer"),
    [
        ([0.7, 0.68, 0.66], "Holds from 0.1 m to 0.3 m"),
        ([0.7, 0.66, 0.3], "Holds from 0.1 m to 0.2 m"),
        ([0.7, 0.5, 0.69], "Best at 0.1 m, worse"),
    ],
)
def test_a_resolution_holds_until_the_first_that_does_not(f1, answer):
    found = answers.at_resolution(table(f1), model_gsd=0.1)
    assert found.answer.startswith(answer)
    assert [share for _, share, _ in found.bars] == f1


def test_a_better_mode_is_named():
    both = pd.concat([table([0.7, 0.5, 0.4]), table([0.6, 0.3], (0.2, 0.3), "native")], ignore_index=True)
    sentences = answers.at_resolution(both, model_gsd=None).sentences
    assert any("native, it does better at 0.2 m." in sentence for sentence in sentences)


def test_one_resolution_or_none_is_said():
    assert answers.at_resolution(table([0.7], (0.1,)), model_gsd=0.1).answer == "Measured at 0.1 m per pixel only"
    assert answers.at_resolution(table([0.7], (np.nan,)), model_gsd=None).answer == "Not tied to imagery"


def test_sizes_without_crowns_are_left_out():
    sizes = pd.DataFrame({"low_m": [0, 2], "high_m": [2, np.inf], "truth": [0, 40], "recall": [np.nan, 0.5]})
    found = answers.of_sizes({"truth": 40, "smallest_m": 2.6}, sizes)
    assert found.answer == "Finds at least half from 2.6 m diameter up"
    assert found.bars == (("over 2 m", 0.5, "50 % of 40"),)
    assert "Too few crowns (12)" in answers.of_sizes({"truth": 12}, sizes[:0]).answer
    assert "no diameter" in answers.of_sizes({"truth": 400, "smallest_m": np.nan}, sizes).answer


def test_without_crowns_no_resolution_is_best():
    nothing = table([np.nan] * 3).assign(recall=np.nan)
    assert answers.at_resolution(nothing, model_gsd=0.1).answer == "No crowns to find"
    assert answers.at_resolution(table([0.0] * 3), model_gsd=0.1).answer == "Finds next to nothing at any"


def test_a_sweep_in_another_mode_alone_is_told():
    both = pd.concat([table([0.7], (0.1,)), table([0.68, 0.3], (0.2, 0.3), "native")], ignore_index=True)
    found = answers.at_resolution(both, model_gsd=0.1)
    assert found.answer.startswith("Holds from 0.1 m to 0.2 m")
    assert "Coarser imagery was read in the mode native." in found.sentences


def test_crowns_of_a_file_are_not_said_to_have_other_resolutions():
    assert answers.at_resolution(table([0.7], (0.1,)), model_gsd=None).sentences == ()


def test_many_rasters_without_an_interval_are_not_called_few():
    stems = {"points": 900, "rasters": 30, "count_bias_rel": 0.04}
    assert answers.of_count(stems, pd.DataFrame()).answer == "Not settled: 4 % too many here, without an interval"


def test_stems_have_a_headline_where_nothing_is_found():
    row = {"points": 12, "predicted": 0, "micro_recall": 0.0}
    assert answers.headline(row, trees="stems") == "Finds nothing: all 12 stems are missed."
    assert "nothing says" in answers.headline({"points": 0}, trees="stems")


def test_the_interval_of_a_count_is_of_what_is_counted():
    # Matched across the AOI's border, crowns enter precision but not the count.
    by_raster = rasters([100] * 6, [130] * 6).assign(count_difference=2)
    assert answers.count_interval(by_raster, draws=50, seed=0) == answers.Interval(0.02, 0.02)
