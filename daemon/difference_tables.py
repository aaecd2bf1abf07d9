"""The difference of two versions in words: a few facts, then a table for each side of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from teacherd.daemon.wording import share

Table = tuple[str, Sequence[str], Sequence[Sequence[object]]]
"""Title, columns, rows."""

_TASK = ("task", "version", "cause", "instances", "new_classes", "gate", "at")


def difference_facts(found: Mapping[str, Any]) -> list[tuple[str, object]]:
    """Return what there is one of; what is empty is left out by who prints it."""
    weights = found["weights"]
    return [
        ("relation", _relation(found)),
        ("instances learned", found["instances_learned"]),
        ("instances undone", found["instances_undone"] or None),
        ("classes added", found["classes_added"]),
        ("classes removed", found["classes_removed"]),
        ("weights", _change(weights) if weights else _missing(found)),
        ("bytes", " to ".join("removed" if size is None else str(size) for size in found["bytes"])),
    ]


def difference_tables(found: Mapping[str, Any]) -> list[Table]:
    """Return the tables that have rows, the first one always."""
    one, other = f"version {found['from']}", f"version {found['to']}"
    tables: list[Table] = [
        (f"learned by {other} only", _TASK, _tasks(found["learned"])),
        (f"learned by {one} only", _TASK, _tasks(found["undone"])),
        ("measured then", ["", one, other, "difference"], _figures(found["figures"])),
        (
            "weights by module",
            ["module", "relative_change", "changed", "elements", "new_elements"],
            _modules(found["weights"]),
        ),
        ("settings", ["", one, other], _pairs(found["settings"])),
        ("runtime", ["", one, other], _pairs(found["runtime"])),
    ]
    return [table for table in tables if table[2] or table is tables[0]]


def _relation(found: Mapping[str, Any]) -> str:
    old, new, fork = found["from"], found["to"], found["fork"]
    if found["is_same"]:
        return "the same weights"
    if fork == old:
        return f"{new} was learned from {old}"
    if fork == new:
        return f"{old} was learned from {new}"
    return f"both were learned from {fork}"


def _missing(found: Mapping[str, Any]) -> str:
    sides = zip((found["from"], found["to"]), found["bytes"], strict=True)
    gone = " and ".join(str(version) for version, size in sides if size is None)
    return (
        f"not compared: publication.keep_versions has removed {gone}; see `teacherd replay --out`"
    )


def _change(weights: Mapping[str, Any]) -> str:
    change = weights["relative_change"]
    length = "from zero" if change is None else f"by {share(change)} of their length"
    return f"changed {length}, in {share(weights['changed_ratio'])} of their elements"


def _tasks(rows: Sequence[Mapping[str, Any]]) -> list[list[object]]:
    return [[row[column] for column in _TASK] for row in rows]


def _figures(figures: Mapping[str, Sequence[float | None]]) -> list[list[object]]:
    return [
        [name, one, other, None if one is None or other is None else other - one]
        for name, (one, other) in figures.items()
    ]


def _modules(weights: Mapping[str, Any] | None) -> list[list[object]]:
    if weights is None:
        return []
    return [
        [
            name,
            each["relative_change"],
            share(each["changed_ratio"]),
            each["elements"],
            each["new_elements"] or None,
        ]
        for name, each in weights["modules"].items()
    ]


def _pairs(differences: Mapping[str, Sequence[object]]) -> list[list[object]]:
    return [[name, one, other] for name, (one, other) in differences.items()]
