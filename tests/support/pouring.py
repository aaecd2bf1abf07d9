"""A producer that appends to the stream log faster than anybody learns, until told to stop."""

import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from assemblies import feature_records

from teacherd.consumers.stream_log import StreamLog, StreamLogConfig

_BATCH = 100
_AHEAD_BATCHES = 100
_FAST_RECORDS = 200_000
_PAUSE_SECONDS = 0.1


class Pouring:
    """Appends batches from a thread of its own, inside a `with` block.

    When the block begins there are more records than a test learns. The next ones come as fast as
    the disk takes them, later ones by the thousand a second, so that a test on a slow machine does
    not fill its disk.
    """

    def __init__(self, path: Path) -> None:
        self._config = StreamLogConfig(path=str(path))
        self._stop = threading.Event()
        self._is_ahead = threading.Event()
        self._thread = threading.Thread(target=self._pour, name="pouring")
        self._error: BaseException | None = None
        self.num_appended = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._is_ahead.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _pour(self) -> None:
        try:
            log = StreamLog(self._config)
            batch = feature_records(_BATCH)
            self.num_appended = log.append(batch * _AHEAD_BATCHES)
            self._is_ahead.set()
            while not self._stop.is_set():
                self.num_appended = log.append(batch)  # the last offset; the first is 1
                if self.num_appended > _FAST_RECORDS:
                    self._stop.wait(_PAUSE_SECONDS)
            log.close()
        except BaseException as error:  # noqa: BLE001 (raised again where the block ends)
            self._error = error
            self._is_ahead.set()
