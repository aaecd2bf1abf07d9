"""The demo's processes, as real ones: what they say is heard, and none outlives the demo."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from teacherd.daemon.demo_process import DemoProcess
from teacherd.daemon.errors import UnavailableError

Start = Callable[[str], DemoProcess]
SECONDS = 300.0


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Give a function that runs a script as a module of its own."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    started: list[DemoProcess] = []

    def run(script: str) -> DemoProcess:
        (tmp_path / "scripted.py").write_text(f"import json, signal, sys, time\n{script}\n")
        started.append(DemoProcess("script", ["scripted"], log=tmp_path / "script.log"))
        return started[-1]

    yield run
    for process in started:
        process.close()


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def children() -> list[psutil.Process]:
    """Return our processes that run the script."""
    found = []
    for each in psutil.Process().children():
        # Others come and go, some as corpses.
        with contextlib.suppress(psutil.Error):
            found += [each] * ("scripted" in each.cmdline())
    return found


def failure(check: Callable[[], object]) -> str:
    """Wait until a check fails, and return why."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            check()
        except UnavailableError as error:
            return str(error)
        time.sleep(0.02)
    raise AssertionError("it does not fail")


def test_a_process_is_talked_to(start: Start) -> None:
    """It hears lines, and what it printed comes back at its end."""
    process = start("print(sys.stdin.readline().upper())")
    process.require_running()
    process.say("hello")

    assert "HELLO" == process.finish().strip()
    process.require_no_failure()


def test_a_failure_shows_the_end_of_its_log(start: Start, tmp_path: Path) -> None:
    """The last lines say most; the file has all of them."""
    process = start("sys.stderr.write('\\n'.join(f'line {n}' for n in range(9)))\nsys.exit(3)")

    reason = failure(process.require_no_failure)

    assert f"the script ended with 3, see {tmp_path / 'script.log'}:" in reason
    assert "line 8" in reason
    assert "line 1" not in reason
    assert "ended with 3" in failure(process.require_running)
    assert "ended with 3" in failure(process.finish)


def test_an_end_without_failure_is_still_an_end(start: Start) -> None:
    """A daemon must not end; a producer may."""
    process = start("")

    assert "the script ended with 0" in failure(process.require_running)
    process.require_no_failure()


def test_talking_to_the_dead_tells_at_the_end(start: Start) -> None:
    """No broken pipe, but the reason."""
    process = start("sys.exit(4)")
    failure(process.require_running)
    process.say("hello")

    assert "ended with 4" in failure(process.finish)


def test_events_are_read_from_its_log(start: Start) -> None:
    """Whole lines of JSON; what libraries write between them is passed over."""
    process = start(
        "def log(text):\n"
        "    sys.stderr.write(text)\n"
        "    sys.stderr.flush()\n"
        "log('a warning\\n{not json}\\n[1]\\n')\n"
        "log(json.dumps({'event': 'listening', 'port': 5}) + '\\n')\n"
        "log(json.dumps({'event': 'listening', 'port': 6}) + '\\n{\"event\": \"started\"}')\n"
        "sys.stdin.readline()\n"
        "log('\\n')\n"
    )
    wait_until(lambda: process.first_event("listening") is not None)

    assert {"event": "listening", "port": 5} == process.first_event("listening")
    assert process.first_event("started") is None  # its line has no end yet
    process.say("go on")
    process.finish()
    assert {"event": "started"} == process.first_event("started")


def test_an_orderly_end_is_waited_for(start: Start, tmp_path: Path) -> None:
    """SIGTERM, and whatever the process still has to do."""
    process = start(
        "def end(*_):\n"
        "    time.sleep(0.2)\n"
        "    sys.stderr.write('in order')\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        'sys.stderr.write(\'{"event": "started"}\\n\')\n'
        "sys.stderr.flush()\n"
        "time.sleep(3600)"
    )
    wait_until(lambda: process.first_event("started") is not None)
    process.terminate()

    assert (tmp_path / "script.log").read_text().endswith("in order")


def test_closing_leaves_no_process(start: Start) -> None:
    """Not even one that does not want to end; closing twice does no harm."""
    process = start("signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(3600)")
    wait_until(lambda: len(children()) == 1)
    process.close()
    process.close()

    assert [] == children()
