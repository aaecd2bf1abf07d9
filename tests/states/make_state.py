"""Makes the state directory that a release leaves behind: run it with the release's own code.

`python tests/states/make_state.py tests/states/0.1.0` writes `lineage.tar.xz` (settings.json,
state/ and stream.db of a daemon killed inside its fourth task) and `continued.json` (what the same
code made of it afterwards). Later versions of teacherd open, upgrade, continue and replay it.
"""

import json
import shutil
import sys
import tarfile
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

import numpy as np
import torch
from base_models import digits
from forked_daemon import ForkedDaemon

from teacherd.consumers.producing import NPY, build_record, encode_npy, encode_png
from teacherd.consumers.stream_log import StreamLog, StreamLogConfig
from teacherd.daemon.base_training import train_base
from teacherd.daemon.pretraining import PretrainConfig

NUM_TASKS = 5
TASK_INSTANCES = 20
NUM_RECORDS = (46, 68, 115)
"""After two tasks, three, five, and some more."""
PACKED = ("settings.json", "state", "stream.db")


def main(out: Path) -> None:
    """Make the two files of one release."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        make_base(directory)
        run_and_kill(directory)
        pack(directory, out / "lineage.tar.xz")
        outcomes = finish(directory)
    (out / "continued.json").write_text(json.dumps(outcomes, indent=1) + "\n", encoding="utf-8")


def make_base(directory: Path) -> None:
    """Train a network of some hundred weights on digits."""
    data = digits()
    train_base(
        data.take(np.arange(300)),
        held_out=data.take(np.arange(300, 400)),
        network="small_cnn",
        arguments={"width": 2},
        config=PretrainConfig(epochs=3, learning_rate=0.01),
        seed=0,
        device=torch.device("cpu"),
        out=directory / "base",
        on_epoch=lambda _epoch: None,
    )


def append(directory: Path, start: int, end: int) -> None:
    """Append digits as arrays and as PNG, every tenth record being none."""
    data = digits()
    log = StreamLog(StreamLogConfig(path=str(directory / "stream.db")))
    for place in range(start, end):
        image, label = data.inputs[500 + place], int(data.labels[500 + place])
        if place % 10 == 9:
            record = build_record(b"no array", content_type=NPY, label=label)
        elif place % 2:
            record = build_record(encode_png(image), content_type="image/png", label=label)
        else:
            record = build_record(encode_npy(image), content_type=NPY, label=label)
        log.append([record])
    log.close()


def settings(directory: Path, epochs: int) -> dict[str, Any]:
    """Return the settings; every path lies below the directory."""
    return {
        "model": {"base": str(directory / "base")},
        "process": {"state_directory": str(directory / "state"), "num_threads": 1},
        "stream_log": {"path": str(directory / "stream.db"), "retention_hours": None},
        "tasks": {"instances": TASK_INSTANCES, "min_instances": 1},
        "learning": {
            "epochs": epochs,
            "batch_size": 8,
            "consolidation": {"freezing_epochs": 2, "interval_epochs": 2},
        },
        "checkpoints": {"interval_seconds": 0.001, "keep": 2},
        "endpoints": {"port": 0},
        "logging": {"format": "json"},
    }


def run_and_kill(directory: Path) -> None:
    """Learn two tasks, a third with other settings, and die inside the fourth."""
    append(directory, 0, NUM_RECORDS[0])
    assert ForkedDaemon(settings(directory, 6), directory).run_until_tasks(2) == 0
    append(directory, NUM_RECORDS[0], NUM_RECORDS[1])
    daemon = ForkedDaemon(settings(directory, 4), directory)
    assert daemon.run_until_tasks(3) == 0
    append(directory, NUM_RECORDS[1], NUM_RECORDS[2])
    daemon.start("checkpoint.renamed:3")
    assert daemon.wait() < 0
    assert (4, 3) == (len(daemon.plans()), len(daemon.outcomes()))


def pack(directory: Path, archive: Path) -> None:
    """Pack what a user would copy to another machine, with paths that hold anywhere."""
    (directory / "settings.json").write_text(json.dumps(settings(Path(), 4), indent=1))
    (directory / "state" / "lock").unlink(missing_ok=True)
    shrink(directory / "stream.db")
    with tarfile.open(archive, "w:xz", preset=9) as packed:
        for name in PACKED:
            packed.add(directory / name, name)


def shrink(path: Path) -> None:
    """Fold the write-ahead log into the file, so that one file is the whole."""
    StreamLog(StreamLogConfig(path=str(path))).close()
    assert not path.with_name("stream.db-wal").exists()


def finish(directory: Path) -> list[dict[str, Any]]:
    """Go on with a copy, as the same release would have, and return the outcomes."""
    copy = directory / "copy"
    copy.mkdir()
    for name in PACKED[1:]:
        (shutil.copytree if name == "state" else shutil.copy)(directory / name, copy / name)
    daemon = ForkedDaemon({**settings(copy, 4)}, copy)
    assert daemon.run_until_tasks(NUM_TASKS) == 0
    return [asdict(outcome) for outcome in daemon.outcomes()]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
