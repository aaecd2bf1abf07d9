"""What goes wrong at the start or on the disk: a clear message, an exit code, nothing lost."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from daemon_process import DaemonProcess
from stream_writing import append_digits

from teacherd.daemon.errors import ExitCode


def settings(directory: Path, base: Path) -> dict[str, dict[str, Any]]:
    """Return what makes a small daemon below a directory."""
    return {
        "model": {"base": str(base)},
        "process": {"state_directory": str(directory / "state"), "num_threads": 1},
        "stream_log": {"path": str(directory / "stream.db")},
        "tasks": {"instances": 20, "min_instances": 1},
        "learning": {"epochs": 3, "consolidation": {"freezing_epochs": 1, "interval_epochs": 1}},
        "gate": {"holdout_share": 0},
        "endpoints": {"port": 0},
        "logging": {"format": "json"},
    }


def run(directory: Path, raw: dict[str, Any], *flags: str) -> tuple[int, str]:
    """Run the daemon with a configuration that it must refuse; return code and stderr."""
    path = directory / "config.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    command = [sys.executable, "-m", "teacherd.daemon", "run", "--config", str(path), *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, check=False, capture_output=True, cwd=directory, env=environment, timeout=300
    )
    return done.returncode, done.stderr.decode()


def changed(raw: dict[str, Any], section: str, **values: object) -> dict[str, Any]:
    """Return settings with some keys of a section changed."""
    return {**raw, section: {**raw.get(section, {}), **values}}


def test_every_mistake_in_the_file_is_told_at_once(tmp_path: Path, digits_base_model: Path) -> None:
    """Unknown key, wrong type and broken rule, each with key, value and fix; exit 78."""
    raw = settings(tmp_path, digits_base_model)
    raw = changed(raw, "tasks", instances="many", instnces=3)
    raw = changed(raw, "learning", batch_size=0)
    code, message = run(tmp_path, raw)

    assert ExitCode.CONFIGURATION == code
    assert "tasks.instnces: unknown key; did you mean instances?" in message
    assert "tasks.instances: 'many'" in message
    assert "learning.batch_size: 0" in message
    assert "Traceback" not in message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """No configuration is no reason to start with the defaults."""
    command = [sys.executable, "-m", "teacherd.daemon", "run", "--config", "nowhere.yaml"]
    done = subprocess.run(command, check=False, capture_output=True, cwd=tmp_path)

    assert ExitCode.CONFIGURATION == done.returncode
    assert b"nowhere.yaml: No such file" in done.stderr


def test_a_missing_base_model_is_named(tmp_path: Path) -> None:
    """The message says how to make one."""
    code, message = run(tmp_path, settings(tmp_path, tmp_path / "none"))

    assert ExitCode.CONFIGURATION == code
    assert "model.base" in message
    assert "teacherd adopt" in message


def test_other_classes_than_the_base_models_are_refused(
    tmp_path: Path, digits_base_model: Path
) -> None:
    """The difference is shown, not only that there is one."""
    raw = changed(settings(tmp_path, digits_base_model), "model", classes=["cat", "dog"])
    code, message = run(tmp_path, raw)

    assert ExitCode.CONFIGURATION == code
    assert "model.classes: 2 classes are not the base model's 10" in message
    assert "lacks ['cat', 'dog']" in message


@pytest.mark.parametrize(
    ("section", "key"), [("process", "state_directory"), ("stream_log", "path")]
)
def test_an_unreachable_directory_is_refused(
    tmp_path: Path, digits_base_model: Path, section: str, key: str
) -> None:
    """A path below a file can never be made: configuration, not a passing fault."""
    (tmp_path / "file").write_text("")
    raw = changed(
        settings(tmp_path, digits_base_model), section, **{key: str(tmp_path / "file" / "x")}
    )
    code, message = run(tmp_path, raw)

    assert ExitCode.CONFIGURATION == code
    assert f"{section}.{key}" in message
    assert "Traceback" not in message


def test_a_port_in_use_is_a_passing_fault(tmp_path: Path, digits_base_model: Path) -> None:
    """Exit 75: a supervisor may try again; nothing was touched."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        raw = changed(settings(tmp_path, digits_base_model), "endpoints", port=port)
        code, message = run(tmp_path, raw)

    assert ExitCode.TEMPORARY == code
    assert f"127.0.0.1:{port} cannot be bound: Address already in use" in message
    assert not (tmp_path / "state").exists()


