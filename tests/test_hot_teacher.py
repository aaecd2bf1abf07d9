"""Tests of HotTeacher: it serves the current version, follows it, and says how it does."""

import dataclasses
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from served_networks import BATCH, MLP, MODES, publish_mlp, started
from torch import nn
from versions import CREATED_AT, Paired, point, publish

from teacherd.models.artifact import Manifest
from teacherd.models.backbone import BackboneConfig, build_backbone
from teacherd.models.hot_teacher import HotTeacher, NoTeacherError
from teacherd.models.preprocessing import Preprocessing
from teacherd.models.serving_slot import Mode


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> Mode:
    """Each way of swapping."""
    return request.param


def test_it_serves_the_current_version_and_follows_it(tmp_path: Path, mode: Mode) -> None:
    """The first version serves at once, the next after one look; other looks do nothing."""
    publish(tmp_path, 1)
    with started(tmp_path, mode=mode) as teacher:
        first = teacher.predict(BATCH)
        looks = [teacher.refresh()]
        publish(tmp_path, 2)
        looks += [teacher.refresh(), teacher.refresh()]
        second = teacher.predict(BATCH)

        assert [False, True, False] == looks
        assert (1, 2, 2) == (first.version, second.version, teacher.version)
        assert (1, ("a", "b", "c")) == (second.epoch, second.classes)
        assert ("a", "a") == second.labels
        expected = torch.tensor([[0.002, 0, 0]] * 2).softmax(1)
        assert torch.equal(expected, second.probabilities)
        assert (1, {}) == (teacher.stats.swaps, dict(teacher.stats.failures))


def test_raw_images_are_normalised_as_the_manifest_says(tmp_path: Path, mode: Mode) -> None:
    """A network by manifest alone gives what it gives by hand, from array or tensor."""
    architecture = BackboneConfig(name="small_cnn", input_shape=(1, 8, 8))
    network = build_backbone(architecture, num_classes=3).eval()
    preprocessing = Preprocessing(mean=(0.3,), std=(0.2,), scale=1 / 255)
    publish(tmp_path, 5, network=network, architecture=architecture, preprocessing=preprocessing)
    images = np.random.default_rng(0).integers(0, 256, (6, 1, 8, 8), dtype=np.uint8)
    images.flags.writeable = False
    with torch.no_grad():
        inputs = preprocessing.apply(torch.from_numpy(images.copy()))
        expected = network(inputs).softmax(1)

    with HotTeacher(tmp_path, mode=mode) as teacher:
        from_array = teacher.predict(images)
        from_reversed = teacher.predict(images[::-1])
        from_tensor = teacher.predict(torch.from_numpy(images.copy()))

    assert torch.equal(expected, from_array.probabilities)
    assert torch.equal(expected, from_tensor.probabilities)
    assert torch.allclose(expected.flip(0), from_reversed.probabilities)
    assert tuple("abc"[k] for k in expected.argmax(1)) == from_array.labels


def test_inputs_of_another_shape_are_refused_and_harm_nothing(tmp_path: Path, mode: Mode) -> None:
    """One instance without its batch dimension is an error of the caller, not of the teacher."""
    publish(tmp_path, 1)
    with started(tmp_path, mode=mode) as teacher:
        with pytest.raises(ValueError, match="add the batch dimension"):
            teacher.predict(BATCH[0])
        publish(tmp_path, 2)

        assert teacher.refresh()


def test_the_pointer_written_again_is_no_news(tmp_path: Path) -> None:
    """A daemon that restarts may rewrite current with what it said: no swap, no failure."""
    pointer = publish(tmp_path, 1)
    with started(tmp_path) as teacher:
        point(tmp_path, pointer)

        assert not teacher.refresh()
        assert {} == dict(teacher.stats.failures)


def test_a_higher_epoch_wins_over_a_higher_version(tmp_path: Path) -> None:
    """After a restore from backup the versions begin lower again, under the next epoch."""
    publish(tmp_path, 7)
    with started(tmp_path) as teacher:
        publish(tmp_path, 3, epoch=2)

        assert teacher.refresh()
        assert (2, 3) == (teacher.predict(BATCH).epoch, teacher.version)


