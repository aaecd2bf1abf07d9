"""Fixtures that any test may ask for."""

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog
from programs import find_program

if TYPE_CHECKING:
    from kafka_reading import KafkaSources
    from kafka_service import KafkaService
    from ranked_daemon import RankedDaemons

RequiresProgram = Callable[[str, str], Path]

# Before torch is imported, and for every process that a test starts: several processes with two
# threads each on two cores spend most of their time waiting for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell's background jobs ignore Ctrl+C, and what they start inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def requires_program() -> RequiresProgram:
    """Give `requires_program(name, install_hint)`: a program's path, or a skip (never in CI)."""

    def requires(name: str, install_hint: str) -> Path:
        return find_program(name, install_hint, environment=os.environ)

    return requires


@pytest.fixture
def logging_left_alone() -> Iterator[None]:
    """Give the process its own logging back after what configures it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def digits_base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small base model that has learned some handwritten digits."""
    # Imports torch and scikit-learn, which tests without it need not wait for.
    from base_models import digits_base  # noqa: PLC0415 - see the line above

    return digits_base(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="session")
def other_base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a base model that has learned nothing and is no other's version 0."""
    from base_models import untrained_base  # noqa: PLC0415 - as above

    return untrained_base(tmp_path_factory.mktemp("other"), seed=1)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[KafkaService]":
    """Give a real Kafka that all tests of a run share; each makes topics of its own."""
    from kafka_service import kafka_service  # noqa: PLC0415 - as above

    with kafka_service(tmp_path_factory.mktemp("kafka"), os.environ) as service:
        yield service


@pytest.fixture
def open_source(kafka: "KafkaService") -> "Iterator[KafkaSources]":
    """Give `open_source(topic, lineage=..., **settings)`; all are closed in the end."""
    from kafka_reading import KafkaSources  # noqa: PLC0415 - as above

    with closing(KafkaSources(kafka.bootstrap)) as sources:
        yield sources


@pytest.fixture
def make_ranks() -> "Iterator[RankedDaemons]":
    """Give `make_ranks(directory, settings, num_ranks=..., max_restarts=...)`; all are ended."""
    from ranked_daemon import RankedDaemons  # noqa: PLC0415 - as above

    with closing(RankedDaemons()) as daemons:
        yield daemons
