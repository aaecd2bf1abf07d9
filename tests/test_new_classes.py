"""Tests of labels that become classes: when, how many, and what a retry or replay makes of it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from base_models import untrained_base
from growing_bench import (
    GROW,
    PARTITION,
    GrowingDaemons,
    accounts,
    deferred,
    dropped,
    files,
    learn,
    letters,
    records,
    replay,
    task_of,
)

from teacherd.daemon.entries import Retry
from teacherd.daemon.errors import UnavailableError
from teacherd.daemon.holdout_split import is_in_holdout
from teacherd.models.artifact import load_artifact, read_manifest, version_folder
from teacherd.models.class_means import head_with_means, means_of


@pytest.fixture
def start(tmp_path: Path) -> Iterator[GrowingDaemons]:
    """Give a maker of assembled daemons over one directory; close them all."""
    with closing(GrowingDaemons(tmp_path)) as daemons:
        yield daemons


def test_labels_that_may_be_no_class_are_dropped_however_often_they_come(
    start: GrowingDaemons,
) -> None:
    """Those of the task at once, those that wait from before the settings said so, too."""
    bench, first = start(task_of("n/a", "elk"))
    learn(first)
    first.close()
    bench.settings["classes"] = {**GROW, "allow": ["*", "!n/a"]}
    bench.append(records(task_of(*["n/a"] * 5, *["elk"] * 3)))
    second = bench.assemble()
    learn(second)
    second.close()

    assert [(1, (1,)), (2, (11, 12, 13, 14, 15))] == dropped(bench.plans()[1])
    assert ("elk",) == bench.plans()[1].new_classes
    assert {"label_not_allowed"} == set(letters(bench).values())
    assert ([], []) == (accounts(bench, 20).lost, accounts(bench, 20).twice)


def test_a_class_that_there_is_stays_one_though_it_may_not_come(start: GrowingDaemons) -> None:
    """Who narrows what may come does not want to lose what has."""
    bench, first = start(task_of(*["fox"] * 4))
    learn(first)
    first.close()
    bench.settings["classes"] = {**GROW, "allow": ["elk"]}
    bench.append(records(task_of("fox")))
    second = bench.assemble()
    learn(second)
    second.close()

    assert [[], []] == [dropped(plan) for plan in bench.plans()]
    assert {"trained": 20} == dict(accounts(bench, 20).fates)


def test_a_label_whose_records_decode_no_longer_is_no_class(start: GrowingDaemons) -> None:
    """Settings have changed since they came: a class without an instance could not be learned."""
    long = [
        each._replace(headers=(*each.headers, ("note", b"x" * 500)))
        for each in records(["fox"] * 4)
    ]
    bench, first = start(["elk"] * 5, {"max_new_per_task": 1})
    bench.append([*long, *records(["cat"])])
    learn(first)
    first.close()
    bench.settings["decoding"] = {"max_header_bytes": 200}
    bench.append(records(task_of()))
    second = bench.assemble()
    learn(second)
    second.close()

    assert [("elk",), ()] == [plan.new_classes for plan in bench.plans()]
    assert [(1, (6, 7, 8, 9))] == dropped(bench.plans()[1])
    assert dict.fromkeys((6, 7, 8, 9), "headers_too_large") == letters(bench)
    assert ([], []) == (accounts(bench, 20).lost, accounts(bench, 20).twice)


def test_a_label_seen_often_enough_becomes_a_class(start: GrowingDaemons) -> None:
    """With what was deferred of it; plan, log, manifest and status agree on names and order."""
    bench, assembly = start([*task_of("fox", "elk"), *task_of("fox", "fox", "fox", "elk")])
    learn(assembly, 2)
    second = bench.plans()[1]
    manifest = read_manifest(version_folder(bench.directory / "state" / "public", 2))

    assert (("fox",), (1,)) == (second.new_classes, second.taken[0].offsets)
    assert ([14], 10) == (deferred(second), second.num_instances)
    assert ["accepted", "accepted"] == [each.result for each in bench.outcomes()]
    assert (("cat", "dog", "owl", "fox"), (3, 1)) == (manifest.classes, manifest.increments)
    assert {"trained": 18, "deferred": 2} == dict(accounts(bench, 20).fates)
    status = bench.board.snapshot()["classes"]
    assert (["fox"], {"elk": 2}) == (status["later"], status["most_frequent"])
    assert 1.0 == bench.value("classes_added_total")
    assert 2.0 == bench.value("deferred_records")


def test_a_class_that_grew_is_known_from_then_on(start: GrowingDaemons) -> None:
    """Its records are learned as any other's, also after a restart."""
    bench, first = start([*task_of(*["fox"] * 4), *task_of("fox")])
    learn(first, 2)
    first.close()
    _, second = start(task_of("fox", "elk"))
    learn(second)

    assert [("fox",), (), ()] == [plan.new_classes for plan in bench.plans()]
    assert [[], [], [22]] == [deferred(plan) for plan in bench.plans()]
    assert [("fox",)] * 3 == [plan.named for plan in bench.plans()]


