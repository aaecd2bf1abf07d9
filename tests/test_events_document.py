"""docs/events.md: every event of the code and no other."""

import ast
import re
from collections.abc import Iterator

from events_document import DOCUMENT, OPEN_END, ROOT, ROW, Event, documented

LEVELS = ("debug", "info", "warning", "error", "exception", "critical")
LOGGERS = ("log", "logger", "get_logger")
NEVER_A_FIELD = {"exc_info"}


def logged_events(tree: ast.Module) -> Iterator[Event]:
    """Yield an event for each place that logs; a level chosen at run time is in a `level = ...`."""
    chosen = {
        level
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "level"
        for level in re.findall(r"_log\.(\w+)", ast.unparse(node.value))
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        levels = _levels(node.func, chosen)
        if levels:
            yield _event(
                node, frozenset("error" if each == "exception" else each for each in levels)
            )


def _levels(function: ast.expr, chosen: set[str]) -> set[str]:
    if isinstance(function, ast.Name) and function.id == "level":
        return chosen
    if isinstance(function, ast.Attribute) and function.attr in LEVELS:
        owner = re.sub(r"\(.*\)$", "", ast.unparse(function.value))
        return {function.attr} if owner.split(".")[-1].lstrip("_") in LOGGERS else set()
    return set()


def _event(call: ast.Call, levels: frozenset[str]) -> Event:
    message = call.args[0]
    assert isinstance(message, ast.Constant), f"line {call.lineno}: an event's name is a literal"
    name, *rest = str(message.value).split()
    fields = {OPEN_END if each.arg is None else each.arg for each in call.keywords}
    in_text = {field.partition("=")[0] for field in rest}
    return Event(name, levels, frozenset((fields | in_text) - NEVER_A_FIELD))


def logged() -> dict[str, Event]:
    """Return every event of the three rooms; the demo's and the verbs' output is none."""
    found: dict[str, Event] = {}
    for room in ("daemon", "consumers", "models"):
        for path in sorted((ROOT / room).glob("*.py")):
            for event in logged_events(ast.parse(path.read_text(encoding="utf-8"))):
                before = found.get(event.name, event)
                found[event.name] = Event(
                    event.name, before.levels | event.levels, before.fields | event.fields
                )
    return found


def test_every_event_is_documented_with_its_level_and_fields() -> None:
    """Whatever can be logged under a name, and nothing that cannot."""
    assert logged() == documented()


def test_each_event_is_described_once() -> None:
    """Two rows for one event would come to contradict each other."""
    names = [name for name, _, _ in ROW.findall(DOCUMENT)]

    assert sorted(set(names)) == sorted(names)


def test_every_way_of_logging_is_seen() -> None:
    """The check would else pass by looking past a place that logs."""
    tree = ast.parse(
        "self._log.info('a', task=1)\n"
        "structlog.get_logger().warning('b')\n"
        "logger.error('c reason=%s', 1)\n"
        "level = self._log.info if x else self._log.warning\n"
        "level('d', **figures)\n"
        "log.append('no event')\n"
    )

    expected = [
        Event("a", frozenset({"info"}), frozenset({"task"})),
        Event("b", frozenset({"warning"}), frozenset()),
        Event("c", frozenset({"error"}), frozenset({"reason"})),
        Event("d", frozenset({"info", "warning"}), frozenset({OPEN_END})),
    ]
    assert expected == list(logged_events(tree))
