"""Arguments as a user types them, in the form the parser wants."""

import pytest

from treedet.arguments import FLAGS, LISTS, in_order, in_plain_words
from treedet.cli import COMMANDS, build_parser


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ([], []),
        (["--help"], ["--help"]),
        (["predict", "a", "b", "--resume"], ["predict", "a", "b", "--resume=true"]),
        (["predict", "--overwrite", "a", "b"], ["predict", "--overwrite=true", "a", "b"]),
        (["predict", "--overwrite=false", "a", "b"], ["predict", "--overwrite=false", "a", "b"]),
        (["predict", "a", "b", "--bands=1,2,3"], ["predict", "a", "b", "--bands=[1,2,3]"]),
        (["predict", "a", "b", "--bands", "[1,2,3]"], ["predict", "a", "b", "--bands=[1,2,3]"]),
        (["predict", "a", "b", "--stretch", "-5,80.5"], ["predict", "a", "b", "--stretch=[-5,80.5]"]),
        (["predict", "a", "b", "--config", "c"], ["predict", "--config", "c", "a", "b"]),
        (["predict", "a", "--config=c", "b"], ["predict", "--config", "c", "a", "b"]),
        (
            ["predict", "--config", "c", "a", "--config", "d"],
            ["predict", "--config", "c", "--config", "d", "a"],
        ),
        (["predict", "a", "b", "--config"], ["predict", "a", "b", "--config"]),
        (["predict", "a", "b", "--bands"], ["predict", "a", "b", "--bands"]),
        (["predict", "a", "b", "--where", "score > 0.5"], ["predict", "a", "b", "--where", "score > 0.5"]),
    ],
)
def test_in_order(typed, wanted):
    given = list(typed)
    assert in_order(given) == wanted
    assert given == typed


def test_flags_and_lists_are_options_of_some_command():
    known = build_parser().format_help()
    for name in COMMANDS:
        assert name in known
    parser = build_parser()
    commands = [
        ["predict", "a", "b"],
        ["merge", "a", "b"],
        ["train", "a", "b", "c"],
        ["evaluate", "a", "b", "c"],
        ["compare", "a", "b"],
        ["calibrate", "a", "b", "c"],
        ["match", "a", "b", "c"],
        ["import", "deepforest", "a", "b"],
        ["summarise", "a", "b"],
        ["inspect", "a"],
    ]
    assert [command[0] for command in commands] == list(COMMANDS)
    options = {}
    for command in commands:
        options |= vars(parser.parse_args(command)[command[0]])
    for option in (*FLAGS, *LISTS):
        group, _, name = option.removeprefix("--").partition(".")
        assert group in options
        assert not name or name in vars(options[group])
    # Every option that is true or false can be given bare.
    flags = {name for name, value in options.items() if isinstance(value, bool)}
    assert flags == {flag.removeprefix("--") for flag in FLAGS}


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            'Parser key "gsd":\n  Does not validate against any of the Union subtypes\n  Subtypes: '
            "[<class 'float'>, <class 'NoneType'>]\n  Errors:\n    - x\n  Given value type: <class 'str'>\n"
            "  Given value: wide",
            "--gsd can not be wide; accepted is a number",
        ),
        ("the following arguments are required: predict.output", "the following arguments are required: output"),
        (
            "the following arguments are required: truth, evaluate.report",
            "the following arguments are required: truth, report",
        ),
        (
            'Parser key "draws": Expected a int. Got value: many',
            "--draws can not be many; accepted is a whole number",
        ),
        ("unrecognized arguments: --colour\n  red", "unrecognized arguments: --colour red"),
    ],
)
def test_in_plain_words(message, words):
    assert in_plain_words(message) == words
