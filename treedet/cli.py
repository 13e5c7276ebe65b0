"""The command line: commands are parsed and called, and errors become one line with an exit code.

Exit codes: 0 done, 1 a bug (with its traceback), 2 something the user can mend (one line), 3 some of many rasters
failed (listed).
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from treedet.arguments import OneLineParser, in_order
from treedet.command_table import COMMANDS
from treedet.errors import TreedetError


def build_parser() -> ArgumentParser:
    """Return the parser for all commands."""
    from importlib.metadata import version  # noqa: PLC0415 - only where a parser is built

    parser = OneLineParser(prog="treedet", description="Individual tree crowns from aerial imagery.")
    parser.add_argument("--version", action="version", version=f"treedet {version('treedet')}")
    commands = parser.add_subcommands(required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        summary = (command.function.__doc__ or "").partition("\n")[0]
        sub = OneLineParser(prog=f"treedet {name}", description=summary)
        sub.add_argument("--config", action="config", help="YAML file with options; the command line wins over it")
        sub.add_function_arguments(command.function, as_positional=True, skip=set(command.options))
        for options in command.options.values():
            sub.add_class_arguments(options)
        commands.add_subcommand(name, sub, help=summary)
        sub.prog = f"treedet {name}"  # add_subcommand puts "[options]" in between
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    with _talking():
        try:
            parser = build_parser()
            return _call(parser.instantiate(parser.parse_args(in_order(given)))) or 0
        except TreedetError as error:
            sys.stderr.write(f"treedet: error: {error}\n")
            return 2
        except KeyboardInterrupt:
            sys.stderr.write(f"treedet: interrupted; {_after_interrupt(given)}\n")
            return 130
        except BrokenPipeError:
            return 0


def _after_interrupt(arguments: Sequence[str]) -> str:
    """Return how an interrupted command goes on.

    >>> _after_interrupt(["predict", "a.tif", "b.gpkg"])
    '--resume goes on where it was stopped'
    >>> _after_interrupt(["evaluate", "a.tif"])
    'evaluate begins anew next time'
    """
    name = next((word for word in arguments if word in COMMANDS), "")
    if name and "resume" not in (COMMANDS[name].function.__kwdefaults__ or {}):
        return f"{name} begins anew next time"
    return "--resume goes on where it was stopped"


def _call(parsed: Namespace) -> int | None:
    name = parsed.subcommand
    command = COMMANDS[name]
    # Not vars(): a namespace has a method values(), so it keeps an option of that name under another.
    values: dict[str, Any] = dict(parsed[name].items(branches=True, nested=False))
    values.pop("config", None)
    for parameter, options in command.options.items():
        values[parameter] = options(**{f.name: values.pop(f.name) for f in fields(options)})
    return command.function(**values)


@contextmanager
def _talking() -> Iterator[None]:
    """Show notices and warnings as single lines."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("treedet: %(message)s"))
    log = logging.getLogger("treedet")
    before = log.handlers, log.propagate, log.level

    def show(message: Warning | str, *_: object, **__: object) -> None:
        sys.stderr.write(f"treedet: warning: {message}\n")

    with warnings.catch_warnings():
        log.handlers, log.propagate = [handler], False
        log.setLevel(logging.INFO)
        warnings.showwarning = show
        try:
            yield
        finally:
            log.handlers, log.propagate = before[0], before[1]
            log.setLevel(before[2])


__all__ = ["COMMANDS", "build_parser", "main"]
