"""Logs: one line per event, JSON for machines, readable on a terminal."""

import io
import json
import logging

import pytest
import structlog

from teacherd.daemon.logs import ClientLogLimit, LoggingConfig, configure_logs, set_level

pytestmark = pytest.mark.usefixtures("logging_left_alone")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def test_off_a_terminal_an_event_is_one_line_of_json() -> None:
    """Event, fields, level and time in UTC can be picked by a program."""
    stream = io.StringIO()
    configure_logs(LoggingConfig(), stream=stream)
    structlog.get_logger().info("task_closed", task=3, places={"t/0": 7})

    (line,) = stream.getvalue().splitlines()
    event = json.loads(line)

    assert event.pop("timestamp").endswith("Z")
    assert {"event": "task_closed", "level": "info", "task": 3, "places": {"t/0": 7}} == event


def test_on_a_terminal_it_is_key_and_value() -> None:
    """A person reads the event and its fields without braces."""
    stream = Terminal()
    configure_logs(LoggingConfig(), stream=stream)
    structlog.get_logger().info("task_closed", task=3)

    assert "task_closed" in stream.getvalue()
    assert "{" not in stream.getvalue()


@pytest.mark.parametrize(("chosen", "stream"), [("json", Terminal()), ("text", io.StringIO())])
def test_a_chosen_format_does_not_ask_what_the_stream_is(chosen: str, stream: io.StringIO) -> None:
    """Only `auto` looks for a terminal."""
    configure_logs(LoggingConfig(format=chosen), stream=stream)  # type: ignore[arg-type]  # parametrised
    structlog.get_logger().info("started")

    assert (chosen == "json") == stream.getvalue().startswith("{")


def test_other_libraries_log_in_the_same_form() -> None:
    """The standard library's records come out as events, too."""
    stream = io.StringIO()
    configure_logs(LoggingConfig(), stream=stream)
    logging.getLogger("somebody.else").warning("disk %s", "slow")

    event = json.loads(stream.getvalue())

    assert ("disk slow", "warning") == (event["event"], event["level"])


def test_a_traceback_stays_within_its_line() -> None:
    """An exception is a field, so that no line of it is mistaken for an event."""
    stream = io.StringIO()
    configure_logs(LoggingConfig(), stream=stream)
    structlog.get_logger().error("thread_failed", exc_info=RuntimeError("broken"))

    (line,) = stream.getvalue().splitlines()

    assert "RuntimeError: broken" in json.loads(line)["exception"]


def test_the_level_can_change_while_running() -> None:
    """SIGHUP turns debug events on and off again."""
    stream = io.StringIO()
    configure_logs(LoggingConfig(level="warning"), stream=stream)
    log = structlog.get_logger()
    log.info("a")
    set_level("debug")
    log.debug("b")
    set_level("error")
    log.warning("c")

    assert ["b"] == [json.loads(line)["event"] for line in stream.getvalue().splitlines()]


def test_configuring_twice_does_not_write_twice() -> None:
    """The new stream replaces the old one."""
    first, second = io.StringIO(), io.StringIO()
    configure_logs(LoggingConfig(), stream=first)
    configure_logs(LoggingConfig(), stream=second)
    structlog.get_logger().info("once")

    assert "" == first.getvalue()
    assert 1 == len(second.getvalue().splitlines())


def test_a_client_library_says_the_same_only_once_in_a_while() -> None:
    """A broker that is away for an hour does not fill the disk; others say all they want."""
    now = [0.0]
    limit = ClientLogLimit(lambda: now[0])

    def record(name: str, level: int, line: int = 7) -> logging.LogRecord:
        return logging.LogRecord(name, level, "client.py", line, "away", None, None)

    assert limit.filter(record("kafka.net", logging.ERROR))
    assert not limit.filter(record("kafka.net", logging.ERROR))
    assert limit.filter(record("kafka.net", logging.ERROR, line=8))
    assert not limit.filter(record("kafka.net", logging.INFO))
    assert limit.filter(record("teacherd", logging.ERROR))
    assert limit.filter(record("teacherd", logging.ERROR))

    now[0] = 61.0

    assert limit.filter(record("kafka.net", logging.ERROR))
