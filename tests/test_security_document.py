""".github/SECURITY.md: what it says is held, tests hold; and secrets stay inside."""

import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from assemblies import bad_record, feature_records, make_bench
from daemon_process import DaemonProcess

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / ".github" / "SECURITY.md").read_text(encoding="utf-8")
THREATS = ("Poisoned labels", "Poisoned payloads", "Hostile artifacts", "Open endpoints", "Secrets")
SECRETS = {
    "token": "token-f00dfeed",
    "admin": "admin-f00dfeed",
    "password": "sasl-f00dfeed",
    "hook": "hook-f00dfeed",
}


def test_every_threat_says_what_is_held_and_what_is_not() -> None:
    """Under each heading at least one test, and an honest rest."""
    for threat in THREATS:
        (text,) = re.findall(rf"^### {threat}\n(.*?)(?=^##|\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)

        assert "`tests/test_" in text, threat
        assert "**Not held:**" in text, threat


def test_each_line_that_claims_names_what_holds_it() -> None:
    """Files that are there; a line without one must say that it is not held, or where to look."""
    lines = re.findall(r"^- (.*)$", DOCUMENT.partition("## Threats")[2], re.MULTILINE)
    for line in lines:
        named = re.findall(r"`((?:tests|benchmarks|\.ci)/[\w./]+)`", line)

        assert named or line.startswith("**Not held:**"), line
        assert [] == [name for name in named if not (ROOT / name).exists()], line


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    """Give a daemon that has one secret of each kind; leave none behind."""
    for name in ("token", "admin"):
        (tmp_path / name).write_text(SECRETS[name], encoding="utf-8")
    bench = make_bench(
        tmp_path,
        endpoints={
            "port": 0,
            "accept_instances": True,
            "token_file": str(tmp_path / "token"),
            "admin_token_file": str(tmp_path / "admin"),
        },
        logging={"format": "json", "level": "debug"},
        kafka={"sasl_username": "me", "sasl_password": SECRETS["password"]},
        notifications={
            "webhook_url": f"http://127.0.0.1:9/{SECRETS['hook']}",
            "events": ["promoted"],
        },
    )
    bench.append([*feature_records(12), bad_record()])
    process = DaemonProcess(tmp_path, bench.settings)
    yield process
    process.close()


@pytest.mark.slow
def test_no_secret_leaves_the_process(daemon: DaemonProcess, tmp_path: Path) -> None:
    """Neither in the log at its most talkative, nor in what it writes, answers or shows."""
    daemon.start()
    daemon.wait_for_tasks(1)
    daemon.wait_until(lambda: bool(daemon.events("notification_failed")))
    answers = [daemon.get(path)[1] for path in ("/status", "/metrics", "/history", "/")]
    url = f"http://127.0.0.1:{daemon.port}/v1/commands"
    request = urllib.request.Request(url, data=b"{}", method="POST")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=60)  # noqa: S310 (http, see above)
    answers.append(refused.value.read())
    refused.value.close()
    shown = verb(daemon, "config", "show", "--json")
    backup = tmp_path / "backup"
    verb(daemon, "backup", str(backup), "--json")
    daemon.stop()
    files = [path for folder in (daemon.state, backup) for path in folder.rglob("*")]
    written = [path.read_bytes() for path in files if path.is_file()]

    for secret in SECRETS.values():
        assert secret not in daemon.log_text()
        assert secret.encode() not in b"".join(answers)
        assert secret not in shown
        assert secret.encode() not in b"".join(written)
    assert "***" == json.loads(shown)["kafka"]["sasl_password"]


def verb(daemon: DaemonProcess, *arguments: str) -> str:
    """Run a verb on the daemon's configuration and return what it prints."""
    command: list[Any] = [sys.executable, "-m", "teacherd.daemon", *arguments]
    done = subprocess.run(
        [*command, "--config", str(daemon.config_path)],
        check=True,
        capture_output=True,
        cwd=daemon.directory,
        text=True,
    )
    return done.stdout + done.stderr