def test_another_network_and_other_classes_come_in_too(tmp_path: Path, mode: Mode) -> None:
    """A version need not be of the kind of the one before."""
    publish_mlp(tmp_path, 1)
    wider = dataclasses.replace(MLP, arguments={"width": 16})
    network = build_backbone(wider, num_classes=4)
    with HotTeacher(tmp_path, mode=mode, poll_seconds=3600.0) as teacher:
        publish_mlp(tmp_path, 2, network, architecture=wider, classes=("a", "b", "c", "d"))

        assert teacher.refresh()
        assert (2, 4) == teacher.predict(BATCH).probabilities.shape
        assert ("a", "b", "c", "d") == teacher.classes


def test_a_probe_of_ones_own_decides(tmp_path: Path) -> None:
    """A version that cannot cope with the user's own batch is refused."""
    network = nn.Linear(4, 3)
    nn.init.constant_(network.weight, 1e20)
    publish(tmp_path, 1, network=network)
    probe = np.full((1, 4), 1e30, dtype=np.float32)

    def linear(num_classes: int) -> nn.Module:
        return nn.Linear(4, num_classes)

    with pytest.raises(NoTeacherError, match="probe batch"):
        HotTeacher(tmp_path, probe=probe, network=linear).start(timeout_seconds=0)
    with HotTeacher(tmp_path, poll_seconds=3600.0, network=linear) as teacher:
        assert 1 == teacher.version


