"""HotTeacher: the newest good version, whole, whatever happens to the files."""

import asyncio
import dataclasses
import errno
import gc
import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from signing_keys import make_keys
from torch import nn
from versions import CREATED_AT, Paired, point, publish

from teacherd.models.artifact import SIGNATURE, WEIGHTS, Manifest, read_manifest, version_folder
from teacherd.models.backbone import BackboneConfig, build_backbone
from teacherd.models.current_pointer import CurrentPointer
from teacherd.models.hot_teacher import HotTeacher, Mode, NoTeacherError
from teacherd.models.prediction import Prediction
from teacherd.models.preprocessing import Preprocessing
from teacherd.models.signature import SigningKey

BATCH = np.ones((2, 4), dtype=np.float32)
MODES: list[Mode] = ["double", "in_place"]


def started(root: Path, **arguments: object) -> HotTeacher:
    """A HotTeacher that watches only when it is told to: its thread sleeps."""
    teacher = HotTeacher(root, network=Paired, poll_seconds=3600.0, **arguments)
    teacher.start(timeout_seconds=0)
    return teacher


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


MLP = BackboneConfig(name="mlp", input_shape=(4,), arguments={"width": 8})


def mlp(num_classes: int = 3, *, fill: float | None = None) -> nn.Module:
    """A built-in network; with `fill`, every weight of its head has that value."""
    network = build_backbone(MLP, num_classes=num_classes)
    if fill is not None:
        nn.init.constant_(network.head.weight, fill)
    return network


def publish_mlp(
    root: Path, version: int, network: nn.Module | None = None, **changes: object
) -> CurrentPointer:
    """Publish a version of a built-in network."""
    return publish(root, version, network=network or mlp(), **{"architecture": MLP, **changes})


def change_weights(root: Path, data: bytes) -> None:
    """Replace the weights of version 2 so that manifest and current agree with them."""
    folder = version_folder(root, 2)
    (folder / WEIGHTS).write_bytes(data)
    changes = {"weights_bytes": len(data), "weights_sha256": hashlib.sha256(data).hexdigest()}
    change_manifest(root, **changes)


