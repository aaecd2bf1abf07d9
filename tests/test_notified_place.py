"""How far a receiver has been told survives restarts, restores and a damaged file."""

from pathlib import Path

from structlog.testing import capture_logs

from teacherd.daemon.notified_place import NotifiedPlace, forget_place


def test_it_is_taken_up_again_where_it_was(tmp_path: Path) -> None:
    """Whatever has been logged since is to be told."""
    path = tmp_path / "place.json"
    NotifiedPlace(path, lineage="a", end=3).move(5)

    assert 5 == NotifiedPlace(path, lineage="a", end=9).last


def test_a_new_receiver_is_told_nothing_old(tmp_path: Path) -> None:
    """It begins at the end of the log, durably: what comes then must not be lost to a crash."""
    path = tmp_path / "place.json"

    assert 7 == NotifiedPlace(path, lineage="a", end=7).last
    assert 7 == NotifiedPlace(path, lineage="a", end=9).last


def test_after_a_restore_it_is_not_ahead_of_the_log(tmp_path: Path) -> None:
    """Else as many decisions as were taken back would go untold, also by the start after it."""
    path = tmp_path / "place.json"
    NotifiedPlace(path, lineage="a", end=20)

    assert 12 == NotifiedPlace(path, lineage="a", end=12).last
    assert 12 == NotifiedPlace(path, lineage="a", end=15).last


def test_another_lineages_place_is_none(tmp_path: Path) -> None:
    """The state directory was made anew, and the file was left or copied."""
    path = tmp_path / "place.json"
    NotifiedPlace(path, lineage="a", end=2)

    assert 9 == NotifiedPlace(path, lineage="b", end=9).last


def test_a_receiver_that_was_taken_out_is_new_when_it_comes_back(tmp_path: Path) -> None:
    """Nobody wants to be told of last month."""
    path = tmp_path / "place.json"
    NotifiedPlace(path, lineage="a", end=2)
    forget_place(path)
    forget_place(path)

    assert 9 == NotifiedPlace(path, lineage="a", end=9).last


def test_a_damaged_place_is_told_of_and_begins_at_the_end(tmp_path: Path) -> None:
    """It decides nothing that would be worth refusing to start for."""
    path = tmp_path / "place.json"
    path.write_text("{")

    with capture_logs() as logs:
        place = NotifiedPlace(path, lineage="a", end=4)

    assert 4 == place.last
    assert ["notified_place_unreadable"] == [each["event"] for each in logs]