def test_a_task_brings_no_more_classes_than_it_may(start: GrowingDaemons) -> None:
    """The most frequent first; the others wait, whatever waits is taken in when there is room."""
    labels = [*["elk"] * 5, *["fox"] * 4, "cat", *task_of("owl")]
    bench, assembly = start(labels, {"max_new_per_task": 1})
    learn(assembly, 2)

    assert [("elk",), ("fox",)] == [plan.new_classes for plan in bench.plans()]
    assert (6, 7, 8, 9) == bench.plans()[1].taken[0].offsets


def test_the_head_has_no_more_classes_than_it_may(start: GrowingDaemons) -> None:
    """What has no place waits until it is dropped."""
    labels = [*["elk"] * 5, *["fox"] * 4, "cat", *task_of(), *task_of()]
    bench, assembly = start(labels, {"max_total": 4, "max_deferred_tasks": 1})
    learn(assembly, 3)

    assert [("elk",), (), ()] == [plan.new_classes for plan in bench.plans()]
    assert {"deferred_too_long"} == set(letters(bench).values())
    assert [6, 7, 8, 9] == sorted(letters(bench))


def test_a_rollback_forgets_the_class_and_a_later_task_may_bring_it_again(
    start: GrowingDaemons,
) -> None:
    """The classes are those of the version whose weights are served again."""
    bench, assembly = start(task_of(*["fox"] * 4))
    learn(assembly)
    assembly.learning._interventions.roll_back(0)
    bench.append(records(task_of("fox"), seed=8))
    learn(assembly)
    bench.append(records(task_of(*["elk"] * 4, *["fox"] * 3), seed=9))
    learn(assembly)
    lineage = assembly.learning._journal.lineage

    assert ("cat", "dog", "owl") == lineage.versions[2].classes == lineage.versions[3].classes
    assert ("cat", "dog", "owl", "elk", "fox") == lineage.classes
    assert [[], [11], []] == [deferred(plan) for plan in bench.plans()]


def test_a_task_that_is_held_leaves_no_class(start: GrowingDaemons) -> None:
    """The head stays as it was; tried again, the task brings its class and what it took in."""
    bench, assembly = start([*task_of("fox"), *task_of("fox", "fox", "fox")])
    learn(assembly)
    assembly.learning.tick()
    assembly.learning._close_for_rollback()
    lineage = assembly.learning._journal.lineage
    assert (("cat", "dog", "owl"), 0) == (lineage.classes, len(lineage.deferred))
    assert ["000001.jsonl"] == files(bench)

    assembly.learning._interventions.retry(2)
    while lineage.set_aside or lineage.unfinished:
        assembly.learning.tick()
        assembly.intake.requests.serve(assembly.intake._source)

    assert ("cat", "dog", "owl", "fox") == lineage.classes
    assert [] == files(bench)
    assert {"trained": 20} == dict(accounts(bench, 20).fates)


