"""Structured logs: events with fields, JSON off a terminal, key=value on one."""

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import IO, Literal

import structlog
from structlog.typing import EventDict, Processor

_CHATTY = "kafka."
_REPEAT_SECONDS = 60.0
"""How often the same line of a client library is written at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggingConfig:
    """How the process writes its log, which goes to stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe events that are written."""
    format: Literal["auto", "json", "text"] = "auto"
    """auto: text on a terminal, JSON elsewhere."""


class ClientLogLimit(logging.Filter):
    """Lets a client library say each thing once in a while: while a broker is away, it says much.

    What matters of it is told by events of our own.

    Args:
        monotonic: Seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._monotonic = monotonic
        self._next: dict[tuple[str, int], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is written."""
        if not record.name.startswith(_CHATTY):
            return True
        if record.levelno < logging.WARNING:
            return logging.getLogger().level <= logging.DEBUG
        now = self._monotonic()
        place = (record.pathname, record.lineno)
        if now < self._next.get(place, now):
            return False
        self._next[place] = now + _REPEAT_SECONDS
        return True


def configure_logs(
    config: LoggingConfig, *, stream: IO[str] | None = None, rank: int | None = None
) -> None:
    """Send structlog's and the standard library's events to one stream in one format.

    Args:
        config: Format and level.
        stream: Standard error by default.
        rank: Which of several processes this is; each event says so.
    """
    stream = stream or sys.stderr
    as_text = config.format == "text" or (config.format == "auto" and stream.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    if rank is not None:
        shared.append(partial(_add_rank, rank))
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        if as_text
        else structlog.processors.JSONRenderer(default=str)
    )
    handler = logging.StreamHandler(stream)
    handler.addFilter(ClientLogLimit())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    set_level(config.level)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def _add_rank(rank: int, _logger: object, _method: str, event: EventDict) -> EventDict:
    event["rank"] = rank
    return event


def set_level(level: str) -> None:
    """Change the least severe level that is written."""
    logging.getLogger().setLevel(level.upper())
