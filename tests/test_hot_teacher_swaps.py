"""Tests of HotTeacher's swaps: answers and memory while versions come one after the other."""

import asyncio
import dataclasses
import gc
import os
import shutil
import threading
import time
import weakref
from pathlib import Path

import psutil
import pytest
import torch
from served_networks import BATCH, MLP, MODES, publish_mlp, started
from torch import nn
from versions import Paired, point, publish

from teacherd.models.artifact import WEIGHTS, read_manifest, version_folder
from teacherd.models.backbone import build_backbone
from teacherd.models.current_pointer import CurrentPointer
from teacherd.models.hot_teacher import HotTeacher
from teacherd.models.prediction import Prediction
from teacherd.models.serving_slot import Mode


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> Mode:
    """Each way of swapping."""
    return request.param


def test_a_swap_for_which_there_is_no_memory_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At growing intervals, though no file changes; where a head is wider, a copy needs room."""
    clock = [0.0]
    publish(tmp_path, 1)
    with started(tmp_path, mode="in_place", monotonic=lambda: clock[0]) as teacher:
        copy_over = teacher._slot._copy_over

        def fail(_candidate: object) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory")

        monkeypatch.setattr(teacher._slot, "_copy_over", fail)
        publish(tmp_path, 2)
        looks, failures = [], []
        for seconds in (0.0, 3599.0, 1.0, 299.0, 1.0):
            clock[0] += seconds
            looks.append(teacher.refresh())
            failures.append(teacher.stats.failures.get("internal", 0))
        monkeypatch.setattr(teacher._slot, "_copy_over", copy_over)
        clock[0] += 300.0

        assert ([False] * 5, [1, 1, 2, 2, 3]) == (looks, failures)
        assert 1 == teacher.predict(BATCH).version
        assert (True, 2) == (teacher.refresh(), teacher.predict(BATCH).version)


@pytest.mark.parametrize("version_swapped", MODES)
def test_every_response_is_of_one_version_under_continuous_swaps(
    tmp_path: Path, version_swapped: Mode
) -> None:
    """From many threads: none fails, none is mixed, and no thread sees time run backwards."""
    publish(tmp_path, 1)
    done = threading.Event()
    problems: list[str] = []
    seen: set[int] = set()
    teacher = started(tmp_path, mode=version_swapped)

    def predict() -> None:
        latest = 0
        while not done.is_set():
            try:
                prediction = teacher.predict(BATCH)
            except Exception as error:  # noqa: BLE001 - any failure is what is looked for
                problems.append(repr(error))
                continue
            expected = torch.tensor([[prediction.version / 1000, 0, 0]] * 2).softmax(1)
            if not torch.equal(expected, prediction.probabilities):
                problems.append(f"version {prediction.version}: {prediction.probabilities}")
            if prediction.version < latest:
                problems.append(f"version {prediction.version} after {latest}")
            latest = prediction.version
            seen.add(latest)

    threads = [threading.Thread(target=predict) for _ in range(4)]
    for thread in threads:
        thread.start()
    swapped = 0
    for version in range(2, 42):
        publish(tmp_path, version)
        swapped += teacher.refresh()
        while version not in seen and not problems:
            time.sleep(0.001)
    done.set()
    for thread in threads:
        thread.join()
    teacher.close()

    assert [] == problems
    assert 40 == swapped
    assert set(range(2, 42)) <= seen


def test_an_event_loop_goes_on_while_it_predicts(tmp_path: Path, mode: Mode) -> None:
    """Start, predictions and end are awaited; many at once are answered."""
    publish(tmp_path, 1)

    async def ask() -> list[Prediction]:
        async with HotTeacher(tmp_path, mode=mode, network=Paired) as teacher:
            return await asyncio.gather(*(teacher.predict_async(BATCH) for _ in range(20)))

    assert [1] * 20 == [prediction.version for prediction in asyncio.run(ask())]


def test_memory_does_not_grow_over_a_thousand_swaps(tmp_path: Path, mode: Mode) -> None:
    """A thousand versions of a seventh of a megabyte come and go."""
    process = psutil.Process()
    wide = dataclasses.replace(MLP, arguments={"width": 180})
    publish_mlp(tmp_path, 0, build_backbone(wide, num_classes=3), architecture=wide)
    first = version_folder(tmp_path, 0)
    manifest = read_manifest(first)
    with HotTeacher(tmp_path, mode=mode, poll_seconds=3600.0) as teacher:
        for version in range(1, 1001):
            folder = version_folder(tmp_path, version)
            folder.mkdir()
            os.link(first / WEIGHTS, folder / WEIGHTS)
            text = dataclasses.replace(manifest, version=version).to_json()
            (folder / "manifest.json").write_text(text)
            point(tmp_path, CurrentPointer.to(tmp_path, read_manifest(folder)))
            assert teacher.refresh()
            teacher.predict(BATCH)
            if version == 100:
                before = process.memory_info().rss
        gc.collect()

        assert 1000 == teacher.stats.swaps
        # The weights that went through since then are 120 MB.
        assert process.memory_info().rss - before < 16 * 2**20


def test_memory_does_not_grow_with_swaps(tmp_path: Path, mode: Mode) -> None:
    """Versions come and go; at most the served and the staged network stay."""
    process = psutil.Process()
    networks: weakref.WeakSet[nn.Module] = weakref.WeakSet()

    def build(num_classes: int) -> nn.Module:
        network = Paired(num_classes)
        networks.add(network)
        return network

    publish(tmp_path, 0)
    with HotTeacher(tmp_path, network=build, mode=mode, poll_seconds=3600.0) as teacher:
        for version in range(1, 41):
            publish(tmp_path, version)
            assert teacher.refresh()
            teacher.predict(BATCH)
            shutil.rmtree(version_folder(tmp_path, version - 1))
            if version == 10:
                before = process.memory_info().rss
        gc.collect()

        assert len(networks) <= 2
        # The weights that went through since then are twice as much.
        assert process.memory_info().rss - before < 16 * 2**20
