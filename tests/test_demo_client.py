"""The demo's client: predicts until it is told to end, and counts what it saw."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from base_models import NUM_FEATURES, untrained_base
from lineages import NOW, accept_task, open_state

from teacherd.daemon.config import ModelConfig
from teacherd.daemon.opening import open_lineage


@pytest.mark.parametrize("ending", ["end\n", ""])
def test_the_client_predicts_until_it_is_told(tmp_path: Path, ending: str) -> None:
    """A line ends it, and so does the death of the demo, which closes its stdin."""
    state = open_state(tmp_path / "state")
    base = untrained_base(tmp_path)
    open_lineage(ModelConfig(base=str(base)), state, seed=7, now=NOW)
    accept_task(state)
    inputs = np.zeros((5, NUM_FEATURES), np.float32)
    np.savez(tmp_path / "inputs.npz", inputs=inputs)
    command = [sys.executable, "-m", "teacherd.daemon.demo_client"]
    done = subprocess.run(
        [*command, str(tmp_path / "state" / "public"), str(tmp_path / "inputs.npz")],
        check=True,
        input=ending,
        capture_output=True,
        text=True,
        timeout=300,
    )
    state.close()
    report = json.loads(done.stdout)

    assert {"predictions", "failed_predictions", "swaps", "versions_served"} == set(report)
    assert 0 == report["failed_predictions"]
    assert 0 == report["swaps"]
    assert report["versions_served"] in ([], [1])
