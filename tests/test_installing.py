"""What `teacherd install --systemd` writes, and what systemd itself says to it."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import CommandLine

RequiresProgram = Callable[[str, str], Path]

EXECUTABLE = "/opt/teacherd/bin/teacherd"
LARGEST_EXPOSURE = 3.0
SYSTEMD = ("systemd-analyze", "apt-get install -y --no-install-recommends systemd")
UNIT = "etc/systemd/system/teacherd.service"


@pytest.fixture
def teacherd(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """Run verbs in this process."""
    return CommandLine(capsys)


def install(teacherd: CommandLine, prefix: Path, *arguments: str) -> dict[str, str]:
    """Install into a folder; return what became of each file, by its place below it."""
    answer = teacherd(
        "install", "--systemd", "--prefix", prefix, "--executable", EXECUTABLE, "--json", *arguments
    )
    assert 0 == answer.code, answer.err
    return {
        str(Path(each["path"]).relative_to(prefix)): each["state"] for each in answer.json["files"]
    }


def test_everything_a_service_needs_is_written(teacherd: CommandLine, tmp_path: Path) -> None:
    """The unit starts the executable, and nothing is left to be filled in."""
    installed = install(teacherd, tmp_path)

    assert {"written"} == set(installed.values())
    assert f"ExecStart={EXECUTABLE} run" in (tmp_path / UNIT).read_text()
    blanks = re.compile(r"@[a-z]+@")
    assert [] == [place for place in installed if blanks.search((tmp_path / place).read_text())]
    assert 0o640 == (tmp_path / "etc/teacherd/teacherd.env").stat().st_mode & 0o777


def test_another_user_is_put_everywhere(teacherd: CommandLine, tmp_path: Path) -> None:
    """Into unit, sysusers and tmpfiles alike."""
    installed = install(teacherd, tmp_path, "--user", "learner")
    texts = {place: (tmp_path / place).read_text() for place in installed}

    assert "User=learner" in texts[UNIT]
    assert "u learner -" in texts["etc/sysusers.d/teacherd.conf"]
    assert "/var/lib/teacherd 0750 learner" in texts["etc/tmpfiles.d/teacherd.conf"]


def test_what_the_administrator_wrote_stays(teacherd: CommandLine, tmp_path: Path) -> None:
    """An upgrade replaces the unit, which has drop-ins for changes, and never a configuration."""
    install(teacherd, tmp_path)
    configuration = tmp_path / "etc/teacherd/config.yaml"
    configuration.write_text("model: {base: mine}\n")
    (tmp_path / UNIT).write_text("[Service]\n")
    again = install(teacherd, tmp_path)

    assert "kept" == again["etc/teacherd/config.yaml"]
    assert "model: {base: mine}\n" == configuration.read_text()
    assert "written" == again[UNIT]
    assert "unchanged" == again["etc/teacherd/teacherd.env"]


def test_an_executable_that_the_service_cannot_see_is_refused(
    teacherd: CommandLine, tmp_path: Path
) -> None:
    """Before anything is written, with the folder that hides it and what to do."""
    answer = teacherd(
        "install", "--systemd", "--prefix", tmp_path, "--executable", "/home/me/venv/bin/teacherd"
    )

    assert 2 == answer.code
    assert "sees nothing below /home" in answer.err
    assert "python3 -m venv /opt/teacherd" in answer.err
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "executable", ["/opt/a b/teacherd", "/opt/50%n/teacherd", "/o$p;t/teacherd"]
)
def test_systemd_looks_for_the_executable_that_was_named(
    teacherd: CommandLine, tmp_path: Path, requires_program: RequiresProgram, executable: str
) -> None:
    """Whatever its path would mean in a unit: spaces end a word there, and % begins a specifier."""
    answer = teacherd("install", "--systemd", "--prefix", tmp_path, "--executable", executable)
    found = subprocess.run(
        [requires_program(*SYSTEMD), "verify", "--man=no", str(tmp_path / UNIT)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == answer.code
    assert f"Command {executable} is not executable" in found.stderr


@pytest.mark.parametrize("name", ["a\nb", 'a"b', "a'b", "a\\b"])
def test_an_executable_that_no_unit_can_name_is_refused(
    teacherd: CommandLine, tmp_path: Path, name: str
) -> None:
    """A unit with it would be dead, or something else."""
    answer = teacherd(
        "install", "--systemd", "--prefix", tmp_path, "--executable", f"/opt/{name}/teacherd"
    )

    assert (2, []) == (answer.code, list(tmp_path.iterdir()))
    assert "systemd takes no quotes" in answer.err


@pytest.mark.parametrize("user", ["a b", "1st", "x" * 32, "root\nExecStartPre=/bin/true", ""])
def test_a_user_that_can_be_none_is_refused(
    teacherd: CommandLine, tmp_path: Path, user: str
) -> None:
    """Before anything is written."""
    answer = teacherd(
        "install",
        "--systemd",
        "--prefix",
        tmp_path,
        "--executable",
        EXECUTABLE,
        "--user",
        user,
    )

    assert (2, []) == (answer.code, list(tmp_path.iterdir()))
    assert "--user" in answer.err


def test_the_kind_of_service_must_be_said(teacherd: CommandLine, tmp_path: Path) -> None:
    """Nothing is written into /etc by a verb typed out of curiosity."""
    answer = teacherd("install", "--prefix", tmp_path)

    assert (2, []) == (answer.code, list(tmp_path.iterdir()))
    assert "--systemd" in answer.err


def test_a_folder_that_cannot_be_written_is_named(teacherd: CommandLine, tmp_path: Path) -> None:
    """With the code of a state that cannot be written."""
    (tmp_path / "etc").write_text("in the way")
    answer = teacherd("install", "--systemd", "--prefix", tmp_path, "--executable", EXECUTABLE)

    assert 74 == answer.code
    assert "cannot be written" in answer.err


def test_people_are_told_what_to_run_next(teacherd: CommandLine, tmp_path: Path) -> None:
    """On stderr, so that the table on stdout can be cut up."""
    answer = teacherd("install", "--systemd", "--prefix", tmp_path, "--executable", EXECUTABLE)

    assert f"systemctl --root={tmp_path} enable teacherd" in answer.err
    assert "teacherd.service" in answer.out

    answer = teacherd(
        "install", "--systemd", "--prefix", tmp_path / "a b", "--executable", EXECUTABLE
    )

    assert f"systemctl --root='{tmp_path}/a b' enable teacherd" in answer.err


def test_systemd_finds_nothing_wrong_with_the_unit(
    teacherd: CommandLine, tmp_path: Path, requires_program: RequiresProgram
) -> None:
    """Not a word. It also looks for the executable; a checkout may lie where no unit may look."""
    answer = teacherd("install", "--systemd", "--prefix", tmp_path, "--executable", "/bin/true")
    found = subprocess.run(
        [requires_program(*SYSTEMD), "verify", "--man=no", str(tmp_path / UNIT)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (0, 0, "") == (answer.code, found.returncode, found.stderr)


def test_the_service_is_little_exposed(
    teacherd: CommandLine, tmp_path: Path, requires_program: RequiresProgram
) -> None:
    """By systemd's own measure, 0 (sealed) to 10 (open)."""
    install(teacherd, tmp_path)
    found = subprocess.run(
        [
            requires_program(*SYSTEMD),
            "security",
            "--offline=true",
            "--json=short",
            str(tmp_path / UNIT),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    exposure = sum(float(each["exposure"] or 0) for each in json.loads(found.stdout))

    assert exposure <= LARGEST_EXPOSURE
