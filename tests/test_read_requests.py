"""Records are read once more by the thread that owns the source, for whoever asks."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from teacherd.consumers.record import NewRecord, OffsetRange, Partition
from teacherd.consumers.record_batch import RecordBatch
from teacherd.consumers.source import SourceError
from teacherd.consumers.stream_log import StreamLog, StreamLogConfig
from teacherd.daemon.read_requests import ReadRequests

PARTITION = Partition("instances", 0)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[StreamLog]:
    """Give a stream log of ten records."""
    log = StreamLog(StreamLogConfig(path=str(tmp_path / "stream.db")))
    log.append([NewRecord(f"{place}".encode()) for place in range(10)])
    yield log
    log.close()


def values(batches: Iterator[RecordBatch]) -> list[bytes]:
    """Return the values of records."""
    return [value for batch in batches for value in batch.values]


def test_the_owner_of_the_source_reads_for_another_thread(source: StreamLog) -> None:
    """The answer comes when it has; the position stays."""
    requests = ReadRequests()
    before = source.positions()
    answers: list[list[bytes]] = []

    def ask() -> None:
        answers.append(requests.ask([OffsetRange(PARTITION, 2, 5)], values).result(timeout=60))

    asking = threading.Thread(target=ask)
    asking.start()
    while asking.is_alive():
        requests.serve(source)

    assert [[b"1", b"2", b"3"]] == answers
    assert before == source.positions()


def test_what_goes_wrong_is_told_to_who_asked(source: StreamLog) -> None:
    """The owner of the source has other things to do."""
    requests = ReadRequests()

    def fail(_batches: Iterator[RecordBatch]) -> None:
        raise KeyError("no")

    answer = requests.ask([OffsetRange(PARTITION, 1, 2)], fail)
    requests.serve(source)

    with pytest.raises(KeyError, match="no"):
        answer.result(timeout=0)


def test_a_source_that_is_away_is_asked_again(
    source: StreamLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner is told, as by any other call; the request waits."""
    requests = ReadRequests()
    answer = requests.ask([OffsetRange(PARTITION, 1, 2)], values)

    def be_away(*_: object) -> Callable[..., object]:
        raise SourceError("away")

    with monkeypatch.context() as away:
        away.setattr(source, "read", be_away)
        with pytest.raises(SourceError):
            requests.serve(source)

    assert not answer.done()
    assert requests.is_source_away
    requests.serve(source)
    assert [b"0"] == answer.result(timeout=0)
    assert not requests.is_source_away
