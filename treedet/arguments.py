"""What people type, brought into the form the parser wants, and what the parser says, into plain words."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from itertools import islice
from typing import NoReturn

from jsonargparse import ArgumentParser

FLAGS = (
    "--resume",
    "--overwrite",
    "--no_look",
    "--per_raster",
    "--probabilities",
    "--partial",
    "--complete",
    "--drop",
    "--from_scratch",
    "--upsample",
    "--keep_temperature",
)
LISTS = (
    "--gsds",
    "--modes",
    "--merge_ious",
    "--bands",
    "--stretch",
    "--classes",
    "--labels",
    "--samples.zoom",
    "--samples.resolutions",
)
KINDS = {
    "float": "a number",
    "int": "a whole number",
    "tuple[int, ...]": "whole numbers such as 3,2,1",
    "tuple[float, float]": "two numbers such as 0,255",
}
"""What types are called in errors."""


class OneLineParser(ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print what is wrong and exit with 2."""
        del ex
        # What a command requires is noticed by the parser above it, which says "evaluate.report".
        command = re.search(r"arguments are required: .*?(\w+)\.", str(message))
        prog = f"{self.prog} {command[1]}" if command else self.prog
        sys.stderr.write(f"treedet: error: {in_plain_words(str(message))}; see {prog} --help\n")
        sys.exit(2)


def in_plain_words(message: str) -> str:
    """Bring what the parser says about a value into the form of all other errors.

    >>> in_plain_words("Parser key 'shape': Expected a typing.Literal['box', 'point']. Got value: blob")
    '--shape can not be blob; accepted is box, point'
    """
    text = re.sub(r"<class '(\w+)'>", r"\1", " ".join(message.split()))
    if "arguments are required" in text:
        text = re.sub(r"\b\w+\.(?=\w)", "", text)
    wrong = re.match(
        r"""Parser key ["'](?P<key>\w+)["']: """
        r"(?:.*Subtypes: \[(?P<type>.*), NoneType\] Errors.*Given value: (?P<found>.*)"
        r"|.*Literal\[(?P<names>.*)\]\. Got value: (?P<other>.*)"
        r"|Expected a (?P<kind>\w+)\. Got value: (?P<value>.*))",
        text,
    )
    if wrong is None:
        return text
    kind = wrong["type"] or wrong["kind"]
    accepted = KINDS.get(kind, kind) if kind else wrong["names"].replace("'", "")
    return f"--{wrong['key']} can not be {wrong['found'] or wrong['other'] or wrong['value']}; accepted is {accepted}"


def in_order(arguments: Sequence[str]) -> list[str]:
    """Bring arguments into the form the parser wants.

    Flags need no value, lists no brackets, and the config file is read first, so that the command line wins over it
    wherever ``--config`` stands.

    >>> in_order(["predict", "a.tif", "b.gpkg", "--overwrite", "--bands", "4,3,2", "--config", "c.yaml"])
    ['predict', '--config', 'c.yaml', 'a.tif', 'b.gpkg', '--overwrite=true', '--bands=[4,3,2]']
    """
    rest, config = [], []
    items = list(arguments)
    while items:
        item = items.pop(0)
        name, equals, value = item.partition("=")
        if name == "--config" and (equals or items):
            config += [name, value if equals else items.pop(0)]
        elif item in FLAGS:
            rest.append(f"{item}=true")
        elif name in LISTS and (equals or items):
            value = value if equals else items.pop(0)
            rest.append(f"{name}={value if value.startswith('[') else f'[{value}]'}")
        else:
            rest.append(item)
    if rest[:1] == ["evaluate"]:
        rest = _crowns_against_crowns(rest)
    return [*rest[:1], *config, *rest[1:]]


def _crowns_against_crowns(arguments: list[str]) -> list[str]:
    """Bring ``evaluate [RASTER] REPORT --truth FILE`` into the order of ``evaluate RASTER TRUTH REPORT``.

    >>> _crowns_against_crowns(["evaluate", "report", "--predictions", "a.gpkg", "--truth=b.gpkg"])
    ['evaluate', '-', 'b.gpkg', 'report', '--predictions', 'a.gpkg']
    >>> _crowns_against_crowns(["evaluate", "--truth", "b.gpkg", "--draws", "9", "stand.tif", "report"])
    ['evaluate', 'stand.tif', 'b.gpkg', 'report', '--draws', '9']
    """
    truth: str | None = None
    places: list[str] = []
    options: list[str] = []
    items = iter(arguments[1:])
    for item in items:
        if item == "-" or not item.startswith("-"):
            places.append(item)
            continue
        name, equals, value = item.partition("=")
        following = [] if equals else [*islice(items, 1)]
        if name == "--truth" and (equals or following):
            truth = value if equals else following[0]
        else:
            options += [item, *following]
    if truth is None:
        return arguments
    raster = places.pop(0) if len(places) > 1 else "-"
    return [arguments[0], raster, truth, *places, *options]
