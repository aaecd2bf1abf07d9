"""The lineage log: what was appended is there, whole and in order, or the log is refused."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teacherd.daemon.entries import ClosedRange, Entry, Open, Outcome, Plan, Publish, Skip
from teacherd.daemon.errors import ExitCode, StateError
from teacherd.daemon.lineage_log import LineageLog, read_lineage_log

ENTRIES: list[Entry] = [
    Open(lineage="a1", seed=7, sha256="00", classes=("cat", "dog")),
    Publish(version=0),
    Plan(
        task=1,
        cause="count",
        head=0,
        seed=7,
        epochs=3,
        learning_rate=0.01,
        num_instances=2,
        ranges=(
            ClosedRange(topic="t", partition=0, start=0, end=3, count=3, digest="d", rejected=(1,)),
        ),
    ),
    Outcome(
        task=1,
        result="accepted",
        version=1,
        sha256="01",
        should_publish=True,
        figures={"outer_ratio": 0.5},
    ),
    Publish(version=1),
    Skip(topic="t", partition=0, start=3, end=9, reason="retention"),
]


def open_log(path: Path, *, pinned: int = 0) -> LineageLog:
    """Open a log with a clock that stands still."""
    return LineageLog(path, now=lambda: "2030-01-01T00:00:00Z", pinned=pinned)


def write_all(path: Path) -> None:
    """Write every kind of entry once."""
    log = open_log(path)
    for entry in ENTRIES:
        log.append(entry)
    log.close()


def test_entries_come_back_as_they_were_appended(tmp_path: Path) -> None:
    """Every kind of entry survives the way through the file, in order."""
    write_all(tmp_path / "log")

    log = open_log(tmp_path / "log")
    read = [logged.entry for logged in log.take_entries()]
    log.close()

    assert ENTRIES == read


def test_the_same_entries_give_the_same_pin(tmp_path: Path) -> None:
    """The chained hash is a function of the entries, so two equal logs have equal pins."""
    write_all(tmp_path / "a")
    write_all(tmp_path / "b")
    a, b = open_log(tmp_path / "a"), open_log(tmp_path / "b")

    assert a.pin == b.pin
    assert len(ENTRIES) == a.pin.num_entries

    a.close()
    b.close()


def test_an_earlier_pin_is_contained_and_a_foreign_one_is_not(tmp_path: Path) -> None:
    """A checkpoint's pin tells its own log from another one of the same length."""
    write_all(tmp_path / "a")
    log, other = open_log(tmp_path / "a"), open_log(tmp_path / "b")
    before = log.pin
    log.append(Publish(version=0))
    other.append(Open(lineage="b2", seed=7, sha256="00", classes=("cat", "dog")))

    assert log.contains(before)
    assert not log.contains(other.pin)
    assert not other.contains(before)

    log.close()
    other.close()


def test_every_torn_last_line_is_cut_off(tmp_path: Path) -> None:
    """Wherever a crash tears the line being appended, the entries before it are what is left."""
    write_all(tmp_path / "log")
    whole = (tmp_path / "log").read_bytes()
    last_line = whole.rstrip(b"\n").rfind(b"\n") + 1
    for size in range(last_line + 1, len(whole)):
        (tmp_path / "log").write_bytes(whole[:size])
        log = open_log(tmp_path / "log")
        log.close()

        assert ENTRIES[:-1] == [logged.entry for logged in log.take_entries()]
        assert last_line == (tmp_path / "log").stat().st_size


def test_a_last_line_with_a_hole_is_cut_off(tmp_path: Path) -> None:
    """A power cut may keep the second page of a line, its end included, and lose the first."""
    write_all(tmp_path / "log")
    whole = (tmp_path / "log").read_bytes()
    last_line = whole.rstrip(b"\n").rfind(b"\n") + 1
    (tmp_path / "log").write_bytes(whole[:last_line] + bytes(20) + whole[last_line + 20 :])
    log = open_log(tmp_path / "log")
    log.close()

    assert ENTRIES[:-1] == [logged.entry for logged in log.take_entries()]


def test_a_torn_line_that_a_checkpoint_pins_is_refused(tmp_path: Path) -> None:
    """What a checkpoint relies on was durable: that it is torn now is damage, not a crash."""
    write_all(tmp_path / "log")
    whole = (tmp_path / "log").read_bytes()
    (tmp_path / "log").write_bytes(whole[:-5])

    with pytest.raises(StateError, match="line 6 is damaged") as caught:
        open_log(tmp_path / "log", pinned=len(ENTRIES))

    assert ExitCode.STATE == caught.value.exit_code
    assert whole[:-5] == (tmp_path / "log").read_bytes()


@given(data=st.data())
def test_any_flipped_byte_before_the_last_line_is_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each byte of the log is covered by a checksum."""
    path = tmp_path_factory.mktemp("log") / "log"
    write_all(path)
    whole = bytearray(path.read_bytes())
    last_line = bytes(whole).rstrip(b"\n").rfind(b"\n")
    position = data.draw(st.integers(0, last_line))
    whole[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(whole)

    with pytest.raises(StateError, match="damaged"):
        open_log(path)

    assert bytes(whole) == path.read_bytes()


def test_a_removed_line_is_refused(tmp_path: Path) -> None:
    """The chain holds the entries in their places."""
    write_all(tmp_path / "log")
    lines = (tmp_path / "log").read_bytes().splitlines(keepends=True)
    (tmp_path / "log").write_bytes(b"".join(lines[:2] + lines[3:]))

    with pytest.raises(StateError, match="line 3 is damaged"):
        open_log(tmp_path / "log")


def test_appending_goes_on_after_reading(tmp_path: Path) -> None:
    """A reopened log continues sequence and chain."""
    write_all(tmp_path / "log")
    log = open_log(tmp_path / "log")
    log.append(Publish(version=0))
    log.close()

    again = open_log(tmp_path / "log")
    again.close()

    read = again.take_entries()

    assert [*ENTRIES, Publish(version=0)] == [logged.entry for logged in read]
    assert list(range(7)) == [logged.sequence for logged in read]
    assert [] == again.take_entries()


def test_a_path_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    """The error says which file."""
    with pytest.raises(StateError, match="missing/log"):
        open_log(tmp_path / "missing" / "log")


def test_a_reader_beside_the_daemon_sees_whole_entries_only(tmp_path: Path) -> None:
    """The line being appended at this moment is not there yet; the file is left as it is."""
    write_all(tmp_path / "log")
    whole = (tmp_path / "log").read_bytes()
    (tmp_path / "log").write_bytes(whole[:-1])

    assert ENTRIES[:-1] == [logged.entry for logged in read_lineage_log(tmp_path / "log")]
    assert whole[:-1] == (tmp_path / "log").read_bytes()


@pytest.mark.parametrize("line", [0, 3, 5])
def test_a_reader_is_told_of_damage(tmp_path: Path, line: int) -> None:
    """A list of versions that ends before a damaged line would be a wrong answer."""
    write_all(tmp_path / "log")
    lines = (tmp_path / "log").read_bytes().splitlines(keepends=True)
    lines[line] = lines[line].replace(b"2030", b"2031")
    (tmp_path / "log").write_bytes(b"".join(lines))

    with pytest.raises(StateError, match=f"line {line + 1} is damaged"):
        read_lineage_log(tmp_path / "log")


def test_a_log_that_is_not_there_cannot_be_read(tmp_path: Path) -> None:
    """The error says which file."""
    with pytest.raises(StateError, match="log: cannot be read: No such file"):
        read_lineage_log(tmp_path / "log")
