"""Verbs about records: produced, refused, requeued; and the demo's refusals."""

import time
from pathlib import Path

import numpy as np
import pytest
from base_models import untrained_base
from command_line import CommandLine, write_settings
from kafka_service import KafkaService
from records import INSTANCES

from teacherd.consumers.dead_letters import DeadLetter
from teacherd.consumers.kafka_archive import KafkaArchive
from teacherd.consumers.kafka_config import KafkaConfig
from teacherd.consumers.record import OffsetRange, Partition, Record
from teacherd.consumers.stream_log import StreamLog, StreamLogConfig
from teacherd.consumers.stream_log_dead_letters import StreamLogDeadLetters

BRIEFLY = ("--set", "kafka.extra={max_block_ms: 2000}")
AWAY = ("--set", "kafka.extra={bootstrap_timeout_ms: 500}")


@pytest.fixture
def teacherd(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """Run verbs in this process."""
    return CommandLine(capsys)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a configuration with a stream log that is not there yet."""
    return write_settings(tmp_path, base=untrained_base(tmp_path))


@pytest.fixture
def log(tmp_path: Path) -> StreamLogConfig:
    """Return where the configuration has the stream log."""
    return StreamLogConfig(path=str(tmp_path / "stream.db"))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Return twelve small images of two classes."""
    inputs = np.arange(12 * 16, dtype=np.uint8).reshape(12, 4, 4)
    np.savez(tmp_path / "images.npz", images=inputs, labels=np.arange(12) % 2)
    return tmp_path / "images.npz"


@pytest.fixture
def refused(config: Path, log: StreamLogConfig) -> Path:
    """Return it with three records set aside, with what a terminal and rich obey."""
    letters = StreamLogDeadLetters(log)
    letters.add(
        DeadLetter(
            origin=INSTANCES,
            offset=offset,
            key=None,
            headers=b"",
            value=b"x" * offset,
            stage="decoding",
            reason="unknown_label",
            message=f"the label [red]\x1b[31m{offset} is none",
            timestamp_ms=1_000,
        )
        for offset in (1, 2, 3)
    )
    letters.close()
    return config


def test_a_data_set_is_produced(
    teacherd: CommandLine, config: Path, images: Path, log: StreamLogConfig
) -> None:
    """What the verb says is what is in the log; progress goes to stderr."""
    answer = teacherd("produce", images, "--config", config, "--limit", "5", "--json")
    again = teacherd("produce", images, "--config", config, "--format", "png")
    stream = StreamLog(log)
    batch = stream.poll(100, 0.0)
    stream.close()

    assert {"records": 5, "last_offset": 5} == answer.json
    assert "records: 5/5" in answer.err
    assert (0, "") == (again.code, again.out)
    assert f"12 records appended to {log.path}, the last at offset 17" in again.err
    assert 17 == len(batch)


@pytest.mark.parametrize(
    ("flags", "ending"),
    [
        (("nowhere",), (2, "data set 'nowhere'")),
        (("vectors.npz", "--format", "png"), (2, "--format: vectors.npz holds feature vectors")),
        (("images.npz", "--set", "stream_log.path=none/x.db"), (78, "stream_log.path: none/x.db")),
        (
            ("images.npz", "--set", "stream_log.path=images.npz"),
            (78, "stream_log.path: images.npz"),
        ),
    ],
)
def test_what_cannot_be_produced_is_told(
    teacherd: CommandLine,
    images: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: tuple[str, ...],
    ending: tuple[int, str],
) -> None:
    """By flag or key, with nothing on stdout."""
    monkeypatch.chdir(images.parent)
    np.savez("vectors.npz", features=np.zeros((4, 2), np.float32), labels=np.arange(4) % 2)
    write_settings(images.parent, base=images.parent)
    answer = teacherd("produce", *flags, "--json")
    code, reason = ending

    assert (code, "") == (answer.code, answer.out)
    assert reason in answer.err


def test_refused_records_are_listed(teacherd: CommandLine, refused: Path) -> None:
    """With origin and reason, without payloads."""
    rows = teacherd("dead-letters", "list", "--config", refused, "--json").json

    assert [1, 2, 3] == [row["number"] for row in rows]
    assert {
        "number": 2,
        "topic": "instances",
        "partition": 0,
        "offset": 2,
        "reason": "unknown_label",
        "message": "the label [red]\x1b[31m2 is none",
        "bytes": 2,
        "at": "1970-01-01T00:00:01.000+00:00",
    } == rows[1]


def test_what_strangers_wrote_is_shown_but_not_obeyed(teacherd: CommandLine, refused: Path) -> None:
    """Neither by the terminal nor by what draws the table."""
    shown = teacherd("dead-letters", "list", "--config", refused).out

    assert "the label [red]\\x1b[31m1 is none" in shown
    assert "\x1b" not in shown


def test_a_long_list_comes_in_parts(teacherd: CommandLine, refused: Path) -> None:
    """It says how to go on."""
    first = teacherd("dead-letters", "list", "--config", refused, "--limit", "2")
    rest = teacherd("dead-letters", "list", "--config", refused, "--after", "2", "--json")

    assert "there may be more: --after 2" in first.err
    assert [3] == [row["number"] for row in rest.json]


def test_refused_records_are_requeued_once(teacherd: CommandLine, refused: Path) -> None:
    """By number or all; what does not wait is told, and is no failure."""
    first = teacherd("dead-letters", "requeue", "1", "--config", refused, "--json")
    again = teacherd("dead-letters", "requeue", "1", "2", "--config", refused)
    others = teacherd("dead-letters", "requeue", "--all", "--config", refused, "--json")
    empty = teacherd("dead-letters", "list", "--config", refused)

    assert {"requeued": 1} == first.json
    assert "1 requeued\n1 of those numbers do not wait; see the list\n" == again.err
    assert {"requeued": 1} == others.json
    assert "dead letters: none waits\n" == empty.out
    assert [] == teacherd("dead-letters", "list", "--config", refused, "--json").json


@pytest.mark.parametrize("flags", [(), ("1", "--all")])
def test_requeuing_wants_numbers_or_all(
    teacherd: CommandLine, refused: Path, flags: tuple[str, ...]
) -> None:
    """Neither is too little, both too much."""
    answer = teacherd("dead-letters", "requeue", *flags, "--config", refused)

    assert 2 == answer.code
    assert "or --all" in answer.err
    assert 3 == len(teacherd("dead-letters", "list", "--config", refused, "--json").json)


@pytest.mark.parametrize("verb", [("list",), ("requeue", "--all")])
def test_without_a_stream_log_there_are_no_dead_letters(
    teacherd: CommandLine, config: Path, log: StreamLogConfig, verb: tuple[str, ...]
) -> None:
    """Looking must not make one."""
    answer = teacherd("dead-letters", *verb, "--config", config)

    assert 2 == answer.code
    assert f"stream_log.path: {log.path} is not there" in answer.err
    assert not Path(log.path).exists()


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (("--dataset", "nowhere"), "data set 'nowhere'"),
        (("--dataset", "images.npz"), "has 12 instances; a demo needs 180 or more"),
        (("--dataset", "vectors.npz", "--drift", "blur"), "blur is for images"),
        (("--out", "images.npz"), "--out: images.npz cannot be used: Not a directory"),
        (("--out", "."), "--out: . holds something that is no demo"),
    ],
)
def test_a_demo_that_cannot_be_is_refused_at_once(
    teacherd: CommandLine,
    images: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: tuple[str, ...],
    reason: str,
) -> None:
    """Before anything is started; nothing is touched."""
    monkeypatch.chdir(images.parent)
    np.savez("vectors.npz", features=np.ones((200, 2), np.float32), labels=np.arange(200) % 2)
    before = {path: path.read_bytes() for path in sorted(Path().iterdir())}
    answer = teacherd("demo", *flags)

    assert (2, "") == (answer.code, answer.out)
    assert reason in answer.err
    assert before == {path: path.read_bytes() for path in sorted(Path().iterdir())}


