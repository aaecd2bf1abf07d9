"""Decisions reach a webhook and a command, once they are true, over crashes and restarts."""

import json
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from assemblies import Bench, feature_records, make_bench
from crash_rig import crash_records, crash_settings
from flaky_server import Answer, Asked, FlakyServer
from forked_daemon import ForkedDaemon
from stream_writing import append_records

from teacherd.daemon.assembly import Assembly
from teacherd.daemon.commands import Command
from teacherd.daemon.config import Config
from teacherd.daemon.config_parsing import parse
from teacherd.daemon.deciding_by_hand import carry_out
from teacherd.daemon.entries import Publish
from teacherd.daemon.lineage_log import read_lineage_log
from teacherd.models.current_pointer import read_current


@pytest.fixture
def hook() -> Iterator[FlakyServer]:
    """A receiver that takes everything."""
    with FlakyServer(lambda _: Answer()) as server:
        yield server


def told(hook: FlakyServer) -> list[dict[str, Any]]:
    """Return what has arrived."""
    return [json.loads(asked.body) for asked in hook.asked]


def learn(assembly: Assembly, number: int) -> None:
    """Turn the loops until so many more tasks are closed."""
    for _ in range(number):
        while not assembly.learning.is_busy:
            assembly.intake.tick()
            assembly.learning.tick()
        while assembly.learning.is_busy:
            assembly.learning.tick()


def deliver(assembly: Assembly) -> None:
    """Let every receiver's thread end, with what waits."""
    for receiver in assembly.announcer.receivers:
        receiver.finish()
        receiver.run()


def bench_with(directory: Path, **notifications: Any) -> Bench:  # noqa: ANN401 (settings)
    """Return a bench that notifies."""
    return make_bench(directory, notifications=notifications)


def test_a_promotion_and_a_rollback_are_told(tmp_path: Path, hook: FlakyServer) -> None:
    """In order, by webhook and by command alike."""
    out = tmp_path / "events.jsonl"
    append = f"import sys; open({str(out)!r}, 'a').write(sys.stdin.read() + chr(10))"
    bench = bench_with(tmp_path, webhook_url=hook.url, command=[sys.executable, "-S", "-c", append])
    bench.append(feature_records(20))
    assembly = bench.assemble()
    learn(assembly, 2)
    assembly.commands.ask(Command("rollback", 1))
    assembly.learning.tick()
    deliver(assembly)
    assembly.close()

    assert [("promoted", 1), ("promoted", 2), ("rolled_back", 3)] == [
        (each["event"], each["version"]) for each in told(hook)
    ]
    assert told(hook) == [json.loads(line) for line in out.read_text().splitlines()]
    assert 3.0 == bench.value("notifications_total", receiver="webhook", result="delivered")


def test_what_is_served_is_told_only_once_it_is(
    tmp_path: Path, hook: FlakyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receiver that loads at once must find the version that it was told of."""
    bench = bench_with(tmp_path, webhook_url=hook.url)
    bench.append(feature_records(10))
    assembly = bench.assemble()
    [receiver] = assembly.announcer.receivers
    seen = []

    def offer(notice: Any) -> None:  # noqa: ANN401 (a Notice)
        seen.append((notice.content["version"], read_current(tmp_path / "state/public").version))

    monkeypatch.setattr(receiver, "offer", offer)
    learn(assembly, 1)
    assembly.close()

    assert [(1, 1)] == seen


def test_an_old_lineage_is_not_told_of_again(tmp_path: Path, hook: FlakyServer) -> None:
    """Who begins to be told today wants to know of today."""
    bench = make_bench(tmp_path)
    bench.append(feature_records(30))
    silent = bench.assemble()
    learn(silent, 2)
    silent.close()
    bench.settings["notifications"] = {"webhook_url": hook.url}
    assembly = bench.assemble()
    learn(assembly, 1)
    deliver(assembly)
    assembly.close()

    assert [3] == [each["version"] for each in told(hook)]


def test_what_a_process_could_not_tell_the_next_one_tells(
    tmp_path: Path, hook: FlakyServer
) -> None:
    """Also what a command did to the files while no daemon ran."""
    bench = bench_with(tmp_path, webhook_url=hook.url)
    bench.append(feature_records(10))
    killed = bench.assemble()
    learn(killed, 1)
    killed.close()  # nothing was delivered
    carry_out(parse(Config, bench.settings, origin="test"), Command("rollback", 0))
    assembly = bench.assemble()
    deliver(assembly)
    assembly.close()
    again = bench.assemble()
    deliver(again)
    again.close()

    assert [("promoted", 1), ("rolled_back", 2)] == [
        (each["event"], each["version"]) for each in told(hook)
    ]


@pytest.fixture
def forked(tmp_path: Path, digits_base_model: Path, hook: FlakyServer) -> Iterator[ForkedDaemon]:
    """A real service with records for two tasks, which notifies."""
    settings = crash_settings(tmp_path, digits_base_model)
    settings["notifications"] = {"webhook_url": f"{hook.url}/secret-path"}
    append_records(settings["stream_log"]["path"], crash_records(2))
    daemon = ForkedDaemon(settings, tmp_path)
    yield daemon
    daemon.close()


@pytest.mark.parametrize(
    "failpoint", ["publish.appended", "current.renamed:2", "notified-webhook.json.renamed:2"]
)
def test_a_crash_loses_no_event(forked: ForkedDaemon, hook: FlakyServer, failpoint: str) -> None:
    """Between entry, `current` and delivery: told at least once, and under the same id."""
    forked.start(failpoint)
    assert -signal.SIGKILL == forked.wait()

    def published() -> list[int]:
        return [
            each.sequence
            for each in read_lineage_log(forked.lineage_log)
            if isinstance(each.entry, Publish) and each.entry.version
        ]

    def all_are_told() -> bool:
        return set(published()) <= {each["sequence"] for each in told(hook)}

    forked.start()
    forked.wait_until_started()
    # At its end it tries for a few seconds only, and leaves the rest to the next start.
    forked.wait_until(lambda: len(published()) >= 2 and all_are_told())

    assert 0 == forked.terminate()
    assert published() == sorted({each["sequence"] for each in told(hook)})
    assert len(told(hook)) <= len(published()) + 1
    assert "secret-path" not in forked.log_path.read_text()


def test_a_receiver_that_hangs_delays_nobody(forked: ForkedDaemon, hook: FlakyServer) -> None:
    """Two tasks are learned and served meanwhile, and the daemon ends in order."""
    release = threading.Event()
    was_released: list[bool] = []

    def hang(_: Asked) -> Answer:
        was_released.append(release.wait(300))
        return Answer()

    hook.answer = hang
    forked.start()
    forked.wait_until_started()
    forked.wait_until(lambda: len(forked.outcomes()) >= 2 and bool(hook.asked))

    assert 0 == forked.terminate()
    assert [] == was_released

    release.set()
