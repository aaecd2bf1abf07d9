#!/usr/bin/env python3
"""Boot a real systemd in a container of its own, and put the unit through what can happen to it.

Needs root, Debian's mmdebstrap and systemd-container, and uv:

    sudo python3 deploy/systemd/try_in_container.py --root /var/tmp/teacherd-root

Installs this checkout into the container, streams the handwritten digits into it, and prints what
each trial showed; the last line is a JSON object of the figures. Exits 1 at the first that fails.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
SOURCES = "/etc/apt/sources.list.d/debian.sources"
STATUS = "http://127.0.0.1:19464/status"
TEACHERD = "/opt/teacherd/bin/teacherd"
STATE = "/var/lib/teacherd"
RECORDS_AT_ONCE = 100
REBOOT = 133
"""Exit code of systemd-nspawn, which leaves the starting again to whoever started it."""

SETTINGS = """\
model: {base: base}
endpoints: {port: 19464, liveness_seconds: 10}
tasks: {instances: 50, min_instances: 10}
learning: {epochs: 10}
logging: {format: json}
decoding: {decoder: "hanging:decode"}
"""
# A user's decoder that never returns while a file is there: a hung thread as they come.
DECODER = f"""\
import io, time
from pathlib import Path
import numpy as np

def decode(record):
    while Path("{STATE}/hang").exists():
        time.sleep(0.1)
    headers = dict(record.headers)
    return np.load(io.BytesIO(record.value), allow_pickle=False), headers["label"].decode()
