"""What the verbs share: tables for people, on a terminal and off it, and progress."""

import subprocess
import sys
from collections.abc import Callable

import pytest

from teacherd.daemon.cli_support import print_facts, print_json, print_table, progress_bar

LONG = "x" * 500


@pytest.fixture
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Give a function that makes stdout and stderr a terminal of so many columns."""

    def pretend(columns: int) -> None:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.delenv("NO_COLOR", raising=False)

    return pretend


def test_a_pipe_gets_whole_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """However long, and without padding: a line for the title, columns, a rule and each row."""
    print_table("things", ["name", "value"], [("a", LONG), ("b", 0.5)])

    title, head, _, first, second = capsys.readouterr().out.splitlines()
    assert ("things", ["name", "value"]) == (title, head.split())
    assert (["a", LONG], ["b", "0.5"]) == (first.split(), second.split())
    assert second == second.rstrip()


def test_a_terminal_gets_what_fits(
    capsys: pytest.CaptureFixture[str], on_terminal: Callable[[int], None]
) -> None:
    """Long cells are folded, not cut: nothing is lost."""
    on_terminal(60)
    print_table("things", ["name", "value"], [("a", LONG)])

    shown = capsys.readouterr().out
    assert 500 == shown.count("x")
    assert max(len(line) for line in shown.splitlines() if "\x1b" not in line) <= 60


def test_an_empty_table_is_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    """Instead of a head without rows."""
    print_table("things", ["name"], [], if_empty="there are none yet")

    assert "things: there are none yet\n" == capsys.readouterr().out


def test_facts_without_a_value_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """A person looks for what there is."""
    print_facts("a [bold]title", [("one", 1), ("none", None), ("[red]", "[/]"), ("at_ms", 0)])

    assert [
        "a [bold]title",
        "one    1",
        "[red]  [/]",
        "at_ms  1970-01-01T00:00:00+00:00",
    ] == capsys.readouterr().out.splitlines()


def test_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    """And ends with a line's end."""
    print_json({"a": [1, None]})

    assert '{\n  "a": [\n    1,\n    null\n  ]\n}\n' == capsys.readouterr().out


def test_progress_off_a_terminal_is_at_most_ten_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """A log must not fill up."""
    with progress_bar("steps", 1000) as bar:
        for done in range(1, 1001):
            bar.update(done)

    written = capsys.readouterr()
    assert "" == written.out
    assert [f"steps: {done}/1000" for done in range(100, 1001, 100)] == written.err.splitlines()


def test_progress_takes_a_total_that_comes_late(capsys: pytest.CaptureFixture[str]) -> None:
    """A data set is counted once it is loaded."""
    with progress_bar("records") as bar:
        bar.update(2, 4)
        bar.update(4, 4)

    assert ["records: 2/4", "records: 4/4"] == capsys.readouterr().err.splitlines()


def test_progress_on_a_terminal_is_drawn(
    capsys: pytest.CaptureFixture[str], on_terminal: Callable[[int], None]
) -> None:
    """On stderr, too."""
    on_terminal(100)
    with progress_bar("steps", 4) as bar:
        bar.update(4)

    written = capsys.readouterr()
    assert "" == written.out
    assert "4/4" in written.err


def test_a_process_ends_at_once_and_without_a_word_of_torch() -> None:
    """Its compiler would write a page of what it still holds, behind the last event of the log."""
    pytest.importorskip("triton")
    code = (
        "import sys, triton; from teacherd.daemon.cli_support import end_with; "
        "sys.stdout.write('told'); end_with(3)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)

    assert (3, b"told", b"") == (ended.returncode, ended.stdout, ended.stderr)
