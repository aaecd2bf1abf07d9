"""Hands what the lineage log says to those who are to be told, once it is true."""

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from teacherd.daemon.delivery import Command, Sender, Webhook
from teacherd.daemon.lineage_log import LoggedEntry
from teacherd.daemon.metrics import Metrics
from teacherd.daemon.notice import Notice, NoticeReader
from teacherd.daemon.notifications import (
    RECEIVERS,
    NotificationsConfig,
    Receiver,
    check_receivers,
)
from teacherd.daemon.notified_place import NotifiedPlace, forget_place
from teacherd.daemon.notifying import Notifying
from teacherd.daemon.status_board import StatusBoard


class Announcer:
    """Of the learning thread: follows the journal, and is told when `current` has moved.

    Args:
        receivers: Each has a thread of its own, which somebody else runs.
    """

    def __init__(self, receivers: Sequence[Notifying]) -> None:
        self.receivers = receivers
        self._reader = NoticeReader()
        self._waiting: deque[Notice] = deque()

    def apply(self, logged: LoggedEntry) -> None:
        """Take one more entry into account; returns at once, and never raises."""
        notice = self._reader.read(logged)
        if notice is None or not any(each.wants(notice) for each in self.receivers):
            return
        self._waiting.append(notice)
        # Behind a version that is not served yet, the others wait for their turn.
        if not any(each.is_of_serving for each in self._waiting):
            self.release()

    def release(self) -> None:
        """Tell what was decided so far: `current` and the public files are as the log says."""
        while self._waiting:
            notice = self._waiting.popleft()
            for receiver in self.receivers:
                if receiver.wants(notice):
                    receiver.offer(notice)


def open_announcer(
    config: NotificationsConfig,
    directory: Path,
    *,
    lineage: str,
    end: int,
    metrics: Metrics,
    board: StatusBoard,
    monotonic: Callable[[], float],
) -> Announcer:
    """Build the receivers that are configured, each with its place in the log.

    Args:
        config: Who is told.
        directory: The state directory.
        lineage: Its lineage.
        end: Last sequence of its log: a receiver that is new is told nothing up to there.
        metrics: Counts what is told.
        board: Says what waits.
        monotonic: Seconds.

    Raises:
        ConfigurationError: The token or the command is not there.
        StateError: The disk refused.
    """
    senders: dict[Receiver, Sender] = {}
    token = check_receivers(config)
    if config.webhook_url is not None:
        seconds = config.timeout_seconds
        senders["webhook"] = Webhook(config.webhook_url, token, timeout_seconds=seconds)
    if config.command is not None:
        senders["command"] = Command(config.command)
    paths = {name: directory / f"notified-{name}.json" for name in RECEIVERS}
    for name in set(RECEIVERS) - set(senders):
        forget_place(paths[name])
    return Announcer(
        [
            Notifying(
                name,
                sender,
                config=config,
                place=NotifiedPlace(paths[name], lineage=lineage, end=end),
                metrics=metrics,
                board=board,
                monotonic=monotonic,
            )
            for name, sender in senders.items()
        ]
    )
