"""What a model can say: the classes it detects and the attributes it names for each crown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from treedet.errors import ConfigError

RESERVED = frozenset(
    {"geometry", "crown_id", "label", "score", "area_m2", "crown_m2", "diameter_m", "cut", "edge", "source"}
    | {"class", "image_path", "xmin", "ymin", "xmax", "ymax", "x", "y", "lon", "lat", "fid"}
)
"""Column names that an attribute may not take."""


@dataclass(frozen=True)
class LabelSchema:
    """Class names, and the class names of each attribute, in the order of the network's outputs.

    >>> schema = LabelSchema(attributes={"status": ("alive", "dead")})
    >>> schema.classes, schema.attributes["status"].index("dead")
    (('tree',), 1)
    """

    classes: tuple[str, ...] = ("tree",)
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        object.__setattr__(self, "attributes", {k: tuple(v) for k, v in self.attributes.items()})
        _check_names("classes", self.classes, at_least=1)
        spelled: dict[str, str] = {}
        for name, values in self.attributes.items():
            if (other := spelled.setdefault(name.casefold(), name)) != name:
                raise ConfigError(
                    f"two attributes have the same name, {other!r} and {name!r}: formats do not tell case apart; "
                    "rename one"
                )
            if name in RESERVED or name.endswith("_p") or not name.isidentifier():
                raise ConfigError(
                    f"attribute name {name!r} is not usable: it must be a plain word, not end in '_p' and not be "
                    f"one of the table's own columns; rename it, for example to {name.strip('_p ') or 'kind'!r}_1"
                )
            _check_names(f"attribute {name!r}", values, at_least=2)

    def __hash__(self) -> int:
        return hash((self.classes, tuple(self.attributes.items())))

    def to_dict(self) -> dict[str, Any]:
        """Return the schema as JSON-able lists."""
        return {"classes": list(self.classes), "attributes": {k: list(v) for k, v in self.attributes.items()}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LabelSchema:
        """Build the schema that :meth:`to_dict` described."""
        return cls(
            classes=tuple(values["classes"]),
            attributes={k: tuple(v) for k, v in values.get("attributes", {}).items()},
        )


def _check_names(what: str, names: tuple[str, ...], *, at_least: int) -> None:
    if len(names) < at_least or len(set(names)) != len(names) or not all(isinstance(n, str) and n for n in names):
        raise ConfigError(f"{what} must be at least {at_least} different, non-empty names, found {list(names)}")
