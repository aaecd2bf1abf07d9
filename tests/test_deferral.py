"""Labels that are no class yet: deferred, kept, taken in later, or dropped with a dead letter."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accounting import Accounts, account
from assemblies import CLASSES, Bench, make_bench
from base_models import NUM_FEATURES

from teacherd.consumers.producing import NPY, build_record, encode_npy
from teacherd.consumers.record import NewRecord, Partition
from teacherd.consumers.stream_log import StreamLogConfig
from teacherd.consumers.stream_log_dead_letters import StreamLogDeadLetters
from teacherd.daemon.assembly import Assembly
from teacherd.daemon.backup import make_backup
from teacherd.daemon.config import Config
from teacherd.daemon.config_parsing import parse
from teacherd.daemon.entries import Plan, Retry
from teacherd.daemon.holdout_split import is_in_holdout
from teacherd.daemon.recovery import RecordsChangedError
from teacherd.daemon.replaying import replay_versions
from teacherd.models.artifact import read_manifest, version_folder

PARTITION = Partition("instances", 0)
GROW = {"unknown": "grow", "min_instances": 4}
Start = Callable[..., tuple[Bench, Assembly]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Give a maker of assembled daemons over one directory; close them all."""
    made: list[Assembly] = []

    def begin(
        labels: list[str], classes: dict[str, Any] | None = None, **sections: dict[str, Any]
    ) -> tuple[Bench, Assembly]:
        bench = make_bench(tmp_path, classes={**GROW, **(classes or {})}, **sections)
        if labels:
            bench.append(records(labels, seed=len(made)))
        made.append(bench.assemble())
        return bench, made[-1]

    yield begin
    for assembly in made:
        assembly.close()


def records(labels: list[str], *, seed: int = 0) -> list[NewRecord]:
    """Return records of four features with these labels."""
    rng = np.random.default_rng(seed)
    return [
        build_record(
            encode_npy(rng.normal(size=NUM_FEATURES).astype(np.float32)),
            content_type=NPY,
            label=label,
        )
        for label in labels
    ]


def task_of(*others: str) -> list[str]:
    """Return the labels of a task of ten, these ones among known classes."""
    return [*others, *(CLASSES[place % 3] for place in range(10 - len(others)))]


def learn(assembly: Assembly, num_tasks: int = 1) -> None:
    """Take in what there is and learn so many tasks."""
    assembly.intake.tick()
    done = assembly.learning._journal.lineage.num_tasks + num_tasks
    for _ in range(2000):
        lineage = assembly.learning._journal.lineage
        if lineage.num_tasks >= done and lineage.unfinished is None:
            return
        assembly.learning.tick()
        assembly.intake._keep_letters()
    raise AssertionError("no end")


def deferred(plan: Plan) -> list[int]:
    """Return the offsets that a plan defers."""
    return [offset for closed in plan.ranges for offset in closed.deferred]


def dropped(plan: Plan) -> list[tuple[int, tuple[int, ...]]]:
    """Return what a plan drops, by the task that deferred it."""
    return [(each.task, each.offsets) for each in plan.dropped]


def letters(bench: Bench) -> dict[int, str]:
    """Return the reasons of the dead letters by offset."""
    kept = StreamLogDeadLetters(StreamLogConfig(path=str(bench.directory / "stream.db")))
    found = {each.letter.offset: each.letter.reason for each in kept.list(1000)}
    kept.close()
    return found


def accounts(bench: Bench, num_records: int) -> Accounts:
    """Account for every record."""
    return account(
        bench.entries(),
        records={PARTITION: range(1, num_records + 1)},
        letters=[(PARTITION, offset) for offset in letters(bench)],
    )


def files(bench: Bench) -> list[str]:
    """Return the names of the files of deferred records."""
    return sorted(path.name for path in (bench.directory / "state" / "deferred").glob("*"))


