"""Producing a data set: every instance once, in order or shuffled, at the rate that is asked."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from teacherd.consumers.decoding import Decoder, DecodingConfig
from teacherd.consumers.stream_log import StreamLog, StreamLogConfig
from teacherd.daemon.errors import ConfigurationError, UsageError
from teacherd.daemon.production import Production, produce_dataset
from teacherd.daemon.source_opening import open_stream

CLASSES = ("cat", "dog", "owl")
NUM_INSTANCES = 30


@pytest.fixture
def config(tmp_path: Path) -> StreamLogConfig:
    """Name a stream log."""
    return StreamLogConfig(path=str(tmp_path / "stream.db"))


@pytest.fixture
def inputs() -> np.ndarray:
    """Return images, each of a level of its own."""
    levels = np.arange(NUM_INSTANCES, dtype=np.uint8)
    return np.broadcast_to(levels[:, None, None], (NUM_INSTANCES, 4, 4)).copy()


@pytest.fixture
def production(tmp_path: Path, inputs: np.ndarray) -> Production:
    """Return a plain production of them."""
    labels = np.arange(NUM_INSTANCES) % len(CLASSES)
    np.savez(tmp_path / "images.npz", images=inputs, labels=labels, classes=CLASSES)
    return Production(
        dataset=str(tmp_path / "images.npz"),
        data_root=tmp_path,
        rate=0.0,
        limit=None,
        payload="npy",
        shuffle_seed=None,
    )


def produce(config: StreamLogConfig, production: Production) -> dict[str, int]:
    """Produce without looking at the progress."""
    return produce_dataset(
        lambda: open_stream(config), production, on_progress=lambda _done, _total: None
    )


def levels_and_labels(config: StreamLogConfig) -> list[tuple[int, str]]:
    """Decode what is in the log: the level of each image, and its label's name."""
    log = StreamLog(config)
    batch = log.poll(1000, 0.0)
    log.close()
    return [
        (int(value[-1]), dict(headers)["label"].decode())
        for value, headers in ((each.value, each.headers) for each in batch)
    ]


def test_instances_are_produced_in_order(config: StreamLogConfig, production: Production) -> None:
    """Each with the name of its class, as offsets 1 to N."""
    report = produce(config, production)

    assert {"records": NUM_INSTANCES, "last_offset": NUM_INSTANCES} == report
    assert [
        (level, CLASSES[level % len(CLASSES)]) for level in range(NUM_INSTANCES)
    ] == levels_and_labels(config)


def test_a_limit_takes_the_first(config: StreamLogConfig, production: Production) -> None:
    """Not more than there are."""
    assert {"records": 4, "last_offset": 4} == produce(config, replace(production, limit=4))
    assert 34 == produce(config, replace(production, limit=1000))["last_offset"]


def test_a_seed_shuffles_the_same_way_each_time(
    config: StreamLogConfig, production: Production, tmp_path: Path
) -> None:
    """Labels go with their instances; another seed gives another order."""
    orders = []
    for number, seed in enumerate((1, 1, 2)):
        log = replace(config, path=str(tmp_path / f"{number}.db"))
        produce(log, replace(production, shuffle_seed=seed))
        orders.append(levels_and_labels(log))

    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2])
    assert all(CLASSES[level % len(CLASSES)] == label for level, label in orders[0])


class Clock:
    """Stands still but for sleeping."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def now(self) -> float:
        """Tell the time."""
        return self.seconds

    def sleep(self, seconds: float) -> None:
        """Go on at once."""
        self.seconds += seconds


@pytest.mark.parametrize(("rate", "batch"), [(1.0, 1), (20.0, 2), (60.0, 6)])
def test_a_rate_is_kept_evenly(
    config: StreamLogConfig, production: Production, rate: float, batch: int
) -> None:
    """Ten times a second or once per record, each when it is due and not before."""
    clock, seen = Clock(), []
    produce_dataset(
        lambda: open_stream(config),
        replace(production, rate=rate),
        on_progress=lambda done, total: seen.append((clock.now() - 100.0, done, total)),
        now=clock.now,
        sleep=clock.sleep,
    )

    starts = range(0, NUM_INSTANCES, batch)
    expected = [(pytest.approx(at / rate), at + batch, NUM_INSTANCES) for at in starts]
    assert expected == seen


def test_without_a_rate_nothing_waits(config: StreamLogConfig, production: Production) -> None:
    """As fast as the log takes them."""
    slept: list[float] = []
    produce_dataset(
        lambda: open_stream(config),
        production,
        on_progress=lambda _done, _total: None,
        sleep=slept.append,
    )

    assert [] == slept


@pytest.mark.parametrize("payload", ["npy", "png"])
def test_what_is_produced_can_be_decoded(
    config: StreamLogConfig,
    production: Production,
    inputs: np.ndarray,
    payload: Literal["npy", "png"],
) -> None:
    """By the daemon's own decoder, to the pixels and labels that went in."""
    produce(config, replace(production, payload=payload))
    log = StreamLog(config)
    batch = log.poll(1000, 0.0)
    log.close()
    decoder = Decoder(DecodingConfig(num_threads=1), input_shape=(1, 4, 4), classes=CLASSES)
    instances = list(decoder.decode_batch(batch))
    decoder.close()

    assert np.array_equal(inputs[:, np.newaxis], np.stack([each.array for each in instances]))
    assert [level % len(CLASSES) for level in range(NUM_INSTANCES)] == [
        each.label for each in instances
    ]


def test_vectors_are_no_pictures(
    config: StreamLogConfig, production: Production, tmp_path: Path
) -> None:
    """The flag is named; nothing is appended."""
    np.savez(tmp_path / "v.npz", features=np.ones((4, 2), np.float32), labels=[0, 1, 0, 1])
    vectors = replace(production, dataset=str(tmp_path / "v.npz"), payload="png")
    with pytest.raises(UsageError, match=r"--format: .* holds feature vectors; take npy"):
        produce(config, vectors)

    assert not Path(config.path).exists()
    assert 4 == produce(config, replace(vectors, payload="npy"))["records"]


def test_a_log_that_cannot_be_made_is_a_matter_of_configuration(
    config: StreamLogConfig, production: Production, tmp_path: Path
) -> None:
    """Its key is named."""
    nowhere = replace(config, path=str(tmp_path / "none" / "stream.db"))
    with pytest.raises(ConfigurationError, match=r"stream_log\.path"):
        produce(nowhere, production)


def test_a_data_set_that_is_none_makes_no_log(
    config: StreamLogConfig, production: Production
) -> None:
    """It is looked at first."""
    with pytest.raises(UsageError, match="nowhere"):
        produce(config, replace(production, dataset="nowhere"))

    assert not Path(config.path).exists()
