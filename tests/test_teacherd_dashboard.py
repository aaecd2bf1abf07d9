"""The Grafana dashboard: the committed JSON is what the code makes, and nothing overlaps."""

import json
import re
import sys
from pathlib import Path

import yaml

GRAFANA = Path(__file__).parents[1] / "deploy" / "grafana"


sys.path.insert(0, str(GRAFANA))  # as it is for a script

import teacherd_dashboard  # noqa: E402 (found by the line above)


def test_the_committed_dashboard_is_what_the_code_makes() -> None:
    """Run deploy/grafana/teacherd_dashboard.py after each change of it."""
    made = teacherd_dashboard.render()

    assert (GRAFANA / "dashboards" / "teacherd.json").read_text(encoding="utf-8") == made


def test_every_panel_has_a_place_of_its_own_a_meaning_and_queries() -> None:
    """No two share a cell; each says what a person reads off it."""
    panels = json.loads((GRAFANA / "dashboards" / "teacherd.json").read_text("utf-8"))["panels"]
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    drawn = [panel for panel in panels if panel["type"] != "row"]

    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len(panels) == len({panel["id"] for panel in panels})
    assert all(panel["description"] and panel["targets"] for panel in drawn)


def test_every_query_is_of_what_is_exported() -> None:
    """Also of those panels that need a fault before they show anything."""
    text = (GRAFANA / "dashboards" / "teacherd.json").read_text("utf-8")
    rules = (GRAFANA.parent / "prometheus" / "teacherd.rules.yml").read_text("utf-8")
    asked = set(re.findall(r"(?<![\w:])teacherd_\w+", text)) - {"teacherd_build_info"}
    recorded = set(re.findall(r"instance:teacherd_\w+:\w+", text))
    documented = (GRAFANA.parents[1] / "docs" / "metrics.md").read_text("utf-8")
    known = set(re.findall(r"^\| `(teacherd_\w+)", documented, re.MULTILINE))

    assert set() == {re.sub(r"_(bucket|sum|count)$", "", each) for each in asked} - known
    assert set() == {each for each in recorded if f"record: {each}" not in rules}
    assert len(asked) > 40


def test_provisioning_names_what_is_there() -> None:
    """The files that Grafana reads at its start are valid YAML of the form that it knows."""
    datasources = yaml.safe_load((GRAFANA / "provisioning/datasources/teacherd.yaml").read_text())
    dashboards = yaml.safe_load((GRAFANA / "provisioning/dashboards/teacherd.yaml").read_text())

    assert "prometheus" == datasources["datasources"][0]["type"]
    assert "file" == dashboards["providers"][0]["type"]
    assert 1 == datasources["apiVersion"] == dashboards["apiVersion"]
