"""The deciding core: the same calls give the same weights, without journal, clock or thread."""

from pathlib import Path

import numpy as np
import pytest
import torch
from base_models import NUM_FEATURES, untrained_base

from teacherd.consumers.buffered_task import BufferedTask, PlannedRange
from teacherd.consumers.record import Partition
from teacherd.daemon.config import Config, DecidingConfig
from teacherd.daemon.config_parsing import parse
from teacherd.daemon.deciding_core import DecidingCore
from teacherd.daemon.decision import Decision
from teacherd.daemon.entries import Open, Outcome, Plan, Publish
from teacherd.daemon.lineage import Lineage
from teacherd.daemon.measurement import Measurement
from teacherd.daemon.range_words import closed_range
from teacherd.models.artifact import Manifest, load_artifact
from teacherd.models.provenance import Provenance

CPU = torch.device("cpu")


def settings(epochs: int = 3) -> DecidingConfig:
    """Return settings for a few quick steps."""
    consolidation = {"freezing_epochs": 1, "interval_epochs": 1}
    learning = {"epochs": epochs, "consolidation": consolidation}
    return parse(
        Config, {"learning": learning, "gate": {"holdout_share": 0}}, origin="test"
    ).deciding


def task(num_instances: int = 12) -> BufferedTask:
    """Return instances whose class is the largest of their first three features."""
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((num_instances, NUM_FEATURES)).astype(np.float32)
    planned = PlannedRange(
        partition=Partition("t", 0),
        start=0,
        end=num_instances,
        count=num_instances,
        digest="d",
        rejected=(),
    )
    return BufferedTask(
        cause="count",
        ranges=(planned,),
        inputs=inputs,
        labels=inputs[:, :3].argmax(axis=1),
        partitions=np.zeros(num_instances, dtype=np.int64),
        offsets=np.arange(num_instances),
        ids=(None,) * num_instances,
        event_times_ms=np.arange(num_instances),
    )


def plan(number: int = 1, *, learning_rate: float = 0.01) -> Plan:
    """Return a plan of such a task."""
    return Plan(
        task=number,
        cause="count",
        head=number - 1,
        seed=7,
        epochs=3,
        learning_rate=learning_rate,
        num_instances=12,
        ranges=tuple(closed_range(each) for each in task().ranges),
    )


@pytest.fixture
def core(tmp_path: Path) -> DecidingCore:
    """Return a core over an untrained base model."""
    return build_core(tmp_path)


def build_core(directory: Path) -> DecidingCore:
    """Make one."""
    head = load_artifact(untrained_base(directory))
    measurement = Measurement(
        [],
        base=head.network,
        preprocessing=head.manifest.design.preprocessing,
        device=CPU,
        batch_size=8,
    )
    return DecidingCore(
        settings(),
        head=head,
        device=CPU,
        measurement=measurement,
        lineage=opened(head.manifest),
        load_version=lambda _: head,
    )


def opened(manifest: Manifest) -> Lineage:
    """Return a lineage that has just begun with a version 0 that is served."""
    lineage = Lineage()
    lineage.apply(
        Open(lineage="a1", seed=7, sha256=manifest.weights_sha256, classes=manifest.classes)
    )
    lineage.apply(Publish(version=0))
    return lineage


def learn(core: DecidingCore, planned: Plan) -> Decision:
    """Learn a whole task up to its decision."""
    core.begin(planned, task())
    while core.step():
        pass
    return core.decide()


def write(core: DecidingCore, folder: Path, outcome: Outcome) -> str:
    """Write the candidate and return the sha256 of its weights."""
    folder.mkdir()
    provenance = Provenance(
        lineage="00000000000000a1",
        version=outcome.task,
        created_at="2030-01-01T00:00:00.000+00:00",
    )
    return core.write_candidate(folder, provenance).weights_sha256


def test_the_same_calls_give_the_same_weights(tmp_path: Path) -> None:
    """What a replay relies on."""
    found = []
    for name in ("one", "two"):
        core = build_core(tmp_path / name)
        for number in (1, 2):
            decision = learn(core, plan(number))
            written = write(core, tmp_path / f"{name}-{number}", decision.outcome)
            core.close(decision.outcome)
            found.append((written, decision.outcome))

    assert found[:2] == found[2:]
    assert found[0][0] != found[1][0]


def test_a_task_that_is_held_leaves_no_trace(core: DecidingCore, tmp_path: Path) -> None:
    """The next task gives what it would have given without it."""
    expected = write(core, tmp_path / "a", learn(core, plan()).outcome)
    core.close(Outcome(task=1, result="held"))
    found = write(core, tmp_path / "b", learn(core, plan()).outcome)

    assert expected == found


def test_a_task_may_be_begun_anew_with_another_learning_rate(
    core: DecidingCore, tmp_path: Path
) -> None:
    """What a retry does: discarded, then the plan again."""
    expected = write(core, tmp_path / "a", learn(core, plan(learning_rate=0.005)).outcome)
    core.discard()
    learn(core, plan())
    core.discard()
    found = write(core, tmp_path / "b", learn(core, plan(learning_rate=0.005)).outcome)

    assert expected == found


def test_other_settings_hold_from_the_next_task_on(core: DecidingCore) -> None:
    """The teacher stays, everything else is as told."""
    core.close(learn(core, plan()).outcome)
    core.configure(settings(epochs=5))

    assert 5 == core.settings.learning.epochs
    assert 0 == core.num_steps

    core.begin(plan(2), task())

    assert 3 == core.num_steps


def test_an_outcome_without_a_task_in_progress_changes_nothing(core: DecidingCore) -> None:
    """An empty task is closed without having been begun."""
    core.close(Outcome(task=1, result="empty"))
    decision = learn(core, plan())

    assert ("accepted", 12) == (decision.outcome.result, decision.report.num_instances)
