"""The shared lock: readers together, a writer alone, and writers not starved."""

import threading

import pytest

from teacherd.models.shared_lock import SharedLock


def test_readers_hold_it_together() -> None:
    """Two readers meet inside; with an ordinary lock the barrier would break."""
    lock = SharedLock()
    meeting = threading.Barrier(2, timeout=300)

    def read() -> None:
        with lock.shared():
            meeting.wait()

    other = threading.Thread(target=read)
    other.start()
    read()
    other.join()

    assert not meeting.broken


def test_writers_and_readers_exclude_each_other() -> None:
    """No reader ever sees the two halves of a write differ, and no write is lost."""
    lock = SharedLock()
    pair = [0, 0]
    torn: list[tuple[int, int]] = []
    written = threading.Event()

    def write() -> None:
        for _ in range(300):
            with lock.exclusive():
                pair[0] += 1
                pair[1] += 1

    def read() -> None:
        while not written.is_set():
            with lock.shared():
                if pair[0] != pair[1]:
                    torn.append((pair[0], pair[1]))

    readers = [threading.Thread(target=read) for _ in range(3)]
    writers = [threading.Thread(target=write) for _ in range(2)]
    for thread in readers + writers:
        thread.start()
    for thread in writers:
        thread.join()
    written.set()
    for thread in readers:
        thread.join()

    assert [600, 600] == pair
    assert [] == torn


def test_a_failure_inside_lets_go_of_it() -> None:
    """Neither a reader nor a writer that raises blocks those after it."""
    lock = SharedLock()
    for hold in (lock.shared, lock.exclusive):
        with pytest.raises(ZeroDivisionError), hold():
            raise ZeroDivisionError

    with lock.exclusive():
        held = True

    assert held