def test_an_unknown_label_is_rejected_by_default(start: Start) -> None:
    """As it always was: a dead letter, and the plan says so."""
    bench, assembly = start([*task_of("fox"), "cat"], {"unknown": "reject"})
    learn(assembly)
    (plan,) = bench.plans()

    assert ((1,), ()) == (plan.ranges[0].rejected, plan.ranges[0].deferred)
    assert {1: "unknown_label"} == letters(bench)
    assert not plan.has_open_labels


def test_a_rare_label_is_deferred(start: Start) -> None:
    """It is no rejection and no dead letter: the plan passes over it, and its record is kept."""
    bench, assembly = start(task_of("fox", "elk"))
    learn(assembly)
    (plan,) = bench.plans()

    assert ([1, 2], 8, ()) == (deferred(plan), plan.num_instances, plan.ranges[0].rejected)
    assert {} == letters(bench)
    assert ["000001.jsonl"] == files(bench)
    assert {"deferred": 2, "trained": 8} == dict(accounts(bench, 10).fates)


def test_what_is_deferred_survives_a_restart(start: Start) -> None:
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


def test_a_file_that_no_plan_names_goes(start: Start) -> None:
    """A crash between the payloads and the plan leaves one; the next start removes it."""
    bench, first = start(task_of())
    learn(first)
    first.close()
    folder = bench.directory / "state" / "deferred"
    folder.mkdir()
    (folder / "000002.jsonl").write_text("{}\n")
    start([])

    assert [] == files(bench)


def test_the_oldest_are_dropped_when_there_is_no_room(start: Start) -> None:
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


def test_one_that_is_larger_than_all_the_room_is_dropped_at_once(start: Start) -> None:
    """By the very plan that passes over it."""
    bench, assembly = start(task_of("fox"), {"max_deferred_bytes": 10})
    learn(assembly)
    (plan,) = bench.plans()

    assert ([1], [(1, (1,))]) == (deferred(plan), dropped(plan))
    assert {1: "deferred_overflow"} == letters(bench)
    assert {"dropped": 1, "trained": 9} == dict(accounts(bench, 10).fates)


def test_what_has_waited_for_too_long_is_dropped(start: Start) -> None:
    """A label that stays rare is an error of somebody's, sooner or later."""
    bench, assembly = start([*task_of("fox"), *task_of(), *task_of()], {"max_deferred_tasks": 1})
    learn(assembly, 3)

    assert [[], [], [(1, (1,))]] == [dropped(plan) for plan in bench.plans()]
    assert {1: "deferred_too_long"} == letters(bench)
    assert [] == files(bench)


def test_rejecting_again_drops_what_waits(start: Start) -> None:
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


def test_labels_that_may_be_no_class_are_dropped_however_often_they_come(start: Start) -> None:
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


def test_a_class_that_there_is_stays_one_though_it_may_not_come(start: Start) -> None:
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


def test_labels_that_can_name_nothing_are_rejected(start: Start) -> None:
    """Names stand in manifests, metrics and answers."""
    bench, assembly = start([*task_of("x" * 129, "a\nb", " "), *["cat", "dog", "owl"]])
    learn(assembly)
    (plan,) = bench.plans()

    assert (1, 2, 3) == plan.ranges[0].rejected
    assert {"unknown_label"} == set(letters(bench).values())


def test_a_number_is_an_index_of_the_first_classes_or_a_name(start: Start) -> None:
    """Index 2 is the third class of version 0, for ever; 3 names a class that there is not yet."""
    bench, assembly = start(task_of("2", "3"))
    learn(assembly)

    assert [2] == deferred(bench.plans()[0])


def test_damaged_payloads_are_read_from_the_stream_once_more(start: Start) -> None:
    """They are held against the digest of the range that they lay in."""
    bench, first = start(task_of("fox"))
    learn(first)
    first.close()
    (bench.directory / "state" / "deferred" / "000001.jsonl").write_text("gone\n")
    _, second = start([])

    store = second._state.deferred  # type: ignore[union-attr] # it is open
    assert ["fox"] == [each.name for each in store.records.values()]


