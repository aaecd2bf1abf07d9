"""Tests of deferral: labels that wait, for how long, and what becomes of them."""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from growing_bench import (
    GrowingDaemons,
    accounts,
    deferred,
    dropped,
    files,
    learn,
    letters,
    records,
    task_of,
)

from teacherd.daemon.backup import make_backup
from teacherd.daemon.recovery import RecordsChangedError


@pytest.fixture
def start(tmp_path: Path) -> Iterator[GrowingDaemons]:
    """Give a maker of assembled daemons over one directory; close them all."""
    with closing(GrowingDaemons(tmp_path)) as daemons:
        yield daemons


def test_an_unknown_label_is_rejected_by_default(start: GrowingDaemons) -> None:
    """As it always was: a dead letter, and the plan says so."""
    bench, assembly = start([*task_of("fox"), "cat"], {"unknown": "reject"})
    learn(assembly)
    (plan,) = bench.plans()

    assert ((1,), ()) == (plan.ranges[0].rejected, plan.ranges[0].deferred)
    assert {1: "unknown_label"} == letters(bench)
    assert not plan.has_open_labels


def test_a_rare_label_is_deferred(start: GrowingDaemons) -> None:
    """It is no rejection and no dead letter: the plan passes over it, and its record is kept."""
    bench, assembly = start(task_of("fox", "elk"))
    learn(assembly)
    (plan,) = bench.plans()

    assert ([1, 2], 8, ()) == (deferred(plan), plan.num_instances, plan.ranges[0].rejected)
    assert {} == letters(bench)
    assert ["000001.jsonl"] == files(bench)
    assert {"deferred": 2, "trained": 8} == dict(accounts(bench, 10).fates)


def test_what_is_deferred_survives_a_restart(start: GrowingDaemons) -> None:
    """The payloads are there as they came, and the log says which are waited for."""
    bench, first = start(task_of("fox"))
    learn(first)
    first.close()
    _, second = start(task_of("elk"))
    learn(second)
    store = second._state.deferred  # type: ignore[union-attr] # it is open
    kept = list(store.batches(sorted(store.records)))

    assert ["fox", "elk"] == [store.records[each].name for each in sorted(store.records)]
    assert [1, 11] == [batch.offsets[0] for batch in kept]
    assert [dict(batch.record(0).headers)["label"] for batch in kept] == [b"fox", b"elk"]
    assert ([], []) == (accounts(bench, 20).lost, accounts(bench, 20).twice)


def test_a_file_that_no_plan_names_goes(start: GrowingDaemons) -> None:
    """A crash between the payloads and the plan leaves one; the next start removes it."""
    bench, first = start(task_of())
    learn(first)
    first.close()
    folder = bench.directory / "state" / "deferred"
    folder.mkdir()
    (folder / "000002.jsonl").write_text("{}\n")
    start([])

    assert [] == files(bench)


def test_the_oldest_are_dropped_when_there_is_no_room(start: GrowingDaemons) -> None:
    """Each with a dead letter that says why, and the plan names them."""
    bench, assembly = start(
        [*task_of("a", "b"), *task_of("c", "d"), *task_of("e")], {"max_deferred_bytes": 1800}
    )
    learn(assembly, 3)
    found = accounts(bench, 30)
    waiting = assembly._state.deferred  # type: ignore[union-attr] # it is open

    assert [[1, 2], [11, 12], [21]] == [deferred(plan) for plan in bench.plans()]
    gone = [each for plan in bench.plans() for each in dropped(plan)]
    assert gone
    assert {"deferred_overflow"} == set(letters(bench).values())
    assert sum(each.num_bytes for each in waiting.records.values()) <= 1800
    assert ([], []) == (found.lost, found.twice)
    assert len(letters(bench)) == found.fates["dropped"] > 0
    assert 21 not in letters(bench)


def test_one_that_is_larger_than_all_the_room_is_dropped_at_once(start: GrowingDaemons) -> None:
    """By the very plan that passes over it."""
    bench, assembly = start(task_of("fox"), {"max_deferred_bytes": 10})
    learn(assembly)
    (plan,) = bench.plans()

    assert ([1], [(1, (1,))]) == (deferred(plan), dropped(plan))
    assert {1: "deferred_overflow"} == letters(bench)
    assert {"dropped": 1, "trained": 9} == dict(accounts(bench, 10).fates)


def test_what_has_waited_for_too_long_is_dropped(start: GrowingDaemons) -> None:
    """A label that stays rare is an error of somebody's, sooner or later."""
    bench, assembly = start([*task_of("fox"), *task_of(), *task_of()], {"max_deferred_tasks": 1})
    learn(assembly, 3)

    assert [[], [], [(1, (1,))]] == [dropped(plan) for plan in bench.plans()]
    assert {1: "deferred_too_long"} == letters(bench)
    assert [] == files(bench)


