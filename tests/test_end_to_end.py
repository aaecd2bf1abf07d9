"""The daemon from outside: a real process, a real stream, real HTTP, a real loader beside it."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from base_models import digits
from daemon_process import DaemonProcess
from prometheus_client.parser import text_string_to_metric_families
from records import malformed_records

from teacherd.consumers.headers import pack_headers
from teacherd.consumers.producing import NPY, build_record, encode_npy, encode_png
from teacherd.consumers.stream_log import StreamLog, StreamLogConfig
from teacherd.consumers.stream_log_dead_letters import StreamLogDeadLetters
from teacherd.models.hot_teacher import HotTeacher

TASK_INSTANCES = 40


def settings(directory: Path, base: Path) -> dict[str, dict[str, Any]]:
    """Return what makes a small daemon below a directory."""
    return {
        "model": {"base": str(base)},
        "process": {"state_directory": str(directory / "state"), "num_threads": 1},
        "stream_log": {"path": str(directory / "stream.db")},
        "tasks": {"instances": TASK_INSTANCES, "min_instances": 1, "max_age_seconds": 3600},
        "learning": {"epochs": 10, "consolidation": {"freezing_epochs": 2, "interval_epochs": 4}},
        "evaluation": {"sets": {"held_out": str(directory / "held_out.npz")}},
        "gate": {"holdout_share": 0},
        "endpoints": {"port": 0},
        "logging": {"format": "json"},
    }


def append_digits(directory: Path, start: int, end: int) -> None:
    """Append digits start to end, half as arrays, half as PNG."""
    data = digits()
    log = StreamLog(StreamLogConfig(path=str(directory / "stream.db")))
    log.append(
        build_record(
            encode_png(data.inputs[place]) if place % 2 else encode_npy(data.inputs[place]),
            content_type="image/png" if place % 2 else NPY,
            label=int(data.labels[place]),
        )
        for place in range(start, end)
    )
    log.close()


@pytest.fixture
def daemon(tmp_path: Path, digits_base_model: Path) -> Iterator[DaemonProcess]:
    """Give a daemon that is not started yet; leave none behind."""
    import numpy as np  # noqa: PLC0415 (beside its one use)

    data = digits()
    np.savez(tmp_path / "held_out.npz", inputs=data.inputs[-200:], labels=data.labels[-200:])
    process = DaemonProcess(tmp_path, settings(tmp_path, digits_base_model))
    yield process
    process.close()


def scrape(daemon: DaemonProcess) -> dict[str, float]:
    """Return every sample of /metrics by name and labels."""
    _, body = daemon.get("/metrics")
    return {
        f"{sample.name}{sorted(sample.labels.items()) or ''}": sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def test_labels_go_in_and_a_loader_beside_gets_the_new_teacher(daemon: DaemonProcess) -> None:
    """The main job: three tasks, three versions, loaded by a reader that never restarts."""
    daemon.start()
    public = daemon.state / "public"
    with HotTeacher(public, poll_seconds=0.05) as teacher:
        assert 0 == teacher.version

        append_digits(daemon.directory, 0, 3 * TASK_INSTANCES)
        daemon.wait_for_tasks(3)
        daemon.wait_until(lambda: teacher.version == 3)
        prediction = teacher.predict(digits().inputs[:50])

    status, metrics = daemon.status(), scrape(daemon)

    assert 3 == prediction.version
    assert 50 == len(prediction.labels)
    assert (3, 3) == (status["lineage"]["head"], status["lineage"]["current"])
    assert 3 * TASK_INSTANCES == status["lineage"]["instances_learned"]
    assert 3.0 == metrics["teacherd_teacher_version"]
    assert 3.0 == metrics["teacherd_tasks_total[('outcome', 'accepted')]"]
    assert 3.0 * TASK_INSTANCES == metrics["teacherd_instances_learned_total"]
    consumed = "teacherd_records_consumed_total[('partition', '0'), ('topic', 'instances')]"
    assert 3.0 * TASK_INSTANCES == metrics[consumed]
    for model in ("base", "student", "teacher"):
        accuracy = metrics[f"teacherd_accuracy_ratio[('model', '{model}'), ('split', 'held_out')]"]
        assert 0.5 < accuracy <= 1
    assert 0 <= metrics["teacherd_freshness_seconds"] < 3600
    assert (200, 200) == (daemon.get("/livez")[0], daemon.get("/readyz")[0])
    assert 0 == daemon.stop()


def test_an_empty_stream_is_waited_on(daemon: DaemonProcess) -> None:
    """No record is no error: the daemon is ready, serves version 0, and ends in order."""
    daemon.start()

    assert 0 == daemon.status()["lineage"]["tasks"]
    assert 0 == daemon.status()["lineage"]["current"]
    assert 0 == daemon.stop()


def test_a_killed_daemon_goes_on_where_it_was(daemon: DaemonProcess) -> None:
    """After kill -9 each record is in exactly one task, and the version counts go on."""
    append_digits(daemon.directory, 0, 2 * TASK_INSTANCES)
    daemon.start()
    daemon.wait_for_tasks(1)
    daemon.kill()
    append_digits(daemon.directory, 2 * TASK_INSTANCES, 4 * TASK_INSTANCES)
    daemon.start()
    daemon.wait_for_tasks(4)

    status = daemon.status()["lineage"]

    assert (4, 4 * TASK_INSTANCES) == (status["head"], status["instances_learned"])
    assert {"instances/0": 4 * TASK_INSTANCES + 1} == status["places"]
    assert 0 == daemon.stop()


def test_malformed_records_are_set_aside_and_the_rest_is_learned(daemon: DaemonProcess) -> None:
    """Two hundred and more records that are none: all in the dead letters, the daemon alive."""
    bad = malformed_records()
    log = StreamLog(StreamLogConfig(path=str(daemon.directory / "stream.db")))
    append_digits(daemon.directory, 0, TASK_INSTANCES // 2)
    log.append(bad)
    log.close()
    append_digits(daemon.directory, TASK_INSTANCES // 2, TASK_INSTANCES)
    daemon.start()
    daemon.wait_for_tasks(1)
    letters = StreamLogDeadLetters(StreamLogConfig(path=str(daemon.directory / "stream.db")))
    kept = letters.list(10_000)
    letters.close()

    assert len(bad) >= 200
    assert [record.value for record in bad] == [each.letter.value for each in kept]
    assert [pack_headers(record.headers) for record in bad] == [
        each.letter.headers for each in kept
    ]
    first = TASK_INSTANCES // 2 + 1
    assert list(range(first, first + len(bad))) == [each.letter.offset for each in kept]
    rejected = [value for name, value in scrape(daemon).items() if "records_rejected_total" in name]
    assert len(bad) == sum(rejected)
    assert TASK_INSTANCES == daemon.status()["lineage"]["instances_learned"]
    assert 0 == daemon.stop()


def test_dead_letters_can_be_listed_and_requeued(daemon: DaemonProcess) -> None:
    """A requeued record is read again, and refused again if nothing was mended."""
    log = StreamLog(StreamLogConfig(path=str(daemon.directory / "stream.db")))
    log.append([build_record(b"junk", content_type=NPY, label="3")])
    log.close()
    daemon.start()
    daemon.wait_until(lambda: "malformed" in json.dumps(list(scrape(daemon))))
    listed = teacherd(daemon, "dead-letters", "list", "--json")

    assert [(1, "malformed")] == [(each["offset"], each["reason"]) for each in listed]
    assert {"requeued": 1} == teacherd(daemon, "dead-letters", "requeue", "--all", "--json")
    daemon.wait_until(lambda: len(teacherd(daemon, "dead-letters", "list", "--json")) == 1)
    assert [2] == [each["offset"] for each in teacherd(daemon, "dead-letters", "list", "--json")]


def test_a_good_reload_is_taken_over_and_a_bad_one_refused(daemon: DaemonProcess) -> None:
    """SIGHUP validates whole, applies what may change, and keeps running on anything else."""
    daemon.start()
    raw = daemon.config_path.read_text()
    daemon.config_path.write_text(raw.replace("epochs: 10", "epochs: 12"))
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_until(lambda: bool(daemon.events("reloaded")))

    assert ["learning.epochs"] == daemon.events("reloaded")[0]["changed"]

    for bad in ("epochs: none", "epochs: 12\n  epoch: 3"):
        daemon.config_path.write_text(raw.replace("epochs: 10", bad))
        refused = len(daemon.events("reload_refused"))
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_until(lambda count=refused: len(daemon.events("reload_refused")) > count)

    assert 0.0 == scrape(daemon)["teacherd_config_last_reload_successful"]

    append_digits(daemon.directory, 0, TASK_INSTANCES)
    daemon.wait_for_tasks(1)
    plan = teacherd(daemon, "versions", "show", "1", "--json", config=raw)["plan"]

    assert 12 == plan["epochs"]
    assert 0 == daemon.stop()


def test_read_verbs_answer_while_it_runs(daemon: DaemonProcess) -> None:
    """Status and versions are there for programs, beside a running daemon."""
    append_digits(daemon.directory, 0, TASK_INSTANCES)
    daemon.start()
    daemon.wait_for_tasks(1)
    status = teacherd(daemon, "status", "--url", f"http://127.0.0.1:{daemon.port}", "--json")
    versions = teacherd(daemon, "versions", "list", "--json")
    verified = teacherd(daemon, "versions", "verify", "--json")

    assert "ready" == status["state"]
    assert [0, 1] == [row["version"] for row in versions]
    assert "current, head" == versions[1]["state"]
    assert ["good", "good"] == [row["state"] for row in verified]


def teacherd(daemon: DaemonProcess, *arguments: str, config: str | None = None) -> Any:  # noqa: ANN401 (any JSON)
    """Run a verb on the daemon's configuration and return its JSON."""
    if config is not None:
        daemon.config_path.write_text(config)
    command = [sys.executable, "-m", "teacherd.daemon", *arguments]
    done = subprocess.run(
        [*command, "--config", str(daemon.config_path)],
        check=True,
        capture_output=True,
        cwd=daemon.directory,
    )
    return json.loads(done.stdout)
