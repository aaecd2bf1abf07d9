"""State directories with a lineage of a few versions, made without any learning."""

from pathlib import Path

import torch

from teacherd.daemon.entries import ClosedRange, Outcome, Plan, Publish
from teacherd.daemon.publication import PublicationConfig
from teacherd.daemon.state_directory import StateDirectory
from teacherd.models.artifact import Manifest, load_artifact, version_folder, write_artifact
from teacherd.models.provenance import Provenance

NOW = "2030-01-01T00:00:00.000+00:00"
RANGE_RECORDS = 10


def open_state(directory: Path, *, keep_versions: int = 50) -> StateDirectory:
    """Open a state directory with a clock that stands still."""
    return StateDirectory(
        directory,
        PublicationConfig(keep_versions=keep_versions),
        keep_checkpoints=3,
        now=lambda: NOW,
    )


def next_plan(state: StateDirectory) -> Plan:
    """Return a plan of the next ten records."""
    lineage = state.journal.lineage
    start = lineage.num_tasks * RANGE_RECORDS
    closed = ClosedRange(
        topic="t",
        partition=0,
        start=start,
        end=start + RANGE_RECORDS,
        count=RANGE_RECORDS,
        digest="d",
    )
    return Plan(
        task=lineage.num_tasks + 1,
        cause="count",
        head=lineage.head,
        seed=7,
        epochs=1,
        learning_rate=0.1,
        num_instances=RANGE_RECORDS,
        ranges=(closed,),
    )


def write_next_version(state: StateDirectory) -> Manifest:
    """Write the folder of the version after the newest: the head's weights, a little larger."""
    lineage = state.journal.lineage
    head = load_artifact(version_folder(state.versions.root, lineage.head))
    with torch.no_grad():
        for parameter in head.network.parameters():
            parameter.add_(0.01)
    provenance = Provenance(
        lineage=lineage.id,
        version=lineage.next_version,
        parent=lineage.head,
        tasks=(lineage.num_tasks,),
        verdict={"result": "accepted"},
        created_at=NOW,
    )
    return state.versions.write(
        provenance.version,
        lambda folder: write_artifact(folder, head.network, head.manifest.design, provenance),
    )


def accept_task(state: StateDirectory, *, should_publish: bool = True) -> Manifest:
    """Plan a task, unless one is tried again, and accept a version for it; serve it if told so."""
    if state.journal.lineage.unfinished is None:
        state.journal.record(next_plan(state))
    plan = state.journal.lineage.unfinished
    assert plan is not None, "it was planned, or is tried again"
    manifest = write_next_version(state)
    state.journal.record(
        Outcome(
            task=plan.task,
            result="accepted",
            version=manifest.version,
            sha256=manifest.weights_sha256,
            should_publish=should_publish,
            figures={"outer_ratio": 0.25},
        )
    )
    if should_publish:
        state.journal.record(Publish(version=manifest.version))
        state.versions.serve(manifest)
    return manifest