def test_rejecting_again_drops_what_waits(start: GrowingDaemons) -> None:
    """The labels of a lineage that has ever deferred stay open: a rollback may need it."""
    bench, first = start(task_of("fox"))
    learn(first)
    first.close()
    bench.settings["classes"] = {"unknown": "reject"}
    bench.append(records(task_of("elk")))
    second = bench.assemble()
    learn(second)
    second.close()

    assert [(1, (1,)), (2, (11,))] == dropped(bench.plans()[1])
    assert {1: "unknown_label", 11: "unknown_label"} == letters(bench)
    assert ([], []) == (accounts(bench, 20).lost, accounts(bench, 20).twice)


def test_labels_that_can_name_nothing_are_rejected(start: GrowingDaemons) -> None:
    """Names stand in manifests, metrics and answers."""
    bench, assembly = start([*task_of("x" * 129, "a\nb", " "), *["cat", "dog", "owl"]])
    learn(assembly)
    (plan,) = bench.plans()

    assert (1, 2, 3) == plan.ranges[0].rejected
    assert {"unknown_label"} == set(letters(bench).values())


def test_a_number_is_an_index_of_the_first_classes_or_a_name(start: GrowingDaemons) -> None:
    """Index 2 is the third class of version 0, for ever; 3 names a class that there is not yet."""
    bench, assembly = start(task_of("2", "3"))
    learn(assembly)

    assert [2] == deferred(bench.plans()[0])


def test_damaged_payloads_are_read_from_the_stream_once_more(start: GrowingDaemons) -> None:
    """They are held against the digest of the range that they lay in."""
    bench, first = start(task_of("fox"))
    learn(first)
    first.close()
    (bench.directory / "state" / "deferred" / "000001.jsonl").write_text("gone\n")
    _, second = start([])

    store = second._state.deferred  # type: ignore[union-attr] # it is open
    assert ["fox"] == [each.name for each in store.records.values()]


@pytest.mark.parametrize("policy", ["stop", "continue"])
def test_payloads_that_are_gone_for_good_are_told(start: GrowingDaemons, policy: str) -> None:
    """69, or the next plan drops them: there is nothing left that a dead letter could hold."""
    bench, first = start(task_of("fox"))
    learn(first)
    first.close()
    bench.settings["stream_log"] |= {"on_lost_records": policy}
    (bench.directory / "state" / "deferred" / "000001.jsonl").unlink()
    (other,) = records(["fox"], seed=9)
    with closing(sqlite3.connect(bench.directory / "stream.db")) as stream, stream:
        stream.execute("UPDATE records SET value = ? WHERE offset = 1", (other.value,))
    bench.append(records(task_of()))

    if policy == "stop":
        with pytest.raises(RecordsChangedError, match="1 records that task 1"):
            bench.assemble()
    else:
        second = bench.assemble()
        learn(second)
        assert [(1, (1,))] == dropped(bench.plans()[-1])
        second.close()


def test_a_flood_of_labels_out_of_thin_air_stays_bounded(start: GrowingDaemons) -> None:
    """One record in ten has a label of its own: the head does not grow, the disk does not fill."""
    rng = np.random.default_rng(3)
    labels = [
        label
        for _ in range(30)
        for label in task_of("".join(rng.choice(list("abcdefgh"), size=8).tolist()))
    ]
    bench, assembly = start(labels, {"max_deferred_bytes": 3000, "max_deferred_tasks": 1000})
    for _ in range(30):
        learn(assembly)
    found = accounts(bench, 300)
    folder = bench.directory / "state" / "deferred"

    assert set() == {name for plan in bench.plans() for name in plan.new_classes}
    assert ([], []) == (found.lost, found.twice)
    assert found.fates == Counter(
        trained=270, deferred=30 - len(letters(bench)), dropped=len(letters(bench))
    )
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 6000


def test_a_backup_has_what_is_deferred(start: GrowingDaemons, tmp_path: Path) -> None:
    """It can be taken in where the backup is put back."""
    bench, assembly = start(task_of("fox"))
    learn(assembly)
    make_backup(
        bench.directory / "state",
        tmp_path / "backup",
        stream_log=None,
        all_versions=False,
        now="2030-01-01T00:00:00+00:00",
        on_progress=lambda _done, _all: None,
    )

    assert (tmp_path / "backup" / "state" / "deferred" / "000001.jsonl").is_file()