def test_a_label_whose_records_decode_no_longer_is_no_class(start: Start) -> None:
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


@pytest.mark.parametrize("policy", ["stop", "continue"])
def test_payloads_that_are_gone_for_good_are_told(start: Start, policy: str) -> None:
    """69, or the next plan drops them: there is nothing left that a dead letter could hold."""
    bench, first = start(task_of("fox"))
    learn(first)
    first.close()
    bench.settings["stream_log"] |= {"on_lost_records": policy}
    (bench.directory / "state" / "deferred" / "000001.jsonl").unlink()
    (bench.directory / "stream.db").rename(bench.directory / "old.db")
    bench.append(records(task_of() * 2))

    if policy == "stop":
        with pytest.raises(RecordsChangedError, match="1 records that task 1"):
            bench.assemble()
    else:
        second = bench.assemble()
        learn(second)
        assert [(1, (1,))] == dropped(bench.plans()[-1])
        second.close()


def test_a_flood_of_labels_out_of_thin_air_stays_bounded(start: Start) -> None:
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


def test_a_label_seen_often_enough_becomes_a_class(start: Start) -> None:
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


def test_a_class_that_grew_is_known_from_then_on(start: Start) -> None:
    """Its records are learned as any other's, also after a restart."""
    bench, first = start([*task_of(*["fox"] * 4), *task_of("fox")])
    learn(first, 2)
    first.close()
    _, second = start(task_of("fox", "elk"))
    learn(second)

    assert [("fox",), (), ()] == [plan.new_classes for plan in bench.plans()]
    assert [[], [], [22]] == [deferred(plan) for plan in bench.plans()]
    assert [("fox",)] * 3 == [plan.named for plan in bench.plans()]


def test_a_task_brings_no_more_classes_than_it_may(start: Start) -> None:
    """The most frequent first; the others wait, whatever waits is taken in when there is room."""
    labels = [*["elk"] * 5, *["fox"] * 4, "cat", *task_of("owl")]
    bench, assembly = start(labels, {"max_new_per_task": 1})
    learn(assembly, 2)

    assert [("elk",), ("fox",)] == [plan.new_classes for plan in bench.plans()]
    assert (6, 7, 8, 9) == bench.plans()[1].taken[0].offsets


def test_the_head_has_no_more_classes_than_it_may(start: Start) -> None:
    """What has no place waits until it is dropped."""
    labels = [*["elk"] * 5, *["fox"] * 4, "cat", *task_of(), *task_of()]
    bench, assembly = start(labels, {"max_total": 4, "max_deferred_tasks": 1})
    learn(assembly, 3)

    assert [("elk",), (), ()] == [plan.new_classes for plan in bench.plans()]
    assert {"deferred_too_long"} == set(letters(bench).values())
    assert [6, 7, 8, 9] == sorted(letters(bench))


def test_a_rollback_forgets_the_class_and_a_later_task_may_bring_it_again(start: Start) -> None:
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


def test_a_task_that_is_held_leaves_no_class(start: Start) -> None:
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


def test_a_task_tried_again_brings_what_its_head_has_lost(start: Start) -> None:
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


def test_a_task_tried_again_brings_no_class_of_which_all_is_held_out(start: Start) -> None:
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


def test_a_replay_makes_the_same_versions_with_the_same_classes(start: Start) -> None:
    """Deferred, taken in, grown: the log and the stream are enough."""
    bench, assembly = start(
        [*task_of("fox", "elk"), *task_of("fox", "fox", "fox", "elk"), *task_of("elk", "elk")],
        gate={"holdout_share": 0.2},
    )
    learn(assembly, 3)
    assembly.close()
    report = replay_versions(
        parse(Config, bench.settings, origin="test"),
        target=None,
        start=0,
        out=None,
        on_task=lambda _done, _all: None,
    )

    assert ("fox", "elk") == tuple(name for plan in bench.plans() for name in plan.new_classes)
    assert "equal" == report.result


def test_a_backup_has_what_is_deferred(start: Start, tmp_path: Path) -> None:
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
