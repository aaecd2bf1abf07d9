"""The example of the whole in containers: what of it can be held without pulling images."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from teacherd.daemon.config import Config
from teacherd.daemon.config_parsing import parse

FOLDER = Path(__file__).parents[1] / "deploy" / "docker"


@pytest.fixture
def compose() -> dict[str, Any]:
    """Return the file."""
    content: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    return content


def content_of(compose: dict[str, Any], name: str) -> Any:  # noqa: ANN401 (any YAML)
    """Return a configuration that the file carries inside, or names."""
    config = compose["configs"][name]
    return yaml.safe_load(config.get("content") or (FOLDER / config["file"]).read_text())


def test_the_daemons_configuration_is_valid(compose: dict[str, Any]) -> None:
    """And reads the topic that the example makes, from the broker that it starts."""
    config = parse(Config, content_of(compose, "teacherd"), origin="compose.yaml")

    assert "kafka" == config.source
    assert "kafka:9092" == config.kafka.bootstrap_servers
    assert f"--topic={config.kafka.topic}" in compose["services"]["topic"]["entrypoint"]
    assert config.endpoints.serve_versions


def test_what_is_mounted_is_there(compose: dict[str, Any]) -> None:
    """Every file that is taken from the checkout exists, and so does every inline one."""
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (FOLDER / source).exists(), source
        for used in service.get("configs", []):
            assert used["source"] in compose["configs"]


def test_prometheus_has_the_rules_and_asks_who_answers(compose: dict[str, Any]) -> None:
    """The rule files are those that are mounted, the targets are services of the example."""
    prometheus = content_of(compose, "prometheus")
    mounted = {each.split(":")[1] for each in compose["services"]["prometheus"]["volumes"]}
    targets = [
        target.split(":")[0]
        for job in prometheus["scrape_configs"]
        for static in job["static_configs"]
        for target in static["targets"]
    ]

    assert {f"/etc/prometheus/{name}" for name in prometheus["rule_files"]} == mounted
    assert set(targets) <= set(compose["services"])


def test_ours_run_without_privileges(compose: dict[str, Any]) -> None:
    """Read-only, and without a single capability."""
    for name in ("base", "teacherd", "serve", "feed"):
        service = compose["services"][name]
        used = [compose["configs"][each["source"]] for each in service.get("configs", [])]

        assert service["read_only"], name
        # Compose cannot write a config's content into such a container, and mounts a file.
        assert all("file" in each for each in used), name
        assert ["ALL"] == service["cap_drop"], name
