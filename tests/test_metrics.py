"""Metrics: well-named, independent per daemon, and each of them documented."""

import re
from pathlib import Path

import torch
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from teacherd.daemon.metrics import Metrics
from teacherd.daemon.serving_metrics import ServingMetrics
from teacherd.models.loader_metrics import LoaderMetrics, LoaderStats

DOCUMENT = Path(__file__).parents[1] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(teacherd_\w+)(?:\{([\w,]+)\})?` \| (\w+) \|", re.MULTILINE)

Described = dict[str, tuple[tuple[str, ...], str]]


def declared() -> Described:
    """Return labels and type by name of what daemon, inference server and loader declare."""
    found: Described = {}
    collectors = {**vars(Metrics()), **vars(ServingMetrics())}
    del collectors["registry"]
    for collector in collectors.values():
        (family,) = collector.describe()
        suffix = "_total" if family.type == "counter" else ""
        found[f"{family.name}{suffix}"] = (collector._labelnames, family.type)
    registry = CollectorRegistry()
    stats = LoaderStats(version=1, teacher_age_seconds=1.0, failures={"size": 1}, num_loads=1)
    registry.register(LoaderMetrics(lambda: stats))  # type: ignore[arg-type]  # ours yields objects
    for family in registry.collect():
        suffix = "_total" if family.type == "counter" else ""
        labels = tuple(family.samples[0].labels)
        found[f"{family.name}{suffix}"] = (labels, family.type)
    return found


def documented() -> Described:
    """Return labels and type by name of what docs/metrics.md describes."""
    rows = ROW.findall(DOCUMENT.read_text(encoding="utf-8"))
    return {name: (tuple(filter(None, labels.split(","))), kind) for name, labels, kind in rows}


def test_the_document_and_the_code_name_the_same_metrics() -> None:
    """None is missing in docs/metrics.md, none is described that does not exist."""
    assert declared() == documented()


def test_each_metric_is_described_once() -> None:
    """Two rows for one metric would come to contradict each other."""
    names = [name for name, _, _ in ROW.findall(DOCUMENT.read_text(encoding="utf-8"))]

    assert sorted(set(names)) == sorted(names)


def test_names_say_the_unit() -> None:
    """Base units only, `_total` on counters and nowhere else."""
    for name, (_, kind) in declared().items():
        assert (kind == "counter") == name.endswith("_total")
        assert not re.search(r"_(ms|minutes|kb|mb|percent)(_|$)", name)


def test_what_is_exported_can_be_parsed() -> None:
    """A value that was set is read back by Prometheus' own parser."""
    metrics = Metrics()
    metrics.records_consumed.labels("digits", 0).inc(5)
    metrics.task_records.observe(200)

    text = metrics.exposition().decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}

    consumed = families["teacherd_records_consumed"].samples[0]
    assert ({"topic": "digits", "partition": "0"}, 5.0) == (consumed.labels, consumed.value)
    assert "process_resident_memory_bytes" in families


def test_the_build_is_told() -> None:
    """What an upgrade changed can be seen beside what it did."""
    (sample,) = [
        sample
        for family in Metrics().registry.collect()
        for sample in family.samples
        if sample.name == "teacherd_build_info"
    ]

    assert {"version", "torch", "cuda"} == set(sample.labels)
    assert torch.__version__ == sample.labels["torch"]
    assert 1 == sample.value


def test_two_daemons_in_a_process_do_not_share_metrics() -> None:
    """Each has a registry of its own."""
    one, other = Metrics(), Metrics()
    one.teacher_version.set(7)

    assert 7 == one.registry.get_sample_value("teacherd_teacher_version")
    assert 0 == other.registry.get_sample_value("teacherd_teacher_version")


def test_the_first_event_of_a_kind_is_an_increase() -> None:
    """A series that begins with 1 has not increased, for Prometheus: it must be there with 0."""
    registry = Metrics().registry

    assert 0 == registry.get_sample_value("teacherd_tasks_total", {"outcome": "held"})
    for name in ("dead_letters_total", "records_rejected_total"):
        assert 0 == registry.get_sample_value(f"teacherd_{name}", {"reason": "malformed"})
