"""The shipped Prometheus rules: valid, tested one by one, about what exists, and documented."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from prometheus_client import CollectorRegistry

from teacherd.daemon import diagnosis
from teacherd.daemon.metrics import Metrics
from teacherd.models.loader_metrics import LoaderMetrics, LoaderStats

RequiresProgram = Callable[[str, str], Path]
ROOT = Path(__file__).parents[1]
RULES = ROOT / "deploy" / "prometheus"
DOCUMENT = (ROOT / "docs" / "observing.md").read_text(encoding="utf-8")
ALERT_ROW = re.compile(r"^\| `(Teacherd\w+)` \| (\w+) \|", re.MULTILINE)
INSTALL = "apt-get install -y --no-install-recommends prometheus"
TOLERANCES: dict[str, float] = {
    "lag": diagnosis.LAG_SECONDS,
    "checkpoint": diagnosis.CHECKPOINT_SECONDS,
    "promotion": diagnosis.TEACHER_SECONDS,
    "forgetting": diagnosis.FORGETTING,
    "dead_letters": diagnosis.DEAD_LETTER_SHARE,
    "headroom": diagnosis.HEADROOM,
    "labels": diagnosis.LABELS,
    "retention": diagnosis.MARGIN_SECONDS,
}
MAY_BE_UNSAID = {"state", "loop", "paused", "unserved"}
"""Nobody is woken for a start or a full buffer; for a hung loop the supervisor asks /livez."""


def rules_of(name: str) -> list[dict[str, Any]]:
    """Return the rules of a file."""
    groups = yaml.safe_load((RULES / name).read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = rules_of("teacherd.alerts.yml")
RECORDED = rules_of("teacherd.rules.yml")


def exported() -> set[str]:
    """Return the names of every series that daemon and loaders can export."""
    registry = Metrics().registry
    names = {each for collector in registry._collector_to_names.values() for each in collector}
    # The client's own collectors say what they have only when they are asked for it.
    names |= {sample.name for family in registry.collect() for sample in family.samples}
    loaders = CollectorRegistry()
    stats = LoaderStats(version=1, teacher_age_seconds=1.0, failures={"size": 1}, num_loads=1)
    loaders.register(LoaderMetrics(lambda: stats))  # type: ignore[arg-type]  # ours yields objects
    return names | {sample.name for family in loaders.collect() for sample in family.samples}


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "config", "prometheus.yml"],
        ["test", "rules", "teacherd.tests.yml"],
    ],
    ids=" ".join,
)
def test_prometheus_itself_finds_nothing_wrong(
    requires_program: RequiresProgram, arguments: list[str]
) -> None:
    """Every file parses, and every alert fires when its test says so and at no other time."""
    promtool = requires_program("promtool", INSTALL)
    done = subprocess.run(
        [promtool, *arguments], cwd=RULES, capture_output=True, text=True, check=False
    )

    assert 0 == done.returncode, done.stdout + done.stderr


def test_every_alert_is_tested_to_fire_and_to_be_silent() -> None:
    """A rule that cannot fire is worse than none: somebody relies on it."""
    tests = yaml.safe_load((RULES / "teacherd.tests.yml").read_text(encoding="utf-8"))["tests"]
    cases = [(test["name"], case) for test in tests for case in test.get("promql_expr_test", ())]
    names = {rule["alert"] for rule in ALERTS}

    assert names == {name for name, case in cases if name in names and case.get("exp_samples")}
    assert names == {name for name, case in cases if name in names and not case.get("exp_samples")}


def test_rules_ask_for_what_is_exported() -> None:
    """A name that nobody exports gives no error, only silence."""
    known = exported() | {rule["record"] for rule in RECORDED}
    text = " ".join(rule["expr"] for rule in (*ALERTS, *RECORDED))
    asked = set(re.findall(r"[\w:]*teacherd_[\w:]+|process_\w+", text))

    assert set() == asked - known


def test_every_alert_says_what_to_do() -> None:
    """Who is woken reads the annotation first."""
    for rule in ALERTS:
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert {"summary", "description", "runbook_url"} == set(rule["annotations"])
        assert "$labels.instance" in rule["annotations"]["summary"]


def test_alerts_and_the_sentences_of_the_status_agree() -> None:
    """The same word for the same thing, and the same tolerance."""
    about = {rule["labels"]["about"]: rule for rule in ALERTS if "about" in rule["labels"]}

    assert set(get_args(diagnosis.About)) - MAY_BE_UNSAID == set(about)
    for name, tolerance in TOLERANCES.items():
        assert re.search(rf"[<>] {re.escape(str(tolerance))}\b", about[name]["expr"])


def test_every_alert_is_in_the_document() -> None:
    """docs/observing.md has each with its severity, and no other."""
    alerts = {(rule["alert"], rule["labels"]["severity"]) for rule in ALERTS}

    assert alerts == set(ALERT_ROW.findall(DOCUMENT))
