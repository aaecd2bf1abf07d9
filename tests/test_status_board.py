"""The status board: threads write their sections, readers get copies."""

from teacherd.daemon.status_board import StatusBoard


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.seconds


def test_an_update_changes_the_named_values_only() -> None:
    """Two owners of one section do not wipe each other's values."""
    board = StatusBoard(monotonic=Clock())
    board.update("task", steps_done=1, steps=9)
    board.update("task", steps_done=2)
    board.update("teacher", version=3)

    assert {"task": {"steps_done": 2, "steps": 9}, "teacher": {"version": 3}} == board.snapshot()


def test_a_snapshot_does_not_change_any_more() -> None:
    """What the endpoints turn into JSON is no thread's any more."""
    board = StatusBoard(monotonic=Clock())
    board.update("task", steps_done=1)
    before = board.snapshot()
    board.update("task", steps_done=2)
    board.update("teacher", version=3)

    assert {"task": {"steps_done": 1}} == before


def test_each_loop_has_a_beat_of_its_own() -> None:
    """A hung loop shows although the other one turns."""
    clock = Clock()
    board = StatusBoard(monotonic=clock)
    board.beat("intake")
    board.beat("learning")
    clock.seconds += 50
    board.beat("intake")
    clock.seconds += 7

    assert {"intake": 7, "learning": 57} == board.seconds_since_beat()


def test_a_loop_that_has_not_started_has_no_beat() -> None:
    """A process that starts up is not dead."""
    assert {} == StatusBoard(monotonic=Clock()).seconds_since_beat()


def test_a_beat_inside_a_turn_counts_once_the_loop_has_begun() -> None:
    """Work done for a loop before it turns, such as measuring at the start, is no life of it."""
    clock = Clock()
    board = StatusBoard(monotonic=clock)
    board.beat_again("learning")

    assert {} == board.seconds_since_beat()

    board.beat("learning")
    clock.seconds += 7
    board.beat_again("learning")

    assert {"learning": 0.0} == board.seconds_since_beat()
