"""The daemon on a real topic, from its records to the versions, and what goes wrong meanwhile."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from forked_daemon import ForkedDaemon
from kafka_daemon import assert_each_once, feature_values, kafka_settings
from kafka_service import KafkaService

from teacherd.consumers.producing import NPY, build_record
from teacherd.daemon.errors import ExitCode

MakeDaemon = Callable[..., ForkedDaemon]


@pytest.fixture
def make_daemon(kafka: KafkaService) -> Iterator[MakeDaemon]:
    """Give `make_daemon(directory, topic, **sections)`; none is left behind."""
    made: list[ForkedDaemon] = []

    def make(directory: Path, topic: str, **sections: Any) -> ForkedDaemon:  # noqa: ANN401 (plain data)
        directory.mkdir(exist_ok=True)
        daemon = ForkedDaemon(
            kafka_settings(directory, kafka.bootstrap, topic, **sections), directory
        )
        made.append(daemon)
        return daemon

    yield make
    for daemon in made:
        daemon.close()


def test_a_topic_is_learned_and_taken_up_again(
    kafka: KafkaService, make_daemon: MakeDaemon, tmp_path: Path
) -> None:
    """Over a restart, with bad records between: every record in exactly one plan."""
    topic = kafka.create_topic()
    junk = build_record(b"junk", content_type=NPY, label="cat")
    offsets = kafka.produce(topic, [*feature_values(15), junk, *feature_values(10, seed=1)])
    daemon = make_daemon(tmp_path, topic)

    assert ExitCode.OK == daemon.run_until_tasks(2)

    offsets += kafka.produce(topic, feature_values(25, seed=2))

    assert ExitCode.OK == daemon.run_until_tasks(5)
    plans = daemon.plans()
    assert [10] * 5 == [plan.num_instances for plan in plans]
    assert [15] == [at for plan in plans for closed in plan.ranges for at in closed.rejected]
    assert_each_once(plans, {0: offsets})
