"""Metrics: well-named, independent per daemon, and each of them documented."""

import re
from pathlib import Path

import torch
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from teacherd.daemon.metrics import PARTITION, Metrics
from teacherd.daemon.serving_metrics import ServingMetrics
from teacherd.models.loader_metrics import LoaderMetrics, LoaderStats

DOCUMENT = Path(__file__).parents[1] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(teacherd_\w+)(?:\{([\w,]+)\})?` \| (\w+) \|", re.MULTILINE)

ALERTS = Path(__file__).parents[1] / "deploy" / "prometheus" / "teacherd.alerts.yml"
PROMISED = """
    records_consumed_total{topic,partition} record_bytes_total records_rejected_total{reason}
    dead_letters_total{reason} consumer_lag_records{topic,partition} consumer_lag_seconds
    intake_paused commit_failures_total{error} last_poll_timestamp_seconds
    partition_stalled{topic,partition}
    buffer_records buffer_capacity_records buffer_bytes task_records tasks_total{outcome}
    task_trigger_total{cause}
    train_step_duration_seconds task_duration_seconds instances_learned_total loss{component}
    nonfinite_losses_total gpu_memory_bytes consolidations_total teacher_retain_ratio
    accuracy_ratio{split,model} forgetting_ratio{holdout} performance_promotion_ratio{holdout}
    outer_ratio drift_score{detector} drift_threshold{detector} drift_detected_total{detector}
    learning_headroom_ratio retention_margin_seconds
    teacher_version teacher_info{version,sha256,architecture} teacher_age_seconds freshness_seconds
    promotions_total{result} gate_checks_total{gate,result} checkpoint_duration_seconds
    checkpoint_size_bytes checkpoint_last_success_timestamp_seconds checkpoint_failures_total
    loader_version loader_teacher_age_seconds loader_swap_duration_seconds
    loader_swaps_total{result} loader_rejected_total{reason}
    build_info{version,torch,cuda} config_last_reload_successful
"""
"""What dashboards and rules of users were promised; nobody may rename or relabel it by accident."""

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


def test_what_was_promised_is_there_under_its_name_and_labels() -> None:
    """Metrics are an interface; those beyond the promise are free to change."""
    promised = {
        f"teacherd_{name}": tuple(filter(None, labels.split(",")))
        for name, labels in re.findall(r"(\w+)(?:\{([\w,]+)\})?", PROMISED)
    }
    found = declared()

    assert promised == {name: found[name][0] for name in promised if name in found}
    assert len(promised) > 40


def test_no_label_can_grow_with_the_stream() -> None:
    """Every label is of a small set, but for partitions, which go, and sets of the user's own."""
    small = {
        "reason",
        "error",
        "outcome",
        "group",
        "cause",
        "component",
        "detector",
        "result",
        "gate",
        "rank",
    }
    of_the_build = {"version", "torch", "cuda", "sha256", "architecture"}
    of_the_user = {"topic", "partition", "split", "holdout", "class", "mirror", "receiver"}
    labels = {label for names, _ in declared().values() for label in names}

    assert set() == labels - small - of_the_build - of_the_user - {"model", "code"}


def test_every_series_of_a_partition_goes_with_it() -> None:
    """Also those of metrics to come: found by their labels, not by a list."""
    metrics = Metrics()
    labelled = [
        each for each in vars(metrics).values() if getattr(each, "_labelnames", ()) == PARTITION
    ]
    for metric in labelled:
        metric.labels("gone", 3)
        metric.labels("read", 3)
    metrics.forget_partition("gone", 3)
    topics = {
        sample.labels["topic"]
        for metric in labelled
        for family in metric.collect()
        for sample in family.samples
    }

    assert len(labelled) >= 3
    assert {"read"} == topics


def test_what_wakes_somebody_at_the_first_event_begins_at_zero() -> None:
    """Prometheus sees no increase in a series that begins with its first event."""
    watched = re.findall(
        r"increase\((teacherd_\w+)[^)]*\)\)? > 0", ALERTS.read_text(encoding="utf-8")
    )
    present = {sample.name for family in Metrics().registry.collect() for sample in family.samples}

    assert "teacherd_records_lost_total" in watched
    # Of inference processes; and what is only the condition of an alert on something else.
    others = {"teacherd_loader_rejected_total", "teacherd_records_consumed_total"}
    assert set() == set(watched) - others - present


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
