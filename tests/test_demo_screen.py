"""The demo's live view: figures on a terminal, lines elsewhere, never on stdout."""

import re
import sys

import numpy as np
import pytest

from teacherd.daemon.dataset import Dataset
from teacherd.daemon.demo_report import Sample
from teacherd.daemon.demo_screen import DemoScreen
from teacherd.daemon.demo_stream import NUM_TASKS, DemoStream

BASE = {"base": 1.0, "plain": 0.98, "drifted": 0.7}
TEACHER = {"base": 0.99, "plain": 0.97, "drifted": 0.95}
STUDENT = {"base": 0.96, "plain": 0.94, "drifted": 0.96}


@pytest.fixture
def stream() -> DemoStream:
    """Return a stream of 80 instances; the screen asks for no more than its length."""
    data = Dataset(
        name="things",
        inputs=np.zeros((80, 2), np.float32),
        labels=np.zeros(80, np.int64),
        classes=("a", "b"),
    )
    return DemoStream(
        base=data, held_out={"plain": data}, stream=data, drift_at=40, task_instances=10
    )


def sample(tasks: int, **changes: object) -> Sample:
    """Return what is seen after some tasks."""
    values: dict[str, object] = {
        "seconds": 1.5 * tasks,
        "instances": 10 * tasks,
        "tasks": tasks,
        "version": tasks,
        "teacher": BASE,
        "student": {},
        "outer_ratio": None,
        "freshness_seconds": None,
        **changes,
    }
    return Sample(**values)  # type: ignore[arg-type]  # as a test changes them


LATE = sample(7, teacher=TEACHER, student=STUDENT, outer_ratio=0.25, freshness_seconds=1.25)


def shown_on_terminal(
    stream: DemoStream,
    samples: list[Sample],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """Return the last picture that a terminal of 80 columns gets, without control sequences."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "30")
    monkeypatch.setenv("TERM", "xterm")
    with DemoScreen(stream, drift="rotated by 20 degrees") as screen:
        for each in samples:
            screen.show(each)
    written = capsys.readouterr()

    assert "" == written.out
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.err).replace("\r", "\n")
    return text[text.rindex("instances") :]


def test_a_terminal_shows_every_figure(
    stream: DemoStream,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Instances, drift, tasks, version, outer ratio, freshness; accuracies and forgetting."""
    picture = shown_on_terminal(stream, [sample(0), LATE], capsys, monkeypatch)
    rows = [re.split(r"\s{2,}", line.strip()) for line in picture.splitlines() if line.strip()]

    assert ["instances", "70 of 80"] == rows[0][:2]
    assert ["stream", "rotated by 20 degrees"] == rows[1]
    assert ["tasks learned", f"7 of {NUM_TASKS}"] == rows[2]
    assert ["teacher version", "7", "served without a restart"] == rows[3]
    assert ["outer ratio", "25.0%", "of the newest task was wrong at first"] == rows[4]
    assert ["freshness", "1.2 s", "age of the newest instance learned"] == rows[5]
    assert ["accuracy", "drifted", "plain", "forgetting"] == rows[6]
    assert [
        ["teacher", "95.0%", "97.0%", "+1.0"],
        ["student", "96.0%", "94.0%", "+4.0"],
        ["base model, untouched", "70.0%", "98.0%", "+0.0"],
    ] == rows[8:11]


def test_what_is_not_known_yet_is_a_dash(
    stream: DemoStream,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before the first task there is no student, and the stream has not drifted."""
    picture = shown_on_terminal(stream, [sample(0)], capsys, monkeypatch)
    rows = [re.split(r"\s{2,}", line.strip()) for line in picture.splitlines() if line.strip()]

    assert ["stream", "plain"] == rows[1]
    assert ["outer ratio", "-"] == rows[4][:2]
    assert ["student", "-", "-", "-"] in rows


def test_off_a_terminal_lines_are_few(
    stream: DemoStream, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first sample and the last one, however quickly they come; others every few seconds."""
    with DemoScreen(stream, drift="blurred") as screen:
        for tasks in range(NUM_TASKS):
            screen.show(sample(tasks))
        screen.show(sample(NUM_TASKS, teacher=TEACHER, seconds=12.25))

    written = capsys.readouterr()
    first, last = written.err.splitlines()
    assert "" == written.out
    assert f"task 0/{NUM_TASKS}" in first
    assert (
        f" 12.2 s  instances    80  task {NUM_TASKS}/{NUM_TASKS}  version {NUM_TASKS}  "
        "teacher 0.950 on drifted, 0.970 on plain" == last
    )
