"""What the threads let others see: each writes its own section, the endpoints read a copy."""

import threading
from collections.abc import Callable, Mapping
from typing import Any


class StatusBoard:
    """Sections of plain values by owner, and the time at which each loop last turned.

    Args:
        monotonic: Seconds on a clock that never goes back.
    """

    def __init__(self, *, monotonic: Callable[[], float]) -> None:
        self._lock = threading.Lock()
        self._monotonic = monotonic
        self._sections: dict[str, dict[str, Any]] = {}
        self._beats: dict[str, float] = {}

    def update(self, section: str, **values: Any) -> None:  # noqa: ANN401 (any JSON value)
        """Replace some values of a section."""
        self.update_sections({section: values})

    def update_sections(self, sections: Mapping[str, Mapping[str, Any]]) -> None:
        """Replace some values of several sections, which nobody then sees apart."""
        with self._lock:
            for section, values in sections.items():
                self._sections.setdefault(section, {}).update(values)

    def beat(self, loop: str) -> None:
        """Note that a loop has turned."""
        with self._lock:
            self._beats[loop] = self._monotonic()

    def beat_again(self, loop: str) -> None:
        """Note that a loop is at work inside a turn; one that has not begun stays unknown."""
        with self._lock:
            if loop in self._beats:
                self._beats[loop] = self._monotonic()

    def seconds_since_beat(self) -> dict[str, float]:
        """Return for each loop the time since it last turned."""
        with self._lock:
            now = self._monotonic()
            return {loop: now - then for loop, then in self._beats.items()}

    def is_live(self, *, limit_seconds: float) -> bool:
        """Whether every loop has turned within the limit."""
        return all(seconds < limit_seconds for seconds in self.seconds_since_beat().values())

    def snapshot(self) -> Mapping[str, Any]:
        """Return a copy that no thread changes any more."""
        with self._lock:
            return {name: dict(values) for name, values in self._sections.items()}