def test_a_data_set_is_produced_to_a_topic(
    teacherd: CommandLine, config: Path, images: Path, kafka: KafkaService
) -> None:
    """It is made with its partitions, keys choose among them, and progress goes to stderr."""
    topic = f"{kafka.create_topic()}-made"
    to = ("--config", config, "--to", f"kafka://{kafka.bootstrap}/{topic}")
    first = teacherd("produce", images, *to, "--partitions", "3", "--keys", "label", "--json")
    began = time.monotonic()
    again = teacherd("produce", images, *to, "--partition", "2", "--limit", "5", "--rate", "10")
    seconds = time.monotonic() - began
    records = all_records(kafka, topic)
    partitions_of = {
        key: {record.partition.number for record in records if record.key == key}
        for key in (b"0", b"1")
    }

    assert (0, 12) == (first.code, first.json["records"])
    assert "records: 12/12" in first.err
    assert [1, 1] == [len(numbers) for numbers in partitions_of.values()]
    assert (0, "") == (again.code, again.out)
    assert f"5 records appended to {topic}, the last at offset" in again.err
    assert [2] * 5 == [each.partition.number for each in records if each.key is None]
    assert 17 == len(records)
    # Ten a second: the fifth is sent after 0.4 s at the earliest.
    assert seconds > 0.4


def all_records(kafka: KafkaService, topic: str) -> list[Record]:
    """Return what a topic of three partitions holds."""
    archive = KafkaArchive(KafkaConfig(bootstrap_servers=kafka.bootstrap, topic=topic))
    ranges = [OffsetRange(Partition(topic, number), 0, 1 << 30) for number in range(3)]
    records = [record for batch in archive.read(ranges) for record in batch]
    archive.close()
    return records


@pytest.mark.parametrize(
    ("flags", "ending"),
    [
        (("--to", "kafka://127.0.0.1:1"), (2, "--to: kafka://127.0.0.1:1")),
        (("--to", "http://host:1/topic"), (2, "--to: http://host:1/topic")),
        (
            ("--to", "kafka://127.0.0.1:1/topic", *AWAY),
            (69, "Kafka at 127.0.0.1:1 does not answer"),
        ),
        (("--to", "kafka://BROKER/nothing-of-that-name", *BRIEFLY), (69, "nothing-of-that-name")),
    ],
)
def test_a_topic_that_cannot_be_produced_to_is_told(
    teacherd: CommandLine,
    config: Path,
    kafka: KafkaService,
    *,
    flags: tuple[str, ...],
    ending: tuple[int, str],
) -> None:
    """With the code that scripts go by."""
    flags = tuple(flag.replace("BROKER", kafka.bootstrap) for flag in flags)
    answer = teacherd("produce", "digits", "--config", config, *flags)

    assert (ending[0], True) == (answer.code, ending[1] in answer.err), answer.err
