"""The command line as a whole: its verbs, their options, and how it takes what is wrong."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer.main
from command_line import CommandLine

from teacherd.daemon.cli import app

VERBS = {
    "demo": "--data-root --dataset --drift --json --new-classes --out --seconds --seed --source",
    "adopt": "--argument --class-means --classes --input-shape --json --mean --min-accuracy "
    "--network --out --samples --scale --std weights",
    "pretrain": "--argument --class-means --data-root --device --epochs --holdout-share --json "
    "--learning-rate --network --out --seed dataset",
    "validate": "--config --json --set",
    "run": "--config --set --standby",
    "drain": "--config --json --set",
    "install": "--executable --json --prefix --systemd --user",
    "produce": "--config --data-root --format --json --keys --limit --partition --partitions "
    "--rate --set --shuffle-seed --to dataset",
    "serve": "--config --set root",
    "status": "--config --json --set --url --watch",
    "versions list": "--config --json --set",
    "versions show": "--config --json --set number",
    "versions diff": "--config --json --set after before",
    "versions verify": "--config --json --set number",
    "versions export": "--config --format --json --name --out --set number",
    "replay": "--config --explain --from --json --out --set --to",
    "backup": "--all-versions --config --json --set --with-stream-log out",
    "restore": "--config --json --set backup",
    "promote": "--config --json --set version",
    "rollback": "--config --json --set version",
    "tasks list": "--config --json --set",
    "tasks retry": "--config --json --set number",
    "dead-letters list": "--after --config --json --limit --set",
    "dead-letters requeue": "--all --config --json --set numbers",
    "config show": "--config --json --set",
    "doctor": "--config --json --set",
    "version": "--json",
}
HEAVY = ("torch", "numpy", "structlog", "yaml", "PIL")


@pytest.fixture
def teacherd(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> CommandLine:
    """Run verbs in an empty folder, as a new user does."""
    monkeypatch.chdir(tmp_path)
    return CommandLine(capsys)


def verbs(command: typer.main.TyperGroup | click.Command, name: str = "") -> Iterator[tuple]:
    """Yield each verb's full name and the names of its parameters."""
    inner = getattr(command, "commands", None)
    if inner is None:
        names = [max(each.opts, key=len) for each in command.params]
        yield name, " ".join(sorted(names))
        return
    for each, below in inner.items():
        yield from verbs(below, f"{name} {each}".strip())


def test_the_verbs_and_their_options_are_these() -> None:
    """Scripts rely on them: a change here is a change for users."""
    assert VERBS == dict(verbs(typer.main.get_command(app)))


@pytest.mark.parametrize("verb", ["", "config", "versions", "dead-letters", "tasks", *VERBS])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_verb_explains_itself(teacherd: CommandLine, verb: str, flag: str) -> None:
    """With a usage line and a word about each option, on stdout."""
    answer = teacherd(*verb.split(), flag)

    assert 0 == answer.code
    assert f"Usage: teacherd {verb}".strip() in answer.out
    assert "" == answer.err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["run", "--nonsense"], "No such option: --nonsense"),
        (["adopt", "weights.pt"], "Missing option '--network'"),
        (["produce"], "Missing argument"),
        (["produce", "digits", "--limit", "0"], "--limit"),
        (["produce", "digits", "--rate", "-1"], "--rate"),
        (["produce", "digits", "--shuffle-seed", "-1"], "--shuffle-seed"),
        (["pretrain", "digits", "--epochs", "0"], "--epochs"),
        (["pretrain", "digits", "--seed", "-1"], "--seed"),
        (["demo", "--seed", "-1"], "--seed"),
        (["demo", "--seconds", "0"], "--seconds"),
        (["demo", "--drift", "melt"], "--drift"),
        (["versions", "show", "first"], "number"),
        (["dead-letters", "list", "--limit", "0"], "--limit"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(
    teacherd: CommandLine, arguments: list[str], reason: str
) -> None:
    """Exit 2, the flag named, stdout empty."""
    answer = teacherd(*arguments)

    assert 2 == answer.code
    assert reason in answer.err
    assert "" == answer.out
    assert "Traceback" not in answer.err


@pytest.mark.parametrize(
    "verb",
    [
        "validate",
        "run",
        "produce digits",
        "serve",
        "status",
        "versions list",
        "versions show 1",
        "versions diff",
        "versions verify",
        "dead-letters list",
        "dead-letters requeue --all",
        "config show",
        "doctor",
    ],
)
def test_every_verb_that_needs_a_configuration_says_so(teacherd: CommandLine, verb: str) -> None:
    """Exit 78 with the file that was looked for."""
    answer = teacherd(*verb.split())

    assert 78 == answer.code
    assert "--config: config.yaml: No such file or directory" in answer.err
    assert "" == answer.out


@pytest.mark.parametrize(
    "verb",
    [
        "serve http://127.0.0.1:1/public --set serving.port=-1",
        "produce digits --to kafka://127.0.0.1:1/topic --set serving.port=-1",
    ],
)
def test_a_verb_that_is_told_where_needs_no_file(teacherd: CommandLine, verb: str) -> None:
    """Only the flag is wrong here; a file that is named must be there all the same."""
    without, named = teacherd(*verb.split()), teacherd(*verb.split(), "--config", "mine.yaml")

    assert (78, 78) == (without.code, named.code)
    assert "serving.port: -1" in without.err
    assert "--config" not in without.err
    assert "--config: mine.yaml: No such file" in named.err


def test_the_environment_names_the_file_where_no_flag_does(
    teacherd: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container: every verb finds it; one that is told where still needs none."""
    settings = tmp_path / "settings.yaml"
    settings.write_text("tasks: {instances: 700}")
    monkeypatch.setenv("TEACHERD_CONFIG", str(settings))
    found = teacherd("config", "show", "--json")
    settings.unlink()
    missing = teacherd("config", "show")
    serving = teacherd("serve", "http://127.0.0.1:1/public", "--set", "serving.port=-1")

    assert 700 == found.json["tasks"]["instances"]
    assert f"--config: {settings}: No such file" in missing.err
    assert "serving.port: -1" in serving.err
    assert "--config" not in serving.err


@pytest.mark.parametrize(
    ("arguments", "code"), [(["--help"], 0), (["version", "--json"], 0), (["run", "--nope"], 2)]
)
def test_what_needs_no_tensors_answers_without_importing_them(
    arguments: list[str], code: int
) -> None:
    """Torch takes seconds to import; help, version and typing errors must not wait for it."""
    script = (
        "import sys, json\n"
        "from teacherd.daemon.__main__ import main\n"
        "try:\n"
        f"    main({arguments!r})\n"
        "except SystemExit as ended:\n"
        f"    heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "    sys.stderr.write('\\n' + json.dumps([ended.code, heavy]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, env=dict(os.environ)
    )

    assert [code, []] == json.loads(done.stderr.splitlines()[-1])
