"""The tree in the docstring of errors is the tree of its classes."""

import re

from treedet import errors

ROOTS = ("TreedetError", "TreedetWarning")


def classes():
    return {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type) and value.__module__ == errors.__name__
    }


def drawn():
    """Name, parent in the tree and further base of every line of the docstring's tree."""
    trail = []
    for line in errors.__doc__.splitlines():
        found = re.match(r"^ {4}([│├└─ ]*)(\w+)(?: \((\w+)\))?(?: {2,}.*)?$", line)
        if found is None or not found[2].endswith(("Error", "Warning")):
            continue
        depth = len(found[1]) // 3
        trail = [*trail[:depth], found[2]]
        yield found[2], trail[depth - 1] if depth else None, found[3]


def test_every_class_is_drawn_below_its_base():
    tree = {name: (parent, other) for name, parent, other in drawn()}
    assert set(tree) == set(classes())
    for name, (parent, other) in tree.items():
        bases = {base.__name__ for base in classes()[name].__bases__}
        if name in ROOTS:
            assert bases == {other or "Exception"}
        else:
            assert bases == {parent} | ({other} if other else set()), name


def test_every_class_says_when_it_is_raised():
    assert all(value.__doc__ for value in classes().values())
