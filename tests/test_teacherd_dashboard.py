"""The Grafana dashboard: the committed JSON is what the code makes, and nothing overlaps."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import yaml

GRAFANA = Path(__file__).parents[1] / "deploy" / "grafana"


def load_builder() -> ModuleType:
    """Import the script that makes the dashboard."""
    path = GRAFANA / "teacherd_dashboard.py"
    spec = importlib.util.spec_from_file_location("teacherd_dashboard", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up while they are made.
    import sys  # noqa: PLC0415 (beside its one use)

    sys.modules["teacherd_dashboard"] = module
    spec.loader.exec_module(module)
    return module


def test_the_committed_dashboard_is_what_the_code_makes() -> None:
    """Run deploy/grafana/teacherd_dashboard.py after each change of it."""
    made = load_builder().render()

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


def test_provisioning_names_what_is_there() -> None:
    """The files that Grafana reads at its start are valid YAML of the form that it knows."""
    datasources = yaml.safe_load((GRAFANA / "provisioning/datasources/teacherd.yaml").read_text())
    dashboards = yaml.safe_load((GRAFANA / "provisioning/dashboards/teacherd.yaml").read_text())

    assert "prometheus" == datasources["datasources"][0]["type"]
    assert "file" == dashboards["providers"][0]["type"]
    assert 1 == datasources["apiVersion"] == dashboards["apiVersion"]
