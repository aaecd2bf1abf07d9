"""Two hosts for real, as far as one machine has them: two network namespaces, and a link to cut."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from two_hosts import NotPermittedError, TwoHosts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
TRIAL = Path(__file__).parent / "support" / "two_hosts_trial.py"


def test_a_link_cut_inside_a_task_and_mended_loses_nothing() -> None:
    """The task that was planned is finished, and every record is in exactly one plan."""
    try:
        with TwoHosts():
            pass
    except NotPermittedError as error:
        pytest.skip(str(error))
    done = subprocess.run([sys.executable, str(TRIAL)], capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])

    assert 0 == found["not_exactly_once"]
    assert found["plans"] == found["tasks"]
    assert found["closed_while_cut"] < found["unfinished_when_cut"] + 2
    assert ["accepted"] == found["results"]
