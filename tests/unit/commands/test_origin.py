import json
from dataclasses import asdict, replace

from treedet.commands.origin import origin_lines
from treedet.datasets.sample_config import SampleConfig
from treedet.models.transfer import TransferReport
from treedet.training.config import TrainConfig


def stored(**facts):
    """Facts as they come back from a model file."""
    return json.loads(json.dumps(facts, default=str))


def test_plain_facts_are_a_line_each():
    lines = origin_lines(stored(start="random weights", seed=0, licence="MIT"))
    assert lines == ["start      random weights", "seed       0", "licence    MIT"]


def test_settings_are_told_by_what_differs():
    usual = TrainConfig()
    assert origin_lines(stored(config=asdict(usual))) == ["config     defaults"]
    other = replace(usual, epochs=7, seed=4, samples=SampleConfig(gsd=0.25, zoom=(0.5, 2.0), calm_from=6))
    assert origin_lines(stored(config=asdict(other))) == ["config     defaults but for epochs 7, samples.zoom 0.5, 2"]


def test_a_setting_of_another_version_is_told_too():
    facts = {**asdict(TrainConfig()), "momentous": True}
    assert origin_lines(stored(config=facts)) == ["config     defaults but for momentous True"]


def test_a_transfer_is_told_as_it_was_reported():
    report = TransferReport(("head.regression_head.bbox_reg.weight", "b"), {"ash": "tree"}, ("class oak",), ())
    lines = origin_lines(stored(transfer=report.to_dict()))
    assert [line[11:] for line in lines] == report.lines()
    assert [line[:11].strip() for line in lines] == ["transfer", *[""] * (len(lines) - 1)]
    assert origin_lines(stored(transfer=None)) == ["transfer   none"]


def test_crowns_are_two_lines_and_the_cautions():
    side = {"parts": 1, "hectares": 1.234, "crowns": {"ash": 3, "oak": 40}, "others": {}, "empty_share": 0.1}
    sizes = {"smallest": 1.26, "median": 4.0, "p95": 8.0, "widest": 9.96, "longest_side": 12.0}
    nothing = {"parts": 0, "hectares": 0.0, "crowns": {"ash": 0, "oak": 0}, "others": {}, "empty_share": 0.0}
    facts = {
        "train": side,
        "validation": nothing,
        "diameters": sizes,
        "cautions": ["few of them"],
        "rasters": [side] * 9,
    }
    assert origin_lines(stored(crowns=facts)) == [
        "crowns     train ash 3, oak 40 on 1.23 ha; validation none",
        "           diameters 1.3 to 10.0 m, median 4.0 m",
        "           caution: few of them",
    ]


def test_long_things_are_cut_and_nothing_is_a_raw_dictionary():
    facts = stored(
        data="ab" * 32,
        rasters=[f"{i}.tif" for i in range(9)],
        packages={"torch": "2.1", "numpy": "2.0"},
        validation={"threshold": 0.4, "f1": 0.66666666},
        odd={"a": {"b": {"c": 1}}, "l": []},
        transfer="by hand",
        crowns={"few": 1},
        empty={},
    )
    lines = origin_lines(facts)
    assert lines == [
        "data       abababababab",
        "rasters    0.tif, 1.tif, 2.tif and 6 more",
        "packages   torch 2.1, numpy 2.0",
        "validation threshold 0.4, f1 0.6667",
        "odd        a 1 entries, l none",
        "transfer   by hand",
        "crowns     few 1",
        "empty      none",
    ]


def test_calibration_rasters_are_counted_and_a_few_named():
    prints = {f"{number:016x}": f"plot_{number}.tif" for number in range(5)}
    (line,) = origin_lines({"calibration rasters": prints})
    assert line == "calibration rasters 5: plot_0.tif, plot_1.tif, plot_2.tif and 2 more"
