"""The daemon on a topic: settings that make tasks of ten instances, and counts by identity."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from base_models import NUM_FEATURES, untrained_base

from teacherd.consumers.producing import NPY, build_record, encode_npy
from teacherd.consumers.record import NewRecord
from teacherd.daemon.entries import Plan

CLASSES = ("cat", "dog", "owl")
Identity = tuple[int, int]
"""Partition and offset."""


def kafka_settings(
    directory: Path, bootstrap: str, topic: str, **sections: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the settings of a daemon that learns a topic's feature vectors."""
    settings: dict[str, dict[str, Any]] = {
        "model": {"base": str(untrained_base(directory))},
        "process": {"state_directory": str(directory / "state"), "num_threads": 1},
        "kafka": {
            "bootstrap_servers": bootstrap,
            "topic": topic,
            "group": f"{topic}-group",
            "discovery_seconds": 1.0,
        },
        "tasks": {"instances": 10, "min_instances": 1, "max_age_seconds": 3600},
        "learning": {"epochs": 2, "consolidation": {"freezing_epochs": 1, "interval_epochs": 1}},
        "endpoints": {"port": 0},
        "logging": {"format": "json"},
    }
    for name, section in sections.items():
        settings[name] = {**settings.get(name, {}), **section}
    return {"source": "kafka", **settings}


def feature_values(count: int, *, seed: int = 0) -> list[NewRecord]:
    """Return records of four features each, every one different from the others."""
    rng = np.random.default_rng(seed)
    return [
        build_record(
            encode_npy(rng.normal(size=NUM_FEATURES).astype(np.float32)),
            content_type=NPY,
            label=CLASSES[place % len(CLASSES)],
            key=b"%d" % place,
        )
        for place in range(count)
    ]


def num_instances(plan: Plan) -> int:
    """Return how many records of a plan are instances, held out or learned."""
    return sum(closed.count - len(closed.rejected) for closed in plan.ranges)


def planned(plans: Iterable[Plan]) -> dict[int, list[tuple[int, int, int]]]:
    """Return for each partition the ranges that plans closed: start, end, number of records."""
    ranges: dict[int, list[tuple[int, int, int]]] = {}
    for plan in plans:
        for closed in plan.ranges:
            ranges.setdefault(closed.partition, []).append((closed.start, closed.end, closed.count))
    return ranges


def fates(plans: Iterable[Plan], produced: Mapping[int, Sequence[int]]) -> Counter[Identity]:
    """Count how often each produced record lies in a plan, by identity.

    A plan holds every record of its ranges, which its own count confirms.
    """
    counts = Counter({(number, at): 0 for number, all_ in produced.items() for at in all_})
    for plan in plans:
        for closed in plan.ranges:
            inside = [
                at for at in produced.get(closed.partition, ()) if closed.start <= at < closed.end
            ]
            assert closed.count == len(inside), f"task {plan.task}: {closed} holds {len(inside)}"
            counts.update((closed.partition, at) for at in inside)
    return counts


def assert_each_once(plans: Iterable[Plan], produced: Mapping[int, Sequence[int]]) -> None:
    """Check that every record was planned exactly once: none lost, none learned twice."""
    wrong = {identity: count for identity, count in fates(plans, produced).items() if count != 1}
    assert wrong == {}
