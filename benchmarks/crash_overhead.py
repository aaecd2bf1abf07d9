"""The checkpoints' part of benchmarks/crash.py: what they cost while a large network trains."""

import time
from pathlib import Path

import numpy as np
import torch
from report import progress

from teacherd.daemon.checkpoint import Checkpoint, CheckpointConfig, CheckpointStore
from teacherd.daemon.checkpoint_schedule import CheckpointSchedule
from teacherd.daemon.lineage_log import Pin
from teacherd.models.learner import Learner
from teacherd.models.learner_config import LearnerConfig
from teacherd.models.preprocessing import Preprocessing
from teacherd.models.task import Schedule, Task
from teacherd.models.torchvision_networks import build_torchvision_network


def checkpoint_overhead(directory: Path, device: str, seconds: float) -> float:
    """Train a ResNet-18 and write checkpoints as the daemon does by default; return the ratio."""
    rng = np.random.default_rng(0)
    count = 512
    learner = Learner(
        LearnerConfig(),
        teacher=build_torchvision_network("resnet18", input_shape=(3, 32, 32), num_classes=10),
        preprocessing=Preprocessing(mean=(0.5,) * 3, std=(0.25,) * 3, scale=1 / 255),
        sigma=0.25,
        device=torch.device(device),
    )
    inputs = rng.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
    task = Task(number=1, inputs=inputs, labels=rng.integers(0, 10, count))
    store, schedule = CheckpointStore(directory, keep=3), CheckpointSchedule(CheckpointConfig())
    learner.begin(task, Schedule(seed=0, epochs=1000, learning_rate=0.001))
    started = time.monotonic()
    schedule.begin(started, step=0)
    spent, written = 0.0, 0
    while (now := time.monotonic()) - started < seconds or written == 0:
        learner.step()
        if schedule.is_due(now, learner.num_steps_done):
            before = time.monotonic()
            pinned = Checkpoint(lineage="a", pin=Pin(1, "c"), head=0, task=1)
            size = store.save(pinned, learner.state_dict())
            after = time.monotonic()
            schedule.tried(before, after, learner.num_steps_done)
            spent, written = spent + after - before, written + 1
            progress(f"a checkpoint of {size / 1e6:.0f} MB took {after - before:.2f} s")
    return spent / (time.monotonic() - started - spent)
