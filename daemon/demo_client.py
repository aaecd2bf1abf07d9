"""The demo's third process: serves predictions with HotTeacher all the while, never restarted.

Run as `python -m teacherd.daemon.demo_client ROOT INPUTS`; reads a line on stdin to end, and then
prints one JSON object with what it saw.
"""

import json
import select
import sys
from pathlib import Path

import numpy as np
import torch

from teacherd.models.hot_teacher import HotTeacher

_BATCH_SIZE = 16
_PAUSE_SECONDS = 0.01


def serve(root: Path, inputs_path: Path) -> dict[str, object]:
    """Predict batch after batch until a line comes in; count predictions, failures, swaps."""
    with np.load(inputs_path, allow_pickle=False) as arrays:
        inputs = arrays["inputs"]
    torch.set_num_threads(1)  # the daemon learns beside us on the same cores
    predictions, failures, versions = 0, 0, set()
    with HotTeacher(root, poll_seconds=0.2) as teacher:
        start = 0
        while not select.select([sys.stdin], [], [], _PAUSE_SECONDS)[0]:
            batch = inputs[start : start + _BATCH_SIZE]
            start = (start + _BATCH_SIZE) % len(inputs)
            try:
                prediction = teacher.predict(batch)
                versions.add(prediction.version)
                is_whole = len(prediction.labels) == len(batch)
            except Exception as error:  # noqa: BLE001 (any failure is what this process counts)
                sys.stderr.write(f"prediction failed: {error}\n")
                is_whole = False
            predictions += 1
            failures += not is_whole
        swaps = teacher.stats.swaps
    return {
        "predictions": predictions,
        "failed_predictions": failures,
        "swaps": swaps,
        "versions_served": sorted(versions),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(serve(Path(sys.argv[1]), Path(sys.argv[2]))) + "\n")