def change_manifest(root: Path, **changes: object) -> None:
    """Change the manifest of version 2 so that current agrees with it."""
    path = version_folder(root, 2) / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    change_pointer(root, manifest_sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def change_pointer(root: Path, **changes: object) -> None:
    """Change what current says."""
    pointer = json.loads((root / "current").read_bytes())
    point(root, json.dumps({**pointer, **changes}).encode())


def republish(root: Path, network: nn.Module | None = None, **changes: object) -> None:
    """Make version 2 once more, otherwise."""
    shutil.rmtree(version_folder(root, 2))
    publish_mlp(root, 2, network, **{"epoch": 2, **changes})


def weights(root: Path) -> Path:
    """Where the weights of version 2 lie."""
    return version_folder(root, 2) / WEIGHTS


def flip_a_bit(root: Path) -> None:
    """Damage the weights without changing their size."""
    data = bytearray(weights(root).read_bytes())
    data[-1] ^= 1
    weights(root).write_bytes(data)


def link_out_of_the_root(root: Path) -> None:
    """Let the version's folder lie elsewhere."""
    outside = root.parent / "outside"
    version_folder(root, 2).rename(outside)
    version_folder(root, 2).symlink_to(outside)


def link_current(root: Path) -> None:
    """Put a link in the place of current."""
    (root / "current").rename(root / "real")
    (root / "current").symlink_to(root / "real")


def rename_folder(root: Path, name: str) -> None:
    """Let version 2 lie below another name, and point there."""
    version_folder(root, 2).rename(root / name)
    change_pointer(root, folder=name)


DAMAGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "corrupt weights": ("checksum", flip_a_bit),
    "truncated weights": ("size", lambda root: weights(root).write_bytes(b"short")),
    "half-written, no weights": ("missing", lambda root: weights(root).unlink()),
    "half-written, no manifest": (
        "missing",
        lambda root: (version_folder(root, 2) / "manifest.json").unlink(),
    ),
    "no folder": ("missing", lambda root: shutil.rmtree(version_folder(root, 2))),
    "another manifest than current means": (
        "checksum",
        lambda root: change_pointer(root, manifest_sha256="0" * 64),
    ),
    "a pickle": ("format", lambda root: change_weights(root, pickle.dumps({"a": 1}))),
    "other shapes": ("tensors", lambda root: republish(root, nn.Linear(4, 3))),
    "other number of classes": ("tensors", lambda root: republish(root, classes=("a", "b"))),
    "NaN weights": ("nonfinite", lambda root: republish(root, mlp(fill=float("nan")))),
    "weights that overflow": ("probe", lambda root: republish(root, mlp(fill=3e38))),
    "unknown network": (
        "network",
        lambda root: republish(root, architecture=dataclasses.replace(MLP, name="mlpp")),
    ),
    "code to import": (
        "code",
        lambda root: republish(root, architecture=dataclasses.replace(MLP, name="os:system")),
    ),
    "a network larger than its weights": (
        "network",
        lambda root: change_manifest(
            root,
            architecture={**dataclasses.asdict(MLP), "arguments": {"width": 2000, "depth": 8}},
        ),
    ),
    "a network that would take all memory": (
        "network",
        lambda root: change_manifest(
            root, architecture={**dataclasses.asdict(MLP), "arguments": {"depth": 10**12}}
        ),
    ),
    "inputs that would take all memory": (
        "network",
        lambda root: change_manifest(
            root,
            architecture={"name": "small_cnn", "input_shape": [4, 10**6, 10**6], "arguments": {}},
        ),
    ),
    "weights announced larger than allowed": (
        "size",
        lambda root: change_manifest(root, weights_bytes=2**60),
    ),
    "another lineage": ("lineage", lambda root: republish(root, lineage="other")),
    "a manifest of another version": ("manifest", lambda root: change_manifest(root, version=9)),
    "an unknown key": ("manifest", lambda root: change_manifest(root, surprise=1)),
    "an older version": ("downgrade", lambda root: publish_mlp(root, 0)),
    "the same version, other manifest": (
        "downgrade",
        lambda root: change_pointer(root, version=1),
    ),
    "an older epoch": ("downgrade", lambda root: publish_mlp(root, 9, epoch=1)),
    "traversal in current": ("pointer", lambda root: change_pointer(root, folder="../outside")),
    "absolute path in current": ("pointer", lambda root: change_pointer(root, folder="/etc")),
    "garbage in current": ("pointer", lambda root: point(root, b"\x80\x04garbage")),
    "empty current": ("pointer", lambda root: point(root, b"")),
    "no current": ("missing", lambda root: (root / "current").unlink()),
    "current is a link": ("path", link_current),
    "current is a folder": (
        "path",
        lambda root: [(root / "current").unlink(), (root / "current").mkdir()],
    ),
    "folder leads out": ("path", link_out_of_the_root),
    "weights are a link": (
        "path",
        lambda root: [weights(root).rename(root / "w"), weights(root).symlink_to(root / "w")],
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_bad_version_is_refused_once_and_the_old_one_serves_on(
    tmp_path: Path, mode: Mode, damage: str
) -> None:
    """It is counted by its reason, not tried again at each look, and a good one still comes in."""
    reason, harm = DAMAGES[damage]
    root = tmp_path / "root"
    root.mkdir()
    publish_mlp(root, 1, epoch=2)
    told: list[str] = []
    with HotTeacher(
        root, mode=mode, poll_seconds=3600.0, on_reject=lambda why, _: told.append(why)
    ) as teacher:
        before = teacher.predict(BATCH)
        publish_mlp(root, 2, epoch=2)
        harm(root)

        looks = [teacher.refresh() for _ in range(3)]
        after = teacher.predict(BATCH)
        refused = dict(teacher.stats.failures)
        shutil.rmtree(root / "current", ignore_errors=True)
        publish_mlp(root, 3, epoch=2)
        recovered = teacher.refresh()

        assert [False] * 3 == looks
        assert (1, 1) == (before.version, after.version)
        assert torch.equal(before.probabilities, after.probabilities)
        assert {reason: 1} == refused
        assert [reason] == told
        assert (True, 3) == (recovered, teacher.predict(BATCH).version)


def test_a_version_that_is_completed_later_comes_in_without_a_new_pointer(tmp_path: Path) -> None:
    """On a slow share the weights may arrive after the pointer; any change is worth a look."""
    publish(tmp_path, 1)
    with started(tmp_path) as teacher:
        publish(tmp_path, 2)
        weights(tmp_path).rename(tmp_path / "late")
        early = [teacher.refresh(), teacher.refresh()]
        (tmp_path / "late").rename(weights(tmp_path))

        assert [False, False, True] == [*early, teacher.refresh()]


def test_what_may_pass_by_itself_is_tried_again_at_growing_intervals(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An unreadable file is retried after 1, 2, 4 polls, and said only once."""
    clock = [0.0]
    publish(tmp_path, 1)
    with HotTeacher(
        tmp_path, network=Paired, poll_seconds=10.0, monotonic=lambda: clock[0]
    ) as teacher:
        publish(tmp_path, 2)
        change_pointer(tmp_path, folder="n" * 300)
        tried_at = []
        for second in range(0, 100, 5):
            clock[0] = float(second)
            failures = teacher.stats.failures.get("unreadable", 0)
            teacher.refresh()
            if teacher.stats.failures["unreadable"] > failures:
                tried_at.append(second)

        assert [0, 10, 30, 70] == tried_at
        messages = [r.getMessage() for r in caplog.records if "rejected" in r.getMessage()]
        assert 1 == len(messages)
        assert "reason=unreadable" in messages[0]


def test_a_swap_for_which_there_is_no_memory_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At growing intervals, though no file changes; where a head is wider, a copy needs room."""
    clock = [0.0]
    publish(tmp_path, 1)
    with started(tmp_path, mode="in_place", monotonic=lambda: clock[0]) as teacher:
        copy_over = teacher._copy_over

        def fail(_candidate: object) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory")

        monkeypatch.setattr(teacher, "_copy_over", fail)
        publish(tmp_path, 2)
        looks, failures = [], []
        for seconds in (0.0, 3599.0, 1.0, 299.0, 1.0):
            clock[0] += seconds
            looks.append(teacher.refresh())
            failures.append(teacher.stats.failures.get("internal", 0))
        monkeypatch.setattr(teacher, "_copy_over", copy_over)
        clock[0] += 300.0

        assert ([False] * 5, [1, 1, 2, 2, 3]) == (looks, failures)
        assert 1 == teacher.predict(BATCH).version
        assert (True, 2) == (teacher.refresh(), teacher.predict(BATCH).version)


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


@pytest.mark.parametrize("version_swapped", MODES)
def test_every_response_is_of_one_version_under_continuous_swaps(
    tmp_path: Path, version_swapped: Mode
) -> None:
    """From many threads: none fails, none is mixed, and no thread sees time run backwards."""
    publish(tmp_path, 1)
    done = threading.Event()
    problems: list[str] = []
    seen: list[set[int]] = []
    teacher = started(tmp_path, mode=version_swapped)

    def predict() -> None:
        latest, versions = 0, set()
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
            versions.add(latest)
        seen.append(versions)

    threads = [threading.Thread(target=predict) for _ in range(4)]
    for thread in threads:
        thread.start()
    swapped = 0
    for version in range(2, 42):
        publish(tmp_path, version)
        swapped += teacher.refresh()
    done.set()
    for thread in threads:
        thread.join()
    teacher.close()

    assert [] == problems
    assert 40 == swapped
    assert len(set().union(*seen)) > 5


def test_a_stale_handle_is_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a network file system a file may be replaced under a reader: once is no failure."""
    publish(tmp_path, 1)
    stale = [2, 4]
    real_fstat = os.fstat

    def fstat(descriptor: int) -> os.stat_result:
        stale[:] = [left - 1 for left in stale]
        if 0 in stale:
            raise OSError(errno.ESTALE, "Stale file handle")
        return real_fstat(descriptor)

    with started(tmp_path) as teacher:
        publish(tmp_path, 2)
        monkeypatch.setattr(os, "fstat", fstat)

        assert teacher.refresh()
        assert (2, {}) == (teacher.version, dict(teacher.stats.failures))
        assert max(stale) < 0


def test_a_share_that_stays_stale_is_counted_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old version serves on; once the share is well the new one comes in."""
    clock = [0.0]
    publish(tmp_path, 1)
    with HotTeacher(
        tmp_path, network=Paired, poll_seconds=10.0, monotonic=lambda: clock[0]
    ) as teacher:
        publish(tmp_path, 2)

        def stale(*_: object) -> None:
            raise OSError(errno.ESTALE, "Stale file handle")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fstat", stale)
            assert not teacher.refresh()
        assert (1, {"unreadable": 1}) == (teacher.version, dict(teacher.stats.failures))

        clock[0] = 10.0
        assert teacher.refresh()
        assert 2 == teacher.version


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


def test_only_signed_versions_are_served_where_a_key_is_given(tmp_path: Path, mode: Mode) -> None:
    """Unsigned, signed by a stranger, or changed after signing: refused, the old one serves on."""
    private, public = make_keys(tmp_path)
    stranger, _ = make_keys(tmp_path, "stranger")

    def sign(version: int, key: Path) -> None:
        folder = version_folder(tmp_path, version)
        signature = SigningKey.from_pem(key.read_bytes()).sign(
            (folder / "manifest.json").read_bytes()
        )
        (folder / SIGNATURE).write_bytes(signature)

    publish_mlp(tmp_path, 1)
    sign(1, private)
    looks = []
    with HotTeacher(tmp_path, mode=mode, poll_seconds=3600.0, public_key=public) as teacher:
        publish_mlp(tmp_path, 2)
        looks.append(teacher.refresh())
        sign(2, stranger)
        looks.append(teacher.refresh())
        shutil.copy(
            version_folder(tmp_path, 1) / SIGNATURE, version_folder(tmp_path, 2) / SIGNATURE
        )
        looks.append(teacher.refresh())
        sign(2, private)
        change_manifest(tmp_path, sigma=0.5)
        looks.append(teacher.refresh())
        assert (1, {"signature": 4}) == (teacher.version, dict(teacher.stats.failures))
        sign(2, private)
        looks.append(teacher.refresh())

    assert [False] * 4 + [True] == looks


def test_a_signature_does_not_make_an_old_version_new(tmp_path: Path) -> None:
    """Whoever can write `current` cannot roll a loader back to a version that was good once."""
    private, public = make_keys(tmp_path)
    pointers = []
    for version in (1, 2):
        pointers.append(publish_mlp(tmp_path, version))
        folder = version_folder(tmp_path, version)
        key = SigningKey.from_pem(private.read_bytes())
        (folder / SIGNATURE).write_bytes(key.sign((folder / "manifest.json").read_bytes()))
    with HotTeacher(tmp_path, poll_seconds=3600.0, public_key=public.read_bytes()) as teacher:
        point(tmp_path, pointers[0])
        first = teacher.refresh()
        point(tmp_path, dataclasses.replace(pointers[0], version=3))
        second = teacher.refresh()
        point(tmp_path, dataclasses.replace(pointers[0], epoch=2))
        third = teacher.refresh()

        assert [False] * 3 == [first, second, third]
        assert (2, {"downgrade": 1, "manifest": 2}) == (
            teacher.version,
            dict(teacher.stats.failures),
        )


@pytest.mark.parametrize("key", ["nowhere.pem", b"rubbish"])
def test_a_public_key_that_is_none_is_refused_by_name(tmp_path: Path, key: str | bytes) -> None:
    """When it is made, not when the first version comes."""
    with pytest.raises(ValueError, match=r"^public_key: "):
        HotTeacher(tmp_path, public_key=key)


def test_a_network_may_be_named_by_its_import_path(tmp_path: Path) -> None:
    """It is the caller who names it, never a file."""
    publish(tmp_path, 1)
    with HotTeacher(tmp_path, network="versions:Paired", poll_seconds=3600.0) as teacher:
        assert 1 == teacher.predict(BATCH).version

    with pytest.raises(ValueError, match="name: versions:Nothing: cannot be imported"):
        HotTeacher(tmp_path, network="versions:Nothing")


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

        assert swapped.wait(30)
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