def test_a_second_writer_is_refused_with_the_pid_of_the_first(
    tmp_path: Path, digits_base_model: Path
) -> None:
    """One lineage has one writer; the same settings twice ask for the same port as well."""
    raw = settings(tmp_path, digits_base_model)
    daemon = DaemonProcess(tmp_path, raw)
    try:
        daemon.start()
        for port in (0, daemon.port):
            code, message = run(tmp_path, changed(raw, "endpoints", port=port))

            assert ExitCode.TEMPORARY == code
            assert f"in use by process {daemon.process.pid}" in message
        assert 0 == daemon.stop()
    finally:
        daemon.close()


def test_another_base_for_the_same_state_is_refused(
    tmp_path: Path, digits_base_model: Path, other_base_model: Path
) -> None:
    """A lineage has one version 0."""
    daemon = DaemonProcess(tmp_path, settings(tmp_path, digits_base_model))
    try:
        daemon.start()
        assert 0 == daemon.stop()
    finally:
        daemon.close()
    code, message = run(tmp_path, settings(tmp_path, other_base_model))

    assert ExitCode.CONFIGURATION == code
    assert "is not version 0 of the lineage" in message


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_lineage_log_stops_the_start(
    tmp_path: Path, digits_base_model: Path, damage: str
) -> None:
    """Exit 74 with the file's name: never trained on from something unverified."""
    daemon = DaemonProcess(tmp_path, settings(tmp_path, digits_base_model))
    try:
        daemon.start()
        assert 0 == daemon.stop()
    finally:
        daemon.close()
    path = tmp_path / "state" / "lineage.log"
    data = bytearray(path.read_bytes())
    if damage == "truncated":
        data = data[:-10]
    else:
        data[len(data) // 2] ^= 1
    path.write_bytes(data)
    code, message = run(tmp_path, settings(tmp_path, digits_base_model))

    assert ExitCode.STATE == code
    assert "lineage.log" in message
    assert bytes(data) == path.read_bytes()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system of 3 MB of its own."""
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["/usr/bin/mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(mount)]
    if subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting a tmpfs needs root; run the tests as root to try a full disk")
    yield mount
    subprocess.run(["/usr/bin/umount", "-l", str(mount)], check=True)


def test_a_full_disk_ends_it_and_nothing_is_lost(
    tmp_path: Path, small_disk: Path, digits_base_model: Path
) -> None:
    """Exit 74 names the file; with room again, the same task is finished from its plan."""
    raw = changed(
        settings(tmp_path, digits_base_model), "process", state_directory=str(small_disk / "state")
    )
    daemon = DaemonProcess(tmp_path, raw)
    daemon.state = small_disk / "state"
    try:
        daemon.start()
        (small_disk / "filler").write_bytes(b"x" * (free_bytes(small_disk) - 8_000))
        append_digits(tmp_path / "stream.db", 0, 20)

        assert ExitCode.STATE == daemon.wait()
        assert "No space left on device" in daemon.log_text()

        (small_disk / "filler").unlink()
        daemon.start()
        daemon.wait_for_tasks(1)

        assert {"accepted": 1} == daemon.status()["lineage"]["outcomes"]
        assert 20 == daemon.status()["lineage"]["instances_learned"]
        assert 0 == daemon.stop()
    finally:
        daemon.close()


def free_bytes(path: Path) -> int:
    """Return how much can still be written."""
    facts = os.statvfs(path)
    return facts.f_bavail * facts.f_frsize
