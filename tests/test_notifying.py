"""The thread of a receiver: tried again, bounded, counted, durable; never waited for."""

import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from teacherd.daemon.delivery import DeliveryError
from teacherd.daemon.metrics import Metrics
from teacherd.daemon.notice import Notice
from teacherd.daemon.notifications import NotificationsConfig
from teacherd.daemon.notified_place import NotifiedPlace
from teacherd.daemon.notifying import Notifying
from teacherd.daemon.status_board import StatusBoard


class FakeSender:
    """Refuses while it is told to; remembers what arrived."""

    def __init__(self) -> None:
        self.arrived: list[bytes] = []
        self.error: str | None = None
        self.num_attempts = 0

    def send(self, body: bytes, _is_over: object) -> None:
        """Take it, or not."""
        self.num_attempts += 1
        if self.error is not None:
            raise DeliveryError(self.error)
        self.arrived.append(body)


class Bench:
    """A receiver's thread, turned by hand, with a clock that moves when a test says so."""

    def __init__(self, directory: Path, **settings: object) -> None:
        self.seconds = 0.0
        self.sender = FakeSender()
        self.metrics = Metrics()
        self.board = StatusBoard(monotonic=lambda: 0.0)
        self.path = directory / "notified-webhook.json"
        self.notifying = Notifying(
            "webhook",
            self.sender,
            config=NotificationsConfig(**settings),  # type: ignore[arg-type]  # as tests give them
            place=NotifiedPlace(self.path, lineage="a", end=-1),
            metrics=self.metrics,
            board=self.board,
            monotonic=lambda: self.seconds,
        )

    def offer(self, *sequences: int) -> None:
        """Have events told."""
        for each in sequences:
            self.notifying.offer(notice(each))

    def counted(self) -> dict[str, float]:
        """What happened, by result, without what did not."""
        results = ("delivered", "retried", "failed", "dropped")
        values = {each: self.value(each) for each in results}
        return {each: value for each, value in values.items() if value}

    def value(self, result: str) -> float:
        """A metric of this receiver."""
        labels = {"receiver": "webhook", "result": result}
        value = self.metrics.registry.get_sample_value("teacherd_notifications_total", labels)
        assert value is not None, "it begins at 0"
        return value

    def last(self) -> int:
        """How far the receiver was told, as a new process would find it."""
        return NotifiedPlace(self.path, lineage="a", end=1000).last


def notice(sequence: int) -> Notice:
    """Return an event."""
    return Notice(sequence, "promoted", {"id": f"a/1/{sequence}", "sequence": sequence})


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """With the usual settings."""
    return Bench(tmp_path)


def test_events_arrive_in_order_and_are_not_told_again(bench: Bench) -> None:
    """Neither in this process nor in the next."""
    bench.offer(3, 5)
    bench.notifying.tick()
    bench.notifying.tick()

    assert [b'{"id": "a/1/3", "sequence": 3}', b'{"id": "a/1/5", "sequence": 5}'] == (
        bench.sender.arrived
    )
    assert {"delivered": 2} == bench.counted()
    assert 5 == bench.last()
    assert not bench.notifying.wants(notice(5))
    assert bench.notifying.wants(notice(6))


def test_only_the_chosen_events_are_wanted(tmp_path: Path) -> None:
    """By `notifications.events`."""
    bench = Bench(tmp_path, events=("held",))

    assert not bench.notifying.wants(notice(1))


def test_what_fails_is_tried_again_at_growing_intervals(bench: Bench) -> None:
    """After 1, 2, 4, ... seconds up to the longest; said at most each half minute."""
    bench.sender.error = "answered 500"
    bench.offer(1)
    tried_at = []
    with capture_logs() as logs:
        for second in range(64):
            bench.seconds = float(second)
            before = bench.sender.num_attempts
            bench.notifying._finish.wait = lambda _: False  # type: ignore[method-assign, assignment]  # no pause
            bench.notifying.tick()
            if bench.sender.num_attempts > before:
                tried_at.append(second)
        shown = bench.board.snapshot()["notifications"]
        bench.sender.error = None
        bench.seconds = 200.0
        bench.notifying.tick()

    assert [0, 1, 3, 7, 15, 31, 63] == tried_at
    assert {"webhook": {"waiting": 1, "error": "answered 500"}} == shown
    assert {"webhook": {"waiting": 0, "error": None}} == bench.board.snapshot()["notifications"]
    assert {"delivered": 1, "retried": 7} == bench.counted()
    assert ["notification_failed"] * 3 + ["notification_delivered"] == [
        each["event"] for each in logs
    ]


def test_an_event_is_given_up_and_the_next_has_its_turn(tmp_path: Path) -> None:
    """One that the receiver will never take must not keep the others from it."""
    bench = Bench(tmp_path, give_up_seconds=100.0)
    bench.sender.error = "answered 400"
    bench.offer(1, 2)
    bench.notifying.tick()
    bench.seconds = 100.0
    bench.notifying.tick()
    bench.sender.error = None
    bench.notifying.tick()

    assert {"retried": 1, "failed": 1, "delivered": 1} == bench.counted()
    assert [b'{"id": "a/1/2", "sequence": 2}'] == bench.sender.arrived
    assert 2 == bench.last()


def test_the_oldest_goes_when_too_many_wait(tmp_path: Path) -> None:
    """Memory is bounded, and who offers never waits."""
    bench = Bench(tmp_path, max_waiting=2)
    with capture_logs() as logs:
        bench.offer(1, 2, 3)
    bench.notifying.tick()

    assert {"dropped": 1, "delivered": 1} == bench.counted()
    assert [b'{"id": "a/1/2", "sequence": 2}'] == bench.sender.arrived
    assert ["a/1/1"] == [each["id"] for each in logs]


def test_at_the_end_what_waits_is_tried_once_more(bench: Bench) -> None:
    """Without any pause, and the thread ends."""
    bench.sender.error = "answered 500"
    bench.offer(1, 2)
    bench.notifying.tick()
    bench.sender.error = None
    bench.notifying.finish()
    bench.notifying.run()

    assert {"retried": 1, "delivered": 2} == bench.counted()


def test_what_does_not_arrive_at_the_end_is_left_to_the_next_process(bench: Bench) -> None:
    """It is neither dropped nor waited for."""
    bench.sender.error = "answered 500"
    bench.offer(1, 2)
    bench.notifying.finish()
    bench.notifying.run()

    assert {"retried": 1} == bench.counted()
    assert -1 == bench.last()


def test_a_thread_that_has_nothing_to_tell_ends(bench: Bench) -> None:
    """As soon as it is told to."""
    thread = threading.Thread(target=bench.notifying.run)
    thread.start()
    bench.notifying.finish()
    thread.join(60)

    assert not thread.is_alive()