def test_a_task_tried_again_brings_what_its_head_has_lost(start: GrowingDaemons) -> None:
    """It was planned when its class was there; a rollback has taken that away meanwhile."""
    bench, assembly = start([*task_of(*["fox"] * 4), *task_of("fox")])
    learn(assembly)
    assembly.learning.tick()
    assembly.learning._close_for_rollback()
    assembly.learning._interventions.roll_back(0)
    lineage = assembly.learning._journal.lineage
    assert ("cat", "dog", "owl") == lineage.classes

    assembly.learning._interventions.retry(2)
    while lineage.set_aside or lineage.unfinished:
        assembly.learning.tick()
        assembly.intake.requests.serve(assembly.intake._source)

    (retry,) = [each for each in bench.entries() if isinstance(each, Retry)]
    assert (("fox",), ("cat", "dog", "owl", "fox")) == (retry.new_classes, lineage.classes)


def test_a_task_tried_again_brings_no_class_of_which_all_is_held_out(start: GrowingDaemons) -> None:
    """There is nothing to learn it from: the learner would refuse the task, at every start."""
    held_out = next(
        name
        for name in (b"%d" % number for number in range(100))
        if is_in_holdout(name, PARTITION, 0, share=0.5)
    )
    bench, assembly = start(task_of(*["fox"] * 4), gate={"holdout_share": 0.5})
    (fox,) = records(["fox"], seed=5)
    bench.append([fox._replace(headers=(*fox.headers, ("id", held_out)))])
    bench.append(records(task_of()[1:], seed=6))
    learn(assembly)
    assembly.learning._interventions.promote(1)
    assembly.learning.tick()
    assembly.learning._close_for_rollback()
    assembly.learning._interventions.roll_back(0)
    lineage = assembly.learning._journal.lineage

    assembly.learning._interventions.retry(2)
    while lineage.set_aside or lineage.unfinished:
        assembly.learning.tick()
        assembly.intake.requests.serve(assembly.intake._source)

    (retry,) = [each for each in bench.entries() if isinstance(each, Retry)]
    assert (("fox",), ()) == (bench.plans()[1].named, retry.new_classes)


def test_a_replay_makes_the_same_versions_with_the_same_classes(start: GrowingDaemons) -> None:
    """Deferred, taken in, grown: the log and the stream are enough."""
    bench, assembly = start(
        [*task_of("fox", "elk"), *task_of("fox", "fox", "fox", "elk"), *task_of("elk", "elk")],
        gate={"holdout_share": 0.2},
    )
    learn(assembly, 3)
    assembly.close()

    assert ("fox", "elk") == tuple(name for plan in bench.plans() for name in plan.new_classes)
    assert "equal" == replay(bench)


def test_a_replay_comes_to_the_same_class_means(start: GrowingDaemons, tmp_path: Path) -> None:
    """They are in the weights: two tasks of new classes alone, after one that gives the old."""
    base = untrained_base(tmp_path, name="with-means", class_means=True)
    bench, assembly = start([*task_of(), *["fox"] * 10, *["elk"] * 10], model={"base": str(base)})
    learn(assembly, 3)
    assembly.close()
    newest = load_artifact(version_folder(bench.directory / "state" / "public", 3))
    head = head_with_means(newest.network)

    assert "equal" == replay(bench)
    assert head is not None
    assert [4, 3, 3, 10, 10] == means_of(head)[1].tolist()


def test_a_replay_refuses_other_records_than_those_that_were_taken_in(
    start: GrowingDaemons,
) -> None:
    """Where it begins behind the task that deferred them, only the later plan knows them."""
    bench, assembly = start([*task_of("fox"), *task_of("fox", "fox", "fox")])
    learn(assembly, 2)
    assembly.close()
    (other,) = records(["fox"], seed=9)
    with closing(sqlite3.connect(bench.directory / "stream.db")) as stream, stream:
        stream.execute("UPDATE records SET value = ? WHERE offset = 1", (other.value,))

    assert (1,) == bench.plans()[1].taken[0].offsets
    with pytest.raises(UnavailableError, match="offsets 1 to 1, are others now"):
        replay(bench, start=1)