"""
# Only so that the trial takes minutes, not an hour.
DROP_IN = """\
[Service]
WatchdogSec=10
RestartSec=1
Environment=PYTHONPATH=/opt/hanging
"""


class Container:
    """A booted Debian with systemd as its first process."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._nspawn: subprocess.Popen[bytes] | None = None

    def build(self) -> None:
        """Make the file system, with teacherd and its service in it."""
        if not (self.root / "usr/lib/systemd/systemd").exists():
            packages = "systemd,systemd-sysv,dbus,python3"
            run(
                "mmdebstrap",
                "--variant=minbase",
                f"--include={packages}",
                "bookworm",
                str(self.root),
                SOURCES,
            )
        wanted = "etc/systemd/system/multi-user.target.wants/teacherd.service"
        (self.root / wanted).unlink(missing_ok=True)
        for stale in ("opt/teacherd", "opt/hanging", "var/lib/teacherd", "etc/teacherd"):
            shutil.rmtree(self.root / stale, ignore_errors=True)
        environment = self.root / "opt/teacherd"
        run("uv", "venv", "--quiet", "--relocatable", "--python", "/usr/bin/python3", environment)
        python = environment / "bin/python"
        run("uv", "pip", "install", "--quiet", "--python", python, f"{CHECKOUT}[demo]")
        executable = environment / "bin/teacherd"
        run(executable, "install", "--systemd", "--prefix", self.root, "--executable", TEACHERD)
        self._write("opt/hanging/hanging.py", DECODER)
        self._write("etc/teacherd/config.yaml", SETTINGS)
        self._write("etc/systemd/system/teacherd.service.d/trial.conf", DROP_IN)
        self._write("etc/teacherd/teacherd.env", "TEACHERD_PROCESS__NUM_THREADS=1\n")
        base = self.root / "var/lib/teacherd/base"
        run(executable, "pretrain", "digits", "--epochs", "5", "--out", base)

    @contextmanager
    def booted(self) -> Iterator[None]:
        """Boot it, and switch it off afterwards."""
        try:
            self._nspawn = self._boot()
            yield
        finally:
            if self._nspawn is not None:
                self._nspawn.terminate()
                self._nspawn.wait(60)

    def reboot(self) -> None:
        """Let it go down by itself, and come up again."""
        assert self._nspawn is not None, "not booted"
        self.run("systemctl", "reboot", check=False)
        code = self._nspawn.wait(120)
        expect(code == REBOOT, f"the container asks for a reboot, not {code}")
        self._nspawn = self._boot()

    def _boot(self) -> "subprocess.Popen[bytes]":
        nspawn = self._nspawn = subprocess.Popen(
            [
                *("systemd-nspawn", "--quiet", "-D", str(self.root), "--register=no"),
                *("--keep-unit", "--console=pipe", "-b"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: self._leader() is not None, "the container to start")
        booted = ("running", "degraded")
        wait_until(
            lambda: self.run("systemctl", "is-system-running", check=False) in booted, "boot"
        )
        return nspawn

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command inside as root, and return what it wrote."""
        leader = self._leader()
        if leader is None:
            return ""
        done = subprocess.run(
            ["nsenter", "-t", str(leader), "-m", "-u", "-i", "-p", "-C", *command],
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode:
            fail(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout.strip()

    def show(self, name: str) -> str:
        """Return a property of the service."""
        return self.run("systemctl", "show", "--value", "-p", name, "teacherd")

    def configure(self, settings: str) -> None:
        """Replace the configuration."""
        (self.root / "etc/teacherd/config.yaml").write_text(settings, encoding="utf-8")

    def produce(self, seed: int) -> None:
        """Append records as the service's own user."""
        self.run(
            *("runuser", "-u", "teacherd", "--", "env", f"--chdir={STATE}"),
            *(TEACHERD, "produce", "digits", "--limit", str(RECORDS_AT_ONCE)),
            *("--shuffle-seed", str(seed), "--config", "/etc/teacherd/config.yaml"),
        )

    def journal(self) -> str:
        """Return what the service and systemd have said about it."""
        return self.run("journalctl", "-u", "teacherd", "-o", "cat", "--no-pager", check=False)

    def _leader(self) -> int | None:
        """Return the number that the container's first process has outside."""
        assert self._nspawn is not None, "not booted"
        if self._nspawn.poll() is not None:
            fail(f"systemd-nspawn ended with {self._nspawn.returncode}")
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text()
        inner = [child for child in children.split() if _name(child) == "systemd"]
        return int(inner[0]) if inner else None

    def _write(self, place: str, text: str) -> None:
        path = self.root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _name(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


class Trial:
    """What is done to the service, in order, and what it showed."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._produced = 0
        self.figures: dict[str, float] = {}

    def start(self) -> None:
        """`systemctl start` returns when READY=1 has come."""
        began = time.monotonic()
        self._container.run("systemctl", "enable", "--now", "teacherd")
        self.figures["seconds_to_ready"] = round(time.monotonic() - began, 1)
        told = self._container.show("StatusText")
        say(f"ready after {self.figures['seconds_to_ready']} s; it says: {told}")
        self._learn_more()

    def hang(self) -> None:
        """A thread that does not come back: the watchdog, a restart, nothing lost."""
        flag = self._container.root / STATE.removeprefix("/") / "hang"
        restarts = self._restarts()
        flag.touch()
        began = time.monotonic()
        self._produce()
        wait_until(lambda: self._restarts() > restarts, "the watchdog", seconds=180)
        self.figures["seconds_until_watchdog"] = round(time.monotonic() - began, 1)
        flag.unlink()
        self._wait_until_learned()
        expect("in decode" in self._container.journal(), "the journal says where the thread hung")
        say(f"hung thread: restarted after {self.figures['seconds_until_watchdog']} s, goes on")

    def kill(self) -> None:
        """Kill -9: restarted, goes on."""
        restarts = self._restarts()
        self._produce()
        self._container.run("systemctl", "kill", "-s", "KILL", "teacherd")
        wait_until(lambda: self._restarts() > restarts, "the restart")
        self._wait_until_learned()
        say("kill -9: restarted, goes on")

    def reload(self) -> None:
        """A good file is taken over, a bad one refused; the process is the same in both cases."""
        pid = self._container.show("MainPID")
        self._container.configure(SETTINGS.replace("epochs: 10", "epochs: 8"))
        self._container.run("systemctl", "reload", "teacherd")
        wait_until(lambda: "reloaded" in self._last_events(), "the reload")
        self._container.configure(SETTINGS.replace("epochs: 10", "epochs: many"))
        self._container.run("systemctl", "reload", "teacherd")
        wait_until(lambda: "reload_refused" in self._last_events(), "the refusal")
        refused = fetch_status()["config"]["reload_refused"]
        expect("learning.epochs" in refused, f"the refusal names the key: {refused}")
        expect(pid == self._container.show("MainPID"), "the process is the same")
        say(f"reload: good file taken over, bad one refused: {refused.splitlines()[-1].strip()}")

    def misconfigure(self) -> None:
        """Exit 78 is final."""
        self._container.run("systemctl", "restart", "teacherd", check=False)
        wait_until(lambda: self._container.show("ActiveState") == "failed", "the failure")
        time.sleep(5)  # five times RestartSec
        expect(self._container.show("ActiveState") == "failed", "it is not started again")
        code = self._container.show("ExecMainStatus")
        expect(code == "78", f"exit code 78, not {code}")
        self._container.configure(SETTINGS)
        self._container.run("systemctl", "reset-failed", "teacherd")
        self._container.run("systemctl", "start", "teacherd")
        self._wait_until_learned()
        say("wrong configuration: exit 78, not started again; started by hand when mended")

    def stop(self) -> None:
        """`systemctl stop` in the middle of work ends within its deadline."""
        self._container.configure(SETTINGS.replace("epochs: 10", "epochs: 300"))
        self._container.run("systemctl", "restart", "teacherd")
        self._produce()
        wait_until(
            lambda: fetch_status().get("task", {}).get("steps_done", 0) > 0, "a task in training"
        )
        began = time.monotonic()
        self._container.run("systemctl", "stop", "teacherd")
        self.figures["seconds_to_stop"] = round(time.monotonic() - began, 1)
        result = self._container.show("Result")
        expect(result == "success", f"Result=success, not {result}")
        say(f"stop inside a task: {self.figures['seconds_to_stop']} s, Result={result}")
        self._container.configure(SETTINGS)
        self._container.run("systemctl", "start", "teacherd")
        self._wait_until_learned()

    def reboot(self) -> None:
        """The container goes down and comes up: the service with it."""
        self._produce()
        self._container.reboot()
        self._wait_until_learned()
        say("reboot: up again by itself, goes on")

    def count(self) -> None:
        """Every record was learned once, and every version is what the log says."""
        learned = self._learned()
        expect(learned == self._produced, f"{self._produced} produced, {learned} learned")
        self._container.run(
            *("runuser", "-u", "teacherd", "--", "env", f"--chdir={STATE}"),
            *(TEACHERD, "versions", "verify", "--config", "/etc/teacherd/config.yaml"),
        )
        self.figures |= {"produced": self._produced, "learned": learned}
        say(f"{self._produced} records produced, {learned} learned; every version verified")

    def _learn_more(self) -> None:
        self._produce()
        self._wait_until_learned()

    def _produce(self) -> None:
        self._container.produce(seed=self._produced)
        self._produced += RECORDS_AT_ONCE

    def _wait_until_learned(self) -> None:
        wait_until(lambda: self._learned() >= self._produced, "the records to be learned")

    def _learned(self) -> int:
        # A place is the next record's, and the stream log counts from 1.
        places = fetch_status().get("lineage", {}).get("places", {})
        return sum(place - 1 for place in places.values())

    def _restarts(self) -> int:
        return int(self._container.show("NRestarts") or 0)

    def _events(self, name: str) -> list[str]:
        return [
            line for line in self._container.journal().splitlines() if f'"event": "{name}"' in line
        ]

    def _last_events(self) -> str:
        return "\n".join(self._container.journal().splitlines()[-5:])


def fetch_status() -> dict[str, Any]:
    """Return /status, or nothing while nobody answers."""
    try:
        with urllib.request.urlopen(STATUS, timeout=5) as got:
            answer: dict[str, Any] = json.load(got)
            return answer
    except OSError:
        return {}


def wait_until(condition: Callable[[], bool], what: str, *, seconds: float = 120) -> None:
    """Wait for a condition, and end the trial if it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            fail(f"waited {seconds} s in vain for {what}")
        time.sleep(0.2)


def expect(is_so: bool, what: str) -> None:  # noqa: FBT001 (reads as a sentence)
    """End the trial unless something is so."""
    if not is_so:
        fail(f"expected: {what}")


def run(*command: str | Path) -> None:
    """Run a command outside."""
    subprocess.run([str(each) for each in command], check=True)


def say(line: str) -> None:
    """Tell people, and leave stdout to the figures."""
    print(line, file=sys.stderr, flush=True)


def fail(reason: str) -> None:
    """End the trial."""
    raise SystemExit(f"FAILED: {reason}")


def main() -> None:
    """Build, boot, and try it all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="folder of the container; kept")
    container = Container(parser.parse_args().root)
    container.build()
    trial = Trial(container)
    steps = (
        trial.start,
        trial.hang,
        trial.kill,
        trial.reload,
        trial.misconfigure,
        trial.stop,
        trial.reboot,
        trial.count,
    )
    with container.booted():
        try:
            for step in steps:
                step()
        except SystemExit:
            say(container.journal()[-5000:])
            raise
    print(json.dumps(trial.figures))


if __name__ == "__main__":
    main()
