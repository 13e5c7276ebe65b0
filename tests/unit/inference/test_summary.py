import json
from dataclasses import fields, replace

from treedet.inference.summary import Summary
from treedet.inference.tally import ClassRow, table_lines

RUN = Summary(
    source="a.tif",
    output="out.gpkg",
    crowns=12_345,
    hectares=50.0,
    canopy_cover=0.4567,
    cut=0,
    cure_m=0.0,
    windows=1200,
    skipped=7,
    seconds=20.0,
    network_s=15.0,
    megapixels=50.0,
    gsd=0.0312345,
    gsd_reason="from the file",
    model_gsd=0.1,
    mode="adapt",
    bands=(1, 2, 3),
    bands_reason="by colour interpretation",
    stretch=None,
    crs="WGS 84 / UTM zone 32N",
    model="crowns (0123456789ab)",
    device="cpu",
    precision="fp32",
    score_threshold=0.3,
    iou_threshold=0.4,
    ios_threshold=0.6,
    window_px=(1536, 1280),
    overlap_px=206,
    aoi=None,
    filters="",
    version="0.1.0",
)


def test_rates():
    assert RUN.per_hectare == 246.9
    assert RUN.megapixels_per_s == 2.5
    nothing = replace(RUN, crowns=0, hectares=0.0, seconds=0.0)
    assert (nothing.per_hectare, nothing.megapixels_per_s) == (0.0, 0.0)
    assert nothing.lines()[0].startswith("0 crowns on 0.00 ha: 0.0 per hectare")


def test_lines_say_what_was_found_and_how():
    lines = RUN.lines()
    assert lines[0] == "12,345 crowns on 50.00 ha: 246.9 per hectare, canopy cover 45.7%"
    text = "\n".join(lines)
    for part in (
        "0.03123 m (from the file)",
        "none (8 bit)",
        "1,200 of 1536 x 1280 px",
        "overlap 206 px",
        "7 without",
    ):
        assert part in text
    assert lines[-1] == "written    out.gpkg (WGS 84 / UTM zone 32N)"
    assert [line.split()[0] for line in lines[1:]] == ["GSD", "bands", "model", "windows", "time", "written"]


def test_lines_name_filters_the_stretch_and_the_cure_for_cut_crowns():
    text = "\n".join(
        replace(RUN, cut=3, cure_m=31.6, filters="score > 0.5", stretch=(12.0, 3400.5), output="").lines()
    )
    assert "3 crowns, some as wide as the overlap; --max_crown 32 would see them whole" in text
    assert "kept       score > 0.5" in text
    assert "stretch 12 to 3400.5" in text
    assert "written" not in text


def test_imagery_seen_as_it_is_is_said():
    line = replace(RUN, gsd=0.3, model_gsd=0.3, mode="native").lines()[1]
    assert line == "GSD        0.3 m (from the file), seen by the model at 0.3 m, as it is (native)"
    assert "native" not in "\n".join(RUN.lines())


def test_crowns_by_class_and_the_least_probability_are_said():
    rows = (ClassRow("alive", 9000, 0.75, 1e5, 180.0), ClassRow("dead", 345, 0.25, 900.0, 6.9))
    run = replace(RUN, classes={"status": rows}, min_p=0.7, cautions=("doubt",))
    lines = run.lines()
    assert "attributes left empty below a probability of 0.7" in lines
    assert lines[-4:-1] == table_lines("status", rows)
    facts = json.loads(json.dumps(run.to_dict()))
    assert facts["classes"]["status"][1] == {
        "name": "dead",
        "crowns": 345,
        "share": 0.25,
        "crown_m2": 900.0,
        "per_hectare": 6.9,
    }
    assert (facts["min_p"], facts["cautions"]) == (0.7, ["doubt"])
    assert "probability" not in "\n".join(RUN.lines())


def test_facts_are_json_and_complete():
    facts = json.loads(json.dumps(RUN.to_dict()))
    assert set(facts) == {f.name for f in fields(Summary)} | {"per_hectare", "megapixels_per_s"}
    assert facts["window_px"] == [1536, 1280]
