"""Verbs about the process: what they print for people and for programs, and how they end."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from base_models import untrained_base
from command_line import CommandLine, write_settings

from teacherd.daemon.endpoints import Endpoints, EndpointsConfig
from teacherd.daemon.metrics import Metrics
from teacherd.daemon.status_board import StatusBoard
from teacherd.daemon.status_view import StatusView


@pytest.fixture
def teacherd(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """Run verbs in this process."""
    return CommandLine(capsys)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a configuration under which everything is in order."""
    return write_settings(tmp_path, base=untrained_base(tmp_path))


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """Return a configuration with two mistakes."""
    return write_settings(tmp_path, base=tmp_path, tasks={"instances": 0, "instnces": 3})


def test_a_valid_configuration_is_told_so(teacherd: CommandLine, config: Path) -> None:
    """On stderr: there is nothing to read for a program but the exit code."""
    answer = teacherd("validate", "--config", config)

    assert (0, "", f"{config}: valid\n") == (answer.code, answer.out, answer.err)


def test_validation_answers_programs_too(
    teacherd: CommandLine, config: Path, tmp_path: Path
) -> None:
    """One document whether it is valid or not; the exit code stays 78, the words are on stderr."""
    assert {"valid": True, "problems": []} == teacherd("validate", "-c", config, "--json").json

    answer = teacherd("validate", "-c", config, "--json", "--set", f"model.base={tmp_path}/none")

    assert 78 == answer.code
    assert not answer.json["valid"]
    assert ["model.base"] == [problem["key"] for problem in answer.json["problems"]]
    assert "model.base" in answer.err


def test_every_problem_of_a_file_is_told_at_once(teacherd: CommandLine, broken: Path) -> None:
    """By every verb alike, with nothing on stdout."""
    for verb in ("validate", "run", "config show", "doctor", "status", "versions list"):
        answer = teacherd(*verb.split(), "--config", broken)

        assert (78, "") == (answer.code, answer.out)
        assert "tasks.instnces: unknown key; did you mean instances?" in answer.err
        assert "tasks.instances: 0" in answer.err


def test_the_configuration_is_shown_as_resolved(
    teacherd: CommandLine, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flags go before the environment, that before the file, that before defaults."""
    monkeypatch.setenv("TEACHERD_LEARNING__EPOCHS", "7")
    monkeypatch.setenv("TEACHERD_TASKS__INSTANCES", "500")
    flags = ("--config", config, "--set", "tasks.instances=600")
    for_people = yaml.safe_load(teacherd("config", "show", *flags).out)
    for_programs = teacherd("config", "show", *flags, "--json").json

    assert for_people == for_programs
    assert (600, 7) == (for_people["tasks"]["instances"], for_people["learning"]["epochs"])
    assert ("cpu", 0) == (for_people["process"]["device"], for_people["endpoints"]["port"])
    assert 64 == for_people["learning"]["batch_size"]


def test_what_is_shown_is_a_configuration(
    teacherd: CommandLine, config: Path, tmp_path: Path
) -> None:
    """It can be saved and used: showing that gives the same again."""
    shown = teacherd("config", "show", "--config", config).out
    (tmp_path / "again.yaml").write_text(shown)

    assert shown == teacherd("config", "show", "--config", tmp_path / "again.yaml").out


def test_the_doctor_finds_nothing_missing(teacherd: CommandLine, config: Path) -> None:
    """A line for each thing looked at, and the same as JSON."""
    answer = teacherd("doctor", "--config", config)
    findings = teacherd("doctor", "--config", config, "--json").json

    assert 0 == answer.code
    for finding in findings:
        (line,) = [line for line in answer.out.splitlines() if f" {finding['subject']} " in line]
        assert finding["state"] == line.split()[0]
        assert line.endswith(finding["detail"])


def test_the_doctor_ends_with_1_if_something_is_missing(
    teacherd: CommandLine, config: Path, tmp_path: Path
) -> None:
    """Scripts stop on it; the JSON is whole all the same."""
    answer = teacherd("doctor", "-c", config, "--set", f"model.base={tmp_path}/none", "--json")

    assert 1 == answer.code
    assert {"base model"} == {
        finding["subject"] for finding in answer.json if finding["state"] == "missing"
    }


def test_the_version_is_that_of_what_runs(teacherd: CommandLine) -> None:
    """Ours first, then what a bug report needs."""
    for_programs = teacherd("version", "--json").json
    for_people = teacherd("version").out

    assert ["teacherd", "torch", "kafka-python"] == list(for_programs)
    assert [f"{name} {number}" for name, number in for_programs.items()] == for_people.splitlines()


@pytest.fixture
def daemon_port() -> Iterator[int]:
    """Answer as a daemon that has learned nothing yet does; give the port."""
    board = StatusBoard(monotonic=time.monotonic)
    board.update("teacher", version=3, newest_event_ms=None, accuracy={"old": 0.91234})
    config = EndpointsConfig(port=0)
    endpoints = Endpoints(
        config,
        metrics=Metrics(),
        board=board,
        readiness=lambda: "ready",
        view=StatusView(
            board=board,
            readiness=lambda: "ready",
            liveness_seconds=config.liveness_seconds,
            now=time.time,
        ),
    )
    yield endpoints.port
    endpoints.close()


def test_the_status_is_asked_where_the_configuration_says(
    teacherd: CommandLine, config: Path, daemon_port: int
) -> None:
    """For programs all of it; for people what there is, short."""
    asked = ("status", "--config", config, "--set", f"endpoints.port={daemon_port}")
    for_people = teacherd(*asked).out.splitlines()

    answer = teacherd(*asked, "--json").json

    teacher = {"version": 3, "newest_event_ms": None, "accuracy": {"old": 0.91234}}
    assert ("ready", teacher) == (answer["state"], answer["teacher"])
    words = [line.split() for line in for_people]
    assert f"http://127.0.0.1:{daemon_port}" in for_people[0]
    assert ["state", "ready"] in words
    assert ["teacher.version", "3"] in words
    assert ["teacher.accuracy", "old", "0.9123"] in words


def test_the_status_needs_no_configuration_if_it_has_an_address(
    teacherd: CommandLine, daemon_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From another machine there is none."""
    monkeypatch.chdir(tmp_path)

    answer = teacherd("status", "--url", f"http://127.0.0.1:{daemon_port}", "--json")

    assert "ready" == answer.json["state"]


def test_an_ipv6_address_is_asked_in_brackets(teacherd: CommandLine, config: Path) -> None:
    """Else its colons would be taken for the port's."""
    answer = teacherd(
        "status", "-c", config, "--set", "endpoints.host=::1", "--set", "endpoints.port=1"
    )

    assert 69 == answer.code
    assert "no daemon answers at http://[::1]:1" in answer.err


def test_where_no_daemon_answers_the_status_is_69(teacherd: CommandLine) -> None:
    """With nothing on stdout for a program to misread."""
    answer = teacherd("status", "--url", "http://127.0.0.1:1", "--json")

    assert (69, "") == (answer.code, answer.out)
    assert "no daemon answers at http://127.0.0.1:1" in answer.err
