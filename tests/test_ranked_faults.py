"""Ranks that die, hang or come back in another number: nothing is lost, nothing learned twice."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka_daemon import assert_each_once, kafka_settings
from kafka_service import KafkaService
from pouring_topic import PouringTopic
from ranked_daemon import RankedDaemon

from teacherd.daemon.commands import Command
from teacherd.daemon.control_socket import ask_daemon

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
NUM_KILLS = int(os.environ.get("TEACHERD_TEST_RANK_KILLS", "2"))
"""Each takes as long as all ranks need to start; 20 were tried (docs/scaling.md)."""

MakeRanks = Callable[..., RankedDaemon]


@pytest.fixture
def make_ranks(kafka: KafkaService, tmp_path: Path) -> Iterator[MakeRanks]:
    """Give `make_ranks(topic, num_ranks=..., **sections)` over one state directory."""
    made: list[RankedDaemon] = []

    def make(topic: str, *, num_ranks: int, **process: Any) -> RankedDaemon:  # noqa: ANN401 (plain data)
        settings = kafka_settings(tmp_path, kafka.bootstrap, topic)
        # Ranks wait for one another: what keeps one from its core holds all of them up.
        settings["process"] |= {"learning_niceness": 0}
        settings["process"] |= process
        # Many steps for each task, so that most faults come inside one.
        settings["learning"] |= {"epochs": 8, "batch_size": 8}
        settings["tasks"] |= {"instances": 40, "max_age_seconds": 5.0}
        settings["checkpoints"] = {"interval_seconds": 0.2}
        made.append(RankedDaemon(tmp_path, settings, num_ranks=num_ranks, max_restarts=1000))
        return made[-1]

    yield make
    for daemon in made:
        daemon.close()


def num_starts(ranks: RankedDaemon) -> int:
    """Return how often rank 0 has come as far as learning since torchrun was started."""
    return len(ranks.events("started"))


def drain(ranks: RankedDaemon) -> None:
    """Have all learned that is in the topic; torchrun ends with 0 when all ranks have."""
    ask_daemon(ranks.state, Command("drain", None))

    assert 0 == ranks.wait()


def test_killed_ranks_lose_nothing_and_learn_nothing_twice(
    kafka: KafkaService, make_ranks: MakeRanks
) -> None:
    """Any of three ranks, at random moments, while records come: torchrun starts all again."""
    seed = random.SystemRandom().randrange(1 << 32)
    choose = random.Random(seed)
    topic = kafka.create_topic(partitions=3)
    ranks = make_ranks(topic, num_ranks=3)
    with PouringTopic(kafka.bootstrap, topic, num_partitions=3) as pouring:
        ranks.start()
        for _ in range(NUM_KILLS):
            time.sleep(choose.uniform(0, 5))
            before = num_starts(ranks)
            os.kill(ranks.process_of(choose.randrange(3)), signal.SIGKILL)
            ranks.wait_until(lambda before=before: num_starts(ranks) > before)  # type: ignore[misc] # bound at once
    drain(ranks)

    assert_each_once(ranks.plans(), pouring.offsets)
    assert {"accepted"} == {outcome.result for outcome in ranks.outcomes()}, f"seed {seed}"
    assert len(ranks.plans()) == len(ranks.outcomes())


def test_a_rank_that_hangs_is_taken_for_lost(kafka: KafkaService, make_ranks: MakeRanks) -> None:
    """Within the timeout the other says so and ends; what was planned is finished afterwards."""
    topic = kafka.create_topic(partitions=2)
    ranks = make_ranks(topic, num_ranks=2, rank_timeout_seconds=15.0)
    with PouringTopic(kafka.bootstrap, topic, num_partitions=2) as pouring:
        ranks.start()
        ranks.wait_for_outcomes(1)
        before = num_starts(ranks)
        os.kill(ranks.process_of(1), signal.SIGSTOP)
        ranks.wait_until(lambda: bool(ranks.events("thread_failed")))
        ranks.wait_until(lambda: num_starts(ranks) > before)
    drain(ranks)

    failed = next(event for event in ranks.events("thread_failed") if event["rank"] == 0)
    assert "the ranks cannot go on together" in failed["error"]
    assert_each_once(ranks.plans(), pouring.offsets)


def test_a_plan_is_finished_by_another_number_of_ranks(
    kafka: KafkaService, make_ranks: MakeRanks
) -> None:
    """All die inside a task; other ranks have its partitions then, and take it up."""
    topic = kafka.create_topic(partitions=2)
    ranks = make_ranks(topic, num_ranks=2)
    with PouringTopic(kafka.bootstrap, topic, num_partitions=2) as pouring:
        ranks.start()
        ranks.kill_inside_a_task(num_closed=1)
    planned = len(ranks.plans())
    others = make_ranks(topic, num_ranks=3)
    others.start()
    drain(others)

    assert [planned] == [event["task"] for event in others.events("task_resumed")]
    assert_each_once(others.plans(), pouring.offsets)
