"""The daemon as several ranks that torchrun starts: one lineage, one model, each record once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from base_models import digits
from daemon_process import DaemonProcess
from kafka import KafkaConsumer, TopicPartition
from kafka_daemon import assert_each_once, feature_values, kafka_settings, num_instances
from kafka_service import KafkaService
from ranked_daemon import RankedDaemons, largest_difference, stream_settings

from teacherd.consumers.producing import NPY, build_record, encode_npy
from teacherd.consumers.stream_log import StreamLog, StreamLogConfig
from teacherd.daemon.commands import Command
from teacherd.daemon.control_socket import ask_daemon
from teacherd.daemon.errors import ExitCode
from teacherd.models.artifact import version_folder

pytestmark = pytest.mark.slow
TOLERANCE = 1e-4
"""Of any weight after three tasks, relative to the largest one."""
_REPLAY_SECONDS = 300.0
"""Each process imports torch: on a busy machine that takes minutes."""


def replay(directory: Path, *, num_ranks: int, out: str) -> "subprocess.CompletedProcess[str]":
    """Replay the lineage of a directory by so many processes; keep the last version in `out`."""
    launcher = ("torch.distributed.run", "--standalone", "--nproc-per-node", str(num_ranks), "-m")
    return subprocess.run(
        [
            *(sys.executable, "-m", *(launcher if num_ranks > 1 else ()), "teacherd.daemon"),
            *("replay", "--out", out),
        ],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=_REPLAY_SECONDS,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def append_digits(directory: Path, start: int, end: int) -> None:
    """Append digits start to end."""
    data = digits()
    log = StreamLog(StreamLogConfig(path=str(directory / "stream.db")))
    log.append(
        build_record(
            encode_npy(data.inputs[place]), content_type=NPY, label=int(data.labels[place])
        )
        for place in range(start, end)
    )
    log.close()


def test_two_ranks_learn_a_stream_log_to_the_weights_of_one_process(
    make_ranks: RankedDaemons, digits_base_model: Path, tmp_path: Path
) -> None:
    """The second rank has no records of its own; both end in order when they are told to."""
    joined, alone = tmp_path / "joined", tmp_path / "alone"
    for directory in (joined, alone):
        directory.mkdir()
        append_digits(directory, 800, 920)
    ranks = make_ranks(joined, stream_settings(joined, digits_base_model), num_ranks=2)
    ranks.start()
    ranks.wait_for_outcomes(3)
    ranks.stop()

    assert [(0, 0), (1, 0)] == sorted(
        (event["rank"], event["exit_code"]) for event in ranks.events("stopped")
    )

    daemon = DaemonProcess(alone, stream_settings(alone, digits_base_model))
    try:
        daemon.start()
        daemon.wait_for_tasks(3)
        assert 0 == daemon.stop()
    finally:
        daemon.close()

    assert [40, 40, 40] == [plan.ranges[0].count for plan in ranks.plans()]
    assert largest_difference(joined / "state", alone / "state", 3) <= TOLERANCE


@pytest.mark.timeout(3 * _REPLAY_SECONDS)
def test_a_replay_by_as_many_ranks_comes_to_the_same_bits(
    make_ranks: RankedDaemons, digits_base_model: Path, tmp_path: Path
) -> None:
    """By one process it comes to others, and says why and what would do."""
    append_digits(tmp_path, 800, 880)
    ranks = make_ranks(tmp_path, stream_settings(tmp_path, digits_base_model), num_ranks=2)
    ranks.start()
    ranks.wait_for_outcomes(2)
    ranks.stop()
    same = replay(tmp_path, num_ranks=2, out="same")
    other = replay(tmp_path, num_ranks=1, out="other")

    assert 0 == same.returncode, same.stderr
    assert "2 versions, 2 decisions: equal" in same.stderr
    assert ExitCode.OTHER_RUNTIME == other.returncode, other.stderr
    assert "ranks was 2, is 1" in other.stderr
    assert "torchrun --nproc-per-node 2 -m teacherd.daemon replay" in other.stderr
    made, kept = (
        (folder / "teacher.safetensors").read_bytes()
        for folder in (tmp_path / "same", version_folder(tmp_path / "state" / "public", 2))
    )
    assert made == kept


def test_ranks_read_the_partitions_of_a_topic_between_them(
    kafka: KafkaService, make_ranks: RankedDaemons, tmp_path: Path
) -> None:
    """First by two ranks, then by three, of which one has none: until all is drained.

    Each record is planned once, whoever read it; rank 0 commits for all.
    """
    topic = kafka.create_topic(partitions=2)
    junk = build_record(b"junk", content_type=NPY, label="cat")
    offsets = {
        0: kafka.produce(topic, feature_values(8), partition=0),
        1: kafka.produce(topic, [*feature_values(11, seed=1), junk], partition=1),
    }
    settings = kafka_settings(tmp_path, kafka.bootstrap, topic, gate={"holdout_share": 0.2})
    ranks = make_ranks(tmp_path, settings, num_ranks=2)
    ranks.start()
    ranks.wait_for_outcomes(1)
    ranks.stop()

    assert 10 <= num_instances(ranks.plans()[0]) <= 19

    for number in offsets:
        more = feature_values(30, seed=2 + number)
        offsets[number] += kafka.produce(topic, more, partition=number)
    ranks = make_ranks(tmp_path, settings, num_ranks=3)
    ranks.start()
    ask_daemon(ranks.state, Command("drain", None))

    assert 0 == ranks.wait()
    assert_each_once(ranks.plans(), offsets)
    rejected = [
        (closed.partition, at)
        for plan in ranks.plans()
        for closed in plan.ranges
        for at in closed.rejected
    ]
    assert [(1, 11)] == rejected
    places = {closed.partition: closed.end for plan in ranks.plans() for closed in plan.ranges}
    consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap, group_id=f"{topic}-group")
    committed = {number: consumer.committed(TopicPartition(topic, number)) for number in offsets}
    consumer.close()
    assert places == committed
