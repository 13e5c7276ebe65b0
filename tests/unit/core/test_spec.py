import json

import pytest
from factories import tiny_spec

from treedet.core.labels import LabelSchema
from treedet.core.spec import HeadFacts, ModelSpec, ResolutionChoice
from treedet.errors import ConfigError

CHOICES = (
    ResolutionChoice(0.5, "native", 0.31, 0.33),
    ResolutionChoice(0.2, "adapt", 0.62, 0.55),
    ResolutionChoice(1.0, "adapt", 0.1, 0.05),
)


@pytest.mark.parametrize(
    ("gsd", "mode"),
    [
        (0.101, "adapt"),
        (0.2, "adapt"),
        (0.31, "adapt"),  # 0.316 is the middle of 0.2 and 0.5 on a log scale; 0.35 would be on a linear one
        (0.32, "native"),
        (0.5, "native"),
        (0.7, "native"),  # and 0.707 that of 0.5 and 1.0, in place of 0.75
        (0.71, "adapt"),
        (30.0, "adapt"),
    ],
)
def test_the_nearest_choice_on_a_log_scale_holds(gsd, mode):
    assert tiny_spec(gsd=0.1, resolutions=CHOICES).mode_at(gsd) == mode


@pytest.mark.parametrize("gsd", [0.01, 0.1, 0.102])
def test_imagery_no_coarser_than_the_model_is_always_adapted(gsd):
    spec = tiny_spec(gsd=0.1, resolutions=(ResolutionChoice(0.15, "native", 0.4, 0.5),))
    assert spec.mode_at(gsd) == "adapt"
    assert spec.choice_at(gsd) is None
    assert spec.mode_at(0.1021) == "native"


def test_without_choices_everything_is_adapted():
    assert ModelSpec().mode_at(5.0) == "adapt"
    assert ModelSpec().choice_at(5.0) is None


def test_choices_travel_as_json():
    spec = tiny_spec(resolutions=CHOICES)
    assert ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict()))).resolutions == CHOICES


@pytest.mark.parametrize(("gsd", "mode", "named"), [(0.0, "adapt", "positive"), (0.2, "band-limit", "adapt, native")])
def test_choices_that_make_no_sense_are_refused(gsd, mode, named):
    with pytest.raises(ConfigError, match=named):
        ResolutionChoice(gsd, mode, 0.1, 0.2)


def test_a_choice_says_nothing_about_far_resolutions():
    spec = tiny_spec(gsd=0.1, resolutions=(ResolutionChoice(0.5, "native", 0.3, 0.4),))
    assert [spec.mode_at(gsd) for gsd in (0.12, 0.25, 0.4, 0.7, 2.0)] == [
        "adapt",
        "adapt",
        "native",
        "native",
        "adapt",
    ]


def test_facts_of_heads_survive_json():
    labels = LabelSchema(attributes={"status": ("alive", "dead")})
    spec = tiny_spec(labels=labels, heads={"status": HeadFacts({"alive": 3, "dead": 1}, 1.5)})
    assert ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict()))).heads == spec.heads


def test_a_head_without_its_attribute_is_refused():
    with pytest.raises(ConfigError, match=r"heads must belong to attributes .*\[\], found \['status'\]"):
        tiny_spec(heads={"status": HeadFacts()})


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_head_needs_a_positive_temperature(temperature):
    with pytest.raises(ConfigError, match="positive number"):
        HeadFacts(temperature=temperature)


def test_names_that_differ_in_case_alone_are_one_attribute():
    with pytest.raises(ConfigError, match="two attributes have the same name, 'Status' and 'status'"):
        LabelSchema(attributes={"Status": ("a", "b"), "status": ("a", "b")})