def test_nothing_is_written_below_the_root(tmp_path: Path) -> None:
    """A read-only mount will do: no file is opened for writing, made, renamed or removed."""
    publish_mlp(tmp_path, 1)
    publish_mlp(tmp_path / "next", 2)
    script = (
        "import os, sys, numpy\n"
        "from teacherd.models.hot_teacher import HotTeacher\n"
        "root, touched = sys.argv[1], []\n"
        "def watch(event, arguments):\n"
        "    if event == 'open' and str(arguments[0]).startswith(root):\n"
        "        if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT): touched.append(event)\n"
        "    elif event.startswith(('os.', 'shutil.')) and event != 'os.listdir':\n"
        "        if any(str(each).startswith(root) for each in arguments): touched.append(event)\n"
        "with HotTeacher(root, poll_seconds=3600) as teacher:\n"
        "    os.rename(f'{root}/next/versions/000002', f'{root}/versions/000002')\n"
        "    os.rename(f'{root}/next/current', f'{root}/current')\n"
        "    sys.addaudithook(watch)\n"
        "    assert teacher.refresh()\n"
        "    teacher.predict(numpy.ones((2, 4), dtype=numpy.float32))\n"
        "    print(teacher.version, touched)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    )

    assert "2 []" == done.stdout.strip()


def test_a_network_may_be_named_by_its_import_path(tmp_path: Path) -> None:
    """It is the caller who names it, never a file."""
    publish(tmp_path, 1)
    with HotTeacher(tmp_path, network="versions:Paired", poll_seconds=3600.0) as teacher:
        assert 1 == teacher.predict(BATCH).version

    with pytest.raises(ValueError, match="name: versions:Nothing: cannot be imported"):
        HotTeacher(tmp_path, network="versions:Nothing")


def test_the_thread_finds_new_versions_by_itself(tmp_path: Path) -> None:
    """Publishing is enough; the callback tells of it, and what it raises does no harm."""
    publish(tmp_path, 1)
    swapped = threading.Event()

    def on_swap(manifest: Manifest) -> None:
        if manifest.version == 3:
            swapped.set()
        raise RuntimeError("the user's mistake")

    with HotTeacher(tmp_path, network=Paired, poll_seconds=0.01, on_swap=on_swap) as teacher:
        publish(tmp_path, 2)
        while teacher.version != 2:
            time.sleep(0.01)
        publish(tmp_path, 3)

        assert swapped.wait(300)
        assert 3 == teacher.predict(BATCH).version


def test_start_waits_for_the_first_version(tmp_path: Path) -> None:
    """An inference process may start before the daemon has published."""
    with ThreadPoolExecutor(1) as pool:
        teacher = HotTeacher(tmp_path, network=Paired, poll_seconds=0.02)
        starting = pool.submit(teacher.start)
        publish(tmp_path, 4)
        starting.result()

    assert 4 == teacher.version
    assert (0, {}) == (teacher.stats.swaps, dict(teacher.stats.failures))
    teacher.close()


def test_without_a_usable_version_start_says_why(tmp_path: Path) -> None:
    """The error names the root and the last reason: nothing there, or something bad."""
    with pytest.raises(NoTeacherError, match=r"current: is not there"):
        HotTeacher(tmp_path).start(timeout_seconds=0)

    point(tmp_path, b"{}")
    with pytest.raises(NoTeacherError, match=r"epoch: is missing") as raised:
        HotTeacher(tmp_path, poll_seconds=0.01).start(timeout_seconds=0.05)

    assert str(tmp_path) in str(raised.value)


def test_it_must_be_started_and_not_used_after_close(tmp_path: Path) -> None:
    """Each misuse has an error in words."""
    publish(tmp_path, 1)
    teacher = HotTeacher(tmp_path, network=Paired)
    with pytest.raises(RuntimeError, match="no teacher is served"):
        teacher.predict(BATCH)
    with teacher, pytest.raises(RuntimeError, match="started before"):
        teacher.start()

    with pytest.raises(RuntimeError, match="no teacher is served"):
        teacher.predict(BATCH)
    assert not teacher.refresh()
    assert "teacherd-loader" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize(("key", "value"), [("mode", "triple"), ("poll_seconds", 0.0)])
def test_bad_settings_are_refused_by_name(tmp_path: Path, key: str, value: object) -> None:
    """The error begins with the argument."""
    with pytest.raises(ValueError, match=f"^{key}: "):
        HotTeacher(tmp_path, **{key: value})


def test_predictions_can_be_trained_on(tmp_path: Path, mode: Mode) -> None:
    """Probabilities are ordinary tensors, not ones that autograd refuses."""
    publish(tmp_path, 1)
    with started(tmp_path, mode=mode) as teacher:
        weight = torch.ones(3, requires_grad=True)
        (teacher.predict(BATCH).probabilities * weight).sum().backward()

    assert weight.grad is not None


def test_figures_for_prometheus(tmp_path: Path) -> None:
    """Version, age, swaps and refusals by reason, parsed back from the text format."""
    publish(tmp_path, 1)
    registry = CollectorRegistry()
    now = CREATED_AT.timestamp() + 60
    with started(tmp_path, now=lambda: now) as teacher:
        teacher.register_metrics(registry)
        publish(tmp_path, 2)
        teacher.refresh()
        point(tmp_path, b"")
        teacher.refresh()
        text = generate_latest(registry).decode()
        stats = teacher.stats

    samples = {
        (sample.name.removeprefix("teacherd_loader_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert stats.last_swap_seconds is not None
    assert now == stats.loaded_at
    duration = samples.pop(("swap_duration_seconds_sum",))
    assert duration > 0
    assert {
        ("version",): 2,
        ("teacher_age_seconds",): 60,
        ("swaps_total", "swapped"): 1,
        ("swaps_total", "rejected"): 1,
        ("rejected_total", "pointer"): 1,
        ("swap_duration_seconds_count",): 2,
    } == samples


def test_importing_it_imports_only_torch_numpy_and_safetensors() -> None:
    """An inference service must not pay for what only the daemon needs."""
    script = (
        "import sys, teacherd.models.hot_teacher; "
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    names = set(done.stdout.split())
    assert {"torch", "numpy", "safetensors"} <= names
    unwanted = {"torchvision", "PIL", "yaml", "pydantic", "prometheus_client", "kafka", "structlog"}
    unwanted |= {"cryptography", "fsspec", "onnx", "starlette", "uvicorn", "aiohttp"}
    assert set() == names & unwanted
