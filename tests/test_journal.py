"""The journal: what it says always follows from what is on the disk."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from teacherd.daemon.entries import Config, Entry, Open, Outcome, Plan, Publish, Runtime
from teacherd.daemon.errors import StateError
from teacherd.daemon.journal import Journal
from teacherd.daemon.lineage import LineageError
from teacherd.daemon.lineage_log import LineageLog, read_lineage_log

OPEN = Open(lineage="a1", seed=7, sha256="00", classes=("cat", "dog"))
PLAN = Plan(
    task=1, cause="count", head=0, seed=7, epochs=1, learning_rate=0.1, num_instances=0, ranges=()
)

RECORD_ON_A_FULL_DISK = """
import resource
import sys
from pathlib import Path
from teacherd.daemon.entries import Open, Publish
from teacherd.daemon.errors import StateError
from teacherd.daemon.journal import Journal
from teacherd.daemon.lineage_log import LineageLog
path = Path(sys.argv[1])
journal = Journal(LineageLog(path, now=lambda: "2030-01-01T00:00:00Z"))
journal.record(Open(lineage="a1", seed=7, sha256="00", classes=("cat", "dog")))
size = path.stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, resource.RLIM_INFINITY))
try:
    journal.record(Publish(version=0))
except StateError as error:
    print(error)
assert path.stat().st_size == size
"""


def open_journal(path: Path) -> Journal:
    """Open a journal with a clock that stands still."""
    return Journal(LineageLog(path, now=lambda: "2030-01-01T00:00:00Z"))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """Give a journal with one lineage."""
    journal = open_journal(tmp_path / "log")
    journal.record(OPEN)
    yield journal
    journal.close()


def entries(path: Path) -> list[Entry]:
    """Return what the disk holds."""
    return [logged.entry for logged in read_lineage_log(path)]


def test_a_journal_without_entries_is_new(tmp_path: Path) -> None:
    """Until a lineage is opened in it."""
    journal = open_journal(tmp_path / "log")
    assert journal.is_new

    journal.record(OPEN)

    assert not journal.is_new
    journal.close()


def test_an_entry_shows_in_the_lineage_and_on_the_disk(journal: Journal, tmp_path: Path) -> None:
    """And in that of whoever opens the log next."""
    journal.record(Publish(version=0))

    assert 0 == journal.lineage.current
    assert [OPEN, Publish(version=0)] == entries(tmp_path / "log")


def test_a_contradiction_is_not_written(journal: Journal, tmp_path: Path) -> None:
    """The log never holds what could not be folded again."""
    pin = journal.pin

    with pytest.raises(LineageError, match="no open plan"):
        journal.record(Outcome(task=1, result="empty"))

    assert pin == journal.pin
    assert [OPEN] == entries(tmp_path / "log")


def test_an_entry_that_the_disk_refuses_leaves_no_trace(tmp_path: Path) -> None:
    """The daemon ends with it and starts again from what is there."""
    command = [sys.executable, "-c", RECORD_ON_A_FULL_DISK, str(tmp_path / "log")]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert f"{tmp_path / 'log'}: cannot be appended to: File too large\n" == told
    assert [OPEN] == entries(tmp_path / "log")


def test_settings_are_recorded_when_they_differ(journal: Journal, tmp_path: Path) -> None:
    """Each entry is in force until the next; repeating one says nothing."""
    first, second = {"learning": {"epochs": 1, "sizes": [1, 2]}}, {"learning": {"epochs": 2}}

    assert journal.record_settings(first)
    assert not journal.record_settings(dict(first))
    assert journal.record_settings(second)
    assert journal.record_settings(first)
    assert [OPEN, *(Config(settings=each) for each in (first, second, first))] == entries(
        tmp_path / "log"
    )


def test_settings_are_compared_over_a_restart(tmp_path: Path) -> None:
    """What came back from the file equals what went in."""
    settings = {"learning": {"rate": 0.1, "sigma": None, "kinds": ["a"], "on": True}}
    journal = open_journal(tmp_path / "log")
    journal.record(OPEN)
    journal.record_settings(settings)
    journal.record_runtime({"torch": "2"})
    journal.close()

    again = open_journal(tmp_path / "log")

    assert not again.record_settings(settings)
    assert not again.record_runtime({"torch": "2"})
    again.close()


def test_the_runtime_is_recorded_when_it_differs(journal: Journal, tmp_path: Path) -> None:
    """An upgrade of torch between two tasks can be found later."""
    assert journal.record_runtime({"torch": "2.14"})
    assert not journal.record_runtime({"torch": "2.14"})
    assert journal.record_runtime({"torch": "2.15"})

    facts = [entry.facts for entry in entries(tmp_path / "log") if isinstance(entry, Runtime)]

    assert [{"torch": "2.14"}, {"torch": "2.15"}] == facts


def test_a_log_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    """Whole lines with right checksums, but not of one lineage: the entry is named."""
    log = LineageLog(tmp_path / "log", now=lambda: "2030-01-01T00:00:00Z")
    for entry in (OPEN, PLAN, PLAN):
        log.append(entry)
    log.close()

    with pytest.raises(StateError, match="entry 2: plan 1 before the last one's outcome"):
        open_journal(tmp_path / "log")
