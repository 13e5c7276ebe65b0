"""Where a model comes from, as lines to read: short facts as they are, long ones summed up."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from typing import Any

from treedet.models.transfer import TransferReport
from treedet.training.config import TrainConfig

DIGEST = re.compile(r"[0-9a-f]{64}")
DIGEST_SHOWN = 12
SETTLED = ("seed", "samples.gsd", "samples.calm_from")
"""Settings that are said elsewhere, or follow from others."""
SHOWN = 3
"""Entries of a list that are written out."""


def origin_lines(provenance: Mapping[str, Any]) -> list[str]:
    """Return the provenance of a model as lines, the name of each fact first.

    Whatever is stored there gets at least a line; facts that a training stores are summed up.

    >>> origin_lines({"start": "random weights", "seed": 3, "data": "0123456789ab" + 52 * "0"})
    ['start      random weights', 'seed       3', 'data       0123456789ab']
    """
    lines = []
    for key, value in provenance.items():
        for number, text in enumerate(_texts(key, value)):
            lines.append(f"{'' if number else key:<10} {text}")
    return lines


def _texts(key: str, value: Any) -> list[str]:  # noqa: ANN401 - whatever a model file holds
    if isinstance(value, Mapping):
        if key == "transfer" and {field.name for field in fields(TransferReport)} == set(value):
            return TransferReport(**value).lines()
        if key == "crowns" and {"train", "validation", "diameters"} <= set(value):
            return _crown_texts(value)
        if key == "config":
            return [_config_text(value)]
        if key.endswith("rasters"):
            return [f"{len(value)}: {_short(list(value.values()))}"]
        return [", ".join(f"{name} {_short(entry)}" for name, entry in value.items()) or "none"]
    return [_short(value)]


def _short(value: Any) -> str:  # noqa: ANN401 - whatever a model file holds
    if isinstance(value, list):
        more = f" and {len(value) - SHOWN} more" if len(value) > SHOWN else ""
        return (", ".join(_short(entry) for entry in value[:SHOWN]) or "none") + more
    if isinstance(value, Mapping):
        return f"{len(value)} entries"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = "none" if value is None else str(value)
    return text[:DIGEST_SHOWN] if DIGEST.fullmatch(text) else text


def _crown_texts(facts: Mapping[str, Any]) -> list[str]:
    def side(name: str) -> str:
        crowns = {label: count for label, count in (facts[name].get("crowns") or {}).items() if count}
        if not crowns:
            return f"{name} none"
        counts = ", ".join(f"{label} {count}" for label, count in crowns.items())
        return f"{name} {counts} on {facts[name].get('hectares') or 0:.2f} ha"

    lines = [f"{side('train')}; {side('validation')}"]
    sizes = facts["diameters"]
    if all(isinstance(sizes.get(name), float) for name in ("smallest", "median", "widest")):
        lines.append(f"diameters {sizes['smallest']:.1f} to {sizes['widest']:.1f} m, median {sizes['median']:.1f} m")
    return [*lines, *(f"caution: {text}" for text in facts.get("cautions", ()))]


def _config_text(config: Mapping[str, Any]) -> str:
    usual = dict(_flat(json.loads(json.dumps(asdict(TrainConfig()), default=str))))
    changed = [
        f"{name} {_short(value)}"
        for name, value in _flat(config)
        if name not in SETTLED and (name not in usual or usual[name] != value)
    ]
    return f"defaults but for {', '.join(changed)}" if changed else "defaults"


def _flat(values: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted names and plain values."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{within}{name}.")
        else:
            yield f"{within}{name}", value
