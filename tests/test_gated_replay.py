"""A replay of a lineage with a gate: holdouts, verdicts and rollbacks come out the same."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from assemblies import CLASSES, Bench, make_bench
from forked_daemon import ForkedDaemon
from lineages import NOW

from teacherd.consumers.producing import NPY, build_record, encode_npy
from teacherd.consumers.record import NewRecord
from teacherd.daemon.config import Config
from teacherd.daemon.config_parsing import parse
from teacherd.daemon.entries import Rollback
from teacherd.daemon.errors import ExitCode
from teacherd.daemon.publication import PublicationConfig
from teacherd.daemon.replay_report import ReplayReport
from teacherd.daemon.replaying import replay_versions
from teacherd.daemon.state_directory import StateDirectory
from teacherd.models.artifact import verify_artifact, version_folder, write_artifact

NUM_TASKS = 8


def learnable_records(count: int, *, seed: int) -> list[NewRecord]:
    """Return records whose class can be learned but for a stretch: the largest of three features.

    What lies in the stretch teaches nonsense, so that the gate has something to hold back.
    """
    rng = np.random.default_rng(seed)
    records = []
    for place in range(count):
        features = rng.normal(size=4).astype(np.float32)
        is_nonsense = 180 <= place < 300
        label = CLASSES[(int(np.argmax(features[:3])) + is_nonsense) % len(CLASSES)]
        records.append(build_record(encode_npy(features), content_type=NPY, label=label))
    return records


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Give settings with a gate that has an opinion about small tasks, and records for eight."""
    rng = np.random.default_rng(9)
    inputs = rng.normal(size=(100, 4)).astype(np.float32)
    np.savez(tmp_path / "base_holdout.npz", inputs=inputs, labels=inputs[:, :3].argmax(1))
    bench = make_bench(
        tmp_path,
        endpoints={"port": 0},
        logging={"format": "json"},
        gate={
            "holdout_share": 0.3,
            "holdout_tasks": 3,
            "grid": [1.0, 0.75],
            "max_held": 2,
            "allowance": 0.1,
            "forgetting": 0.1,
            "base_holdout": str(tmp_path / "base_holdout.npz"),
            # What probation takes back is rolled back by hand below.
            "probation_tasks": 0,
        },
        learning={
            "epochs": 4,
            "optimizer": {"kind": "sgd", "decay": "none", "learning_rate": 0.3},
            "distillation": {"form": "fused", "temperature": 1.0, "dust": "noise"},
            "consolidation": {"freezing_epochs": 1, "interval_epochs": 1, "retain": 0.1},
        },
        tasks={"instances": 60, "min_instances": 1},
    )
    bench.append(learnable_records(60 * NUM_TASKS, seed=0))
    return bench


@pytest.fixture
def daemon(bench: Bench, tmp_path: Path) -> ForkedDaemon:
    """Give a daemon that has learned everything and ended."""
    daemon = ForkedDaemon(bench.settings, tmp_path)
    assert ExitCode.OK == daemon.run_until_tasks(NUM_TASKS)
    return daemon


def replay(bench: Bench, **changes: Any) -> ReplayReport:  # noqa: ANN401 (any option)
    """Replay all that there is."""
    options: dict[str, Any] = {"target": None, "start": None, "out": None, **changes}
    config = parse(Config, bench.settings, origin="test")
    return replay_versions(config, on_task=lambda _done, _total: None, **options)


def test_every_verdict_comes_out_the_same(daemon: ForkedDaemon, bench: Bench) -> None:
    """With every check, figure and point on the way, from version 0 on."""
    report = replay(bench)
    outcomes = daemon.outcomes()

    assert {"accepted", "held"} == {each.result for each in outcomes}
    assert any(each.point < 1 for each in outcomes)
    assert any(each.head_returns for each in outcomes)
    assert NUM_TASKS == report.num_verdicts
    assert any(check.num for each in outcomes for check in each.checks)
    assert [] == [dict(each.differences) for each in report.verdicts]
    assert "equal" == report.result
    assert () == report.not_judged
    assert max(each.version or 0 for each in outcomes) == len(report.versions)


def test_a_later_start_gathers_the_holdouts_that_it_needs(
    daemon: ForkedDaemon, bench: Bench
) -> None:
    """From the records, as a start without checkpoints does."""
    report = replay(bench, start=2)

    assert daemon.outcomes()
    assert [] == [dict(each.differences) for each in report.verdicts]
    assert ("equal", ()) == (report.result, report.not_judged)


def test_what_it_cannot_judge_it_takes_from_the_log(
    daemon: ForkedDaemon, bench: Bench, tmp_path: Path
) -> None:
    """The base holdout is gone: the weights come out the same all the same."""
    (tmp_path / "base_holdout.npz").unlink()
    report = replay(bench)

    assert "equal" == report.result
    assert 0 == report.num_verdicts
    judged = [each.task for each in daemon.outcomes() if each.result in {"accepted", "held"}]
    assert judged == list(report.not_judged)


def test_a_rollback_is_followed(daemon: ForkedDaemon, bench: Bench, tmp_path: Path) -> None:
    """What it made is made again, and learning goes on from there."""
    assert daemon.outcomes()
    state = StateDirectory(
        tmp_path / "state", PublicationConfig(), keep_checkpoints=3, now=lambda: NOW
    )
    lineage = state.journal.lineage
    old, made = version_folder(state.versions.root, 2), lineage.next_version
    loaded = state.versions.load(2, lineage.versions[2].sha256)
    manifest = state.versions.write(
        made,
        lambda folder: write_artifact(
            folder,
            loaded.network,
            loaded.manifest.design,
            replace(loaded.manifest.provenance, version=made, parent=2),
        ),
    )
    state.journal.record(
        Rollback(version=made, to=2, sha256=manifest.weights_sha256, cause="request")
    )
    state.close()
    bench.append(learnable_records(120, seed=1))
    again = ForkedDaemon(bench.settings, tmp_path)
    assert ExitCode.OK == again.run_until_tasks(NUM_TASKS + 2)
    shutil.rmtree(old)
    report = replay(bench)
    alone = replay(bench, start=1, target=made, out=tmp_path / "out")

    assert "equal" == report.result
    assert [None] == [each.task for each in report.versions if each.version == made]
    assert NUM_TASKS + 2 == report.num_verdicts
    assert made in {plan.head for plan in again.plans()}
    assert ("equal", made) == (alone.result, alone.versions[-1].version)
    assert manifest.weights_sha256 == verify_artifact(tmp_path / "out").weights_sha256
