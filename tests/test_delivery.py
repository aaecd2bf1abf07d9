"""One delivery, to a real server and to real programs."""

import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from flaky_server import Answer, FlakyServer

from teacherd.daemon.delivery import Command, DeliveryError, Webhook

BODY = b'{"event": "promoted"}'


def never() -> bool:
    """There is time."""
    return False


def after(seconds: float) -> Callable[[], bool]:
    """Return a deadline."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


def python(code: str) -> Command:
    """Return a command that runs a line of Python."""
    return Command([sys.executable, "-S", "-c", code])


def test_a_webhook_gets_the_event_and_the_token() -> None:
    """As JSON, by POST; any 2xx is an arrival."""
    with FlakyServer(lambda _: Answer(status=204)) as server:
        Webhook(f"{server.url}/hook", "secret", timeout_seconds=300).send(BODY, never)

    [asked] = server.asked
    assert "/hook" == asked.path
    assert BODY == asked.body
    assert "application/json" == asked.headers["content-type"]
    assert "Bearer secret" == asked.headers["authorization"]


@pytest.mark.parametrize("status", [301, 307, 400, 429, 500])
def test_any_other_answer_is_none(status: int) -> None:
    """A redirection is not followed either: another host must not get the token."""
    answer = Answer(status=status, headers={"Location": "/elsewhere"})
    with (
        FlakyServer(lambda _: answer) as server,
        pytest.raises(DeliveryError, match=f"^answered {status}$"),
    ):
        Webhook(f"{server.url}/hook", "secret", timeout_seconds=300).send(BODY, never)

    assert ["/hook"] == [asked.path for asked in server.asked]


def test_an_error_does_not_tell_where_to_post() -> None:
    """Nobody listens there; the path is the secret of most webhooks."""
    with FlakyServer(lambda _: Answer()) as server:
        url = f"{server.url}/secret"

    with pytest.raises(DeliveryError) as caught:
        Webhook(url, None, timeout_seconds=300).send(BODY, never)
    assert "refused" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_server_that_never_answers_is_left() -> None:
    """In time, whatever it does; and one thread waits for it at most."""
    release = threading.Event()

    def hang(_: object) -> Answer:
        release.wait(300)
        return Answer()

    with FlakyServer(hang) as server:
        webhook = Webhook(server.url, None, timeout_seconds=300)
        with pytest.raises(DeliveryError, match=r"^no answer in time$"):
            webhook.send(BODY, lambda: bool(server.asked))
        with pytest.raises(DeliveryError, match=r"^the attempt before is still being answered$"):
            webhook.send(BODY, never)
        release.set()

    assert 1 == len(server.asked)


def test_a_command_gets_the_event_on_its_standard_input(tmp_path: Path) -> None:
    """And nothing of the shell: the words are its arguments."""
    out = tmp_path / "$HOME;"
    words = [sys.executable, "-S", "-c", "import sys; open(sys.argv[1], 'w').write(input())"]
    Command([*words, str(out)]).send(BODY, never)

    assert BODY.decode() == out.read_text()


def test_a_command_that_fails_is_told_with_its_last_words() -> None:
    """What it says on stdout is nobody's business."""
    code = "import sys; print('chat'); print('no route', file=sys.stderr); sys.exit(3)"

    with pytest.raises(DeliveryError, match=r"^ended with 3: no route$"):
        python(code).send(BODY, never)


def test_a_command_that_cannot_be_started_is_told(tmp_path: Path) -> None:
    """It may be there again at the next attempt."""
    with pytest.raises(DeliveryError, match=r"^cannot be started: No such file"):
        Command([str(tmp_path / "gone")]).send(BODY, never)


def test_without_room_for_the_event_it_did_not_arrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full or missing /tmp is no reason to end the daemon."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))

    with pytest.raises(DeliveryError, match=r"^cannot be started: No such file"):
        python("pass").send(BODY, never)


def test_a_command_that_runs_as_another_user_is_taken_at_its_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Through sudo, say: the system lets nobody kill what is left of it."""
    monkeypatch.setattr("os.killpg", refuse)
    python("pass").send(BODY, never)

    with pytest.raises(DeliveryError, match=r"^ended with 3$"):
        python("import sys; sys.exit(3)").send(BODY, never)


@pytest.mark.usefixtures("recwarn")  # what is left running is warned of
def test_another_users_command_that_takes_too_long_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the thread would wait for it, and tell nothing more."""
    groups: list[int] = []

    def refuse_and_note(leader: int, number: int) -> None:
        groups.append(leader)
        refuse(leader, number)

    kill = os.killpg
    monkeypatch.setattr("os.killpg", refuse_and_note)

    with pytest.raises(DeliveryError, match=r"^took too long, and is not ours to kill$"):
        python("import time; time.sleep(600)").send(BODY, after(0.2))
    [leader] = groups
    kill(leader, signal.SIGKILL)
    os.waitpid(leader, 0)


def refuse(_leader: int, _number: int) -> None:
    """Be the system, asked by one who may not."""
    raise PermissionError(errno.EPERM, "Operation not permitted")


def test_a_command_that_talks_without_end_is_bounded() -> None:
    """Its words are neither kept nor allowed to block it."""
    code = "import sys\nfor _ in range(3000): sys.stderr.write('x' * 1000)\nsys.exit(1)"

    with pytest.raises(DeliveryError) as caught:
        python(code).send(BODY, after(300))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("ending", ["time.sleep(600)", "sys.exit(0)"])
def test_a_command_leaves_no_process_behind(tmp_path: Path, ending: str) -> None:
    """Neither itself when it takes too long, nor children that outlive it."""
    pid = tmp_path / "pid"
    code = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(pid)!r} + '.part', 'w').write(str(child.pid))\n"
        f"os.rename({str(pid)!r} + '.part', {str(pid)!r})\n"
        f"{ending}"
    )

    def is_over() -> bool:
        return pid.exists() and "sleep" in ending

    if "sleep" in ending:
        with pytest.raises(DeliveryError, match=r"^took too long and was killed$"):
            python(code).send(BODY, is_over)
    else:
        python(code).send(BODY, is_over)
    assert has_ended(int(pid.read_text()))


def has_ended(pid: int) -> bool:
    """Wait until a process that is not ours is gone, or a corpse that nobody has fetched yet."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.02)
    return False
