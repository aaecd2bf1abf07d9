"""The demo end to end: real processes, real digits, and nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from teacherd.daemon import demo as demo_module
from teacherd.daemon.demo import Demo, DemoConfig
from teacherd.daemon.demo_stream import NUM_TASKS
from teacherd.daemon.errors import UnavailableError

STREAM_SECONDS = 4
LIMIT_SECONDS = 900  # takes one minute on a quiet machine


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Give a function that starts the demo in an empty folder."""
    started: list[subprocess.Popen[str]] = []

    def run(*flags: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "teacherd.daemon", "demo", *flags]
        started.append(
            subprocess.Popen(
                [*command, "--seconds", str(STREAM_SECONDS)],
                cwd=tmp_path,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield run
    for process in started:
        process.terminate()  # it ends what it has started
        process.communicate()


def processes_below(directory: Path) -> list[str]:
    """Return the command lines of all processes that work in a directory."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()) == directory and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
def test_the_daemon_learns_the_drift_and_forgets_less_than_fine_tuning(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """On scikit-learn's digits, served all the while; the figures are on stdout and in the file."""
    process = start("--json")
    out, err = process.communicate(timeout=LIMIT_SECONDS)
    assert 0 == process.returncode, err
    summary: dict[str, Any] = json.loads(out)

    assert summary == json.loads((tmp_path / "demo-out" / "summary.json").read_text())
    assert {
        "base_accuracy",
        "teacher_accuracy",
        "student_accuracy",
        "performance_promotion",
        "forgetting",
        "instances_consumed",
        "tasks",
        "versions",
        "swaps",
        "failed_predictions",
    } <= set(summary)
    assert summary["teacher_accuracy"] > summary["base_accuracy"] + 0.1
    assert summary["forgetting"] < summary["fine_tuning_forgetting"]
    assert NUM_TASKS == summary["tasks"]
    assert 1 < summary["versions"] <= NUM_TASKS + 1  # what the gate is not sure of is not served
    assert NUM_TASKS * summary["task_instances"] == summary["instances_consumed"]
    assert 1 <= summary["swaps"] <= NUM_TASKS
    assert 0 == summary["failed_predictions"] < summary["predictions"]
    with Image.open(tmp_path / "demo-out" / "accuracy.png") as image:
        assert image.width > 1000
    assert [] == processes_below(tmp_path)


@pytest.mark.slow
def test_the_daemon_learns_new_classes_and_keeps_the_old(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """Two digits that the base model has never seen; records of the first task of them wait."""
    process = start("--new-classes", "2", "--json")
    out, err = process.communicate(timeout=LIMIT_SECONDS)
    assert 0 == process.returncode, err
    summary: dict[str, Any] = json.loads(out)
    log = (tmp_path / "demo-out" / "daemon.log").read_text(encoding="utf-8")

    assert (8, 10) == (summary["base_classes"], summary["classes"])
    assert summary["teacher_accuracy"] > summary["base_accuracy"] + 0.1
    assert summary["forgetting"] < 0.05
    assert 0 == summary["failed_predictions"] < summary["predictions"]
    assert '"event": "classes_added"' in log
    assert '"event": "labels_sorted"' in log


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path, number: signal.Signals
) -> None:
    """In the middle of the stream, by Ctrl-C or a supervisor alike."""
    process = start()
    log = tmp_path / "demo-out" / "producer.log"
    deadline = time.monotonic() + LIMIT_SECONDS
    while not (log.exists() and "records:" in log.read_text()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "nothing is produced"
        time.sleep(0.05)
    running = processes_below(tmp_path)
    process.send_signal(number)
    _, err = process.communicate(timeout=LIMIT_SECONDS)

    assert len(running) >= 3
    assert 128 + number == process.returncode
    assert "Traceback" not in err
    assert [] == processes_below(tmp_path)


def test_a_missing_library_is_told_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 69 with the command that installs it."""
    monkeypatch.setattr(demo_module.importlib.util, "find_spec", lambda _name: None)
    config = DemoConfig(
        dataset="digits",
        data_root=tmp_path,
        out=tmp_path / "out",
        drift="rotate",
        seconds=4.0,
        seed=0,
    )
    with pytest.raises(UnavailableError, match=r"pip install 'teacherd\[demo\]'"):
        Demo(config).run()

    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("is_moving", [True, False])
def test_a_task_that_takes_minutes_is_waited_for_while_its_steps_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_moving: bool
) -> None:
    """A machine may be busy with other things; a daemon that hangs is told as one."""
    clock, asked = [0.0], []

    def sleep(_: float) -> None:
        clock[0] += 60.0

    def answer(_: str) -> dict[str, Any]:
        asked.append(clock[0])
        is_done = len(asked) == 10
        return {
            "lineage": {"tasks": NUM_TASKS if is_done else 1, "current": 0},
            "learning": {"head_accuracy": {}},
            "teacher": {"newest_event_ms": None},
            "intake": {"records": 800},
            "classes": {"head": 10},
            "task": {"number": 1, "steps_done": len(asked) if is_moving else 3},
        }

    monkeypatch.setattr(demo_module, "fetch_status", answer)
    monkeypatch.setattr(demo_module.time, "sleep", sleep)
    monkeypatch.setattr(demo_module.time, "monotonic", lambda: clock[0])
    demo = Demo(
        DemoConfig(
            dataset="digits", data_root=tmp_path, out=tmp_path, drift="rotate", seconds=1.0, seed=0
        )
    )
    samples = demo._samples_until_learned("http://127.0.0.1:1", 800)

    if is_moving:
        assert 10 == len(list(samples))
    else:
        with pytest.raises(UnavailableError, match="nothing moves"):
            list(samples)
