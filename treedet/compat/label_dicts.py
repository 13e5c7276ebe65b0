"""DeepForest's label dictionaries: a number for each class name, in JSON or in its YAML config."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import yaml

from treedet.core.labels import LabelSchema
from treedet.errors import ConfigError, OutputError

KEY = "label_dict"


def read_label_dict(path: str | Path) -> tuple[str, ...]:
    """Read class names in the order of their numbers.

    Args:
        path: JSON or YAML with ``{"Alive": 0, "Dead": 1}``, or with that under ``label_dict``, as in DeepForest's.

    Raises:
        ConfigError: There is no such file, or it gives no number from 0 on to each class.
    """
    path = Path(path)
    try:
        # JSON is YAML too.
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"label dictionary {path} can not be read: {reason}; give a JSON or YAML file") from error
    found = content.get(KEY, content) if isinstance(content, Mapping) else content
    if not isinstance(found, Mapping) or not found:
        raise ConfigError(f"{path} holds no label dictionary; accepted is a number for each class, such as Tree: 0")
    return names_in_order(found, str(path))


def names_in_order(found: Mapping[object, object], source: str) -> tuple[str, ...]:
    """Return class names in the order of their numbers.

    Args:
        found: Numbers by name.
        source: Where it stands, for messages.

    Raises:
        ConfigError: The numbers are not 0, 1, 2 and so on.

    >>> names_in_order({"Dead": 1, "Alive": 0}, "config.json")
    ('Alive', 'Dead')
    """
    numbers = {str(name): number for name, number in found.items() if type(number) is int}
    if len(numbers) != len(found) or sorted(numbers.values()) != list(range(len(found))):
        listed = ", ".join(f"{name}: {number}" for name, number in found.items())
        raise ConfigError(
            f"{source}: a label dictionary numbers its classes 0, 1, 2 and so on, found {listed[:80]}; correct it, "
            "or give the names in the order of the network's outputs: labels= (--labels)"
        )
    return tuple(sorted(numbers, key=numbers.__getitem__))


def write_label_dict(path: str | Path, labels: LabelSchema, *, overwrite: bool = False) -> None:
    """Write the classes of a model as a label dictionary that DeepForest reads (``config_args``).

    Args:
        path: JSON file.
        labels: The model's labels; attributes have no place there.
        overwrite: Replace an existing file.

    Raises:
        OutputError: The file exists or can not be written.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists; give another name, or overwrite=True")
    temporary = path.with_name(f".{path.name}.tmp")
    numbers = {name: number for number, name in enumerate(labels.classes)}
    try:
        temporary.write_text(json.dumps({KEY: numbers}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"{path} can not be written: {error}") from error
