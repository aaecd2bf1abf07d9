"""The objects of a rendered chart, and what tests ask of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes"
Object = dict[str, Any]


def read_objects(text: str) -> list[Object]:
    """Return every object of a stream of YAML documents."""
    return [each for each in yaml.safe_load_all(text) if each]


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    """Return those of a kind."""
    return [each for each in objects if each["kind"] == kind]


def only(objects: list[Object], kind: str) -> Object:
    """Return the one of its kind."""
    (found,) = of_kind(objects, kind)
    return found


def pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Yield name and pod template of whatever makes pods."""
    for each in objects:
        template = each.get("spec", {}).get("template")
        if template is not None:
            yield f"{each['kind']}/{each['metadata']['name']}", template
