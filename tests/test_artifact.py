"""Artifacts: what is written loads back; anything else is refused with path and reason."""

import dataclasses
import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from teacherd.models.artifact import (
    ArtifactError,
    Manifest,
    load_artifact,
    read_manifest,
    verify_artifact,
    version_folder,
    write_artifact,
)
from teacherd.models.backbone import BackboneConfig, build_backbone
from teacherd.models.design import Design
from teacherd.models.preprocessing import Preprocessing
from teacherd.models.provenance import Provenance
from teacherd.models.weights import serialize_weights

ARCHITECTURE = BackboneConfig(name="small_cnn", input_shape=(1, 8, 8), arguments={"width": 4})
DESIGN = Design(
    architecture=ARCHITECTURE,
    classes=("cat", "dog", "\u00e9l\u00e9phant"),
    preprocessing=Preprocessing(mean=(0.1,), std=(1 / 3,), scale=1 / 255),
    sigma=0.25,
)
PROVENANCE = Provenance(
    lineage="0123abcd",
    version=42,
    parent=41,
    tasks=(7,),
    verdict={"result": "accepted", "bounds": [0.1, -0.2]},
    metrics={"accuracy.holdout": 0.9},
    created_at="2026-01-02T03:04:05.678+00:00",
)


def vars_of(part: Design | Provenance) -> dict[str, Any]:
    """The fields of a part of a manifest, as they are."""
    return {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}


def network(seed: int = 0) -> nn.Module:
    """The network of the architecture, seeded."""
    torch.manual_seed(seed)
    return build_backbone(ARCHITECTURE, num_classes=3).eval()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good version below a root."""
    path = version_folder(tmp_path, 42)
    path.mkdir(parents=True)
    write_artifact(path, network(), DESIGN, PROVENANCE)
    return path


def refusal(path: Path) -> ArtifactError:
    """Return why the folder is refused, by loading and by verifying alike."""
    with pytest.raises(ArtifactError) as verified:
        verify_artifact(path)
    with pytest.raises(ArtifactError) as loaded:
        load_artifact(path)
    assert str(verified.value) == str(loaded.value)
    return loaded.value


def rewrite(folder: Path, weights: bytes | None = None, **changes: object) -> None:
    """Change manifest and weights so that digest and size still agree with each other."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    if weights is not None:
        (folder / "teacher.safetensors").write_bytes(weights)
        manifest["weights_bytes"] = len(weights)
        manifest["weights_sha256"] = hashlib.sha256(weights).hexdigest()
    manifest |= changes
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def test_a_version_loads_as_it_was_written(folder: Path) -> None:
    """Weights bit for bit, manifest field for field, in eval mode."""
    loaded = load_artifact(folder)

    expected = Manifest(
        **vars_of(DESIGN),
        **vars_of(PROVENANCE),
        weights_sha256=hashlib.sha256(serialize_weights(network())).hexdigest(),
        weights_bytes=(folder / "teacher.safetensors").stat().st_size,
        torch=torch.__version__,
    )
    assert DESIGN == loaded.manifest.design
    assert PROVENANCE == loaded.manifest.provenance
    assert expected == loaded.manifest == read_manifest(folder) == verify_artifact(folder)
    assert serialize_weights(network()) == serialize_weights(loaded.network)
    assert not any(module.training for module in loaded.network.modules())


def test_loading_leaves_the_random_generator_alone(folder: Path) -> None:
    """An inference process draws the same numbers whether a version came in or not."""
    torch.manual_seed(3)
    expected = torch.rand(4)

    torch.manual_seed(3)
    load_artifact(folder)

    assert torch.equal(expected, torch.rand(4))


def test_increments_are_part_of_a_manifest_only_where_classes_came_later(tmp_path: Path) -> None:
    """Who knows none reads the others as ever; one that does not say means all at once."""
    texts = {}
    for increments in (None, (2, 1)):
        folder = tmp_path / str(increments)
        folder.mkdir()
        design = dataclasses.replace(DESIGN, increments=increments)
        write_artifact(folder, network(), design, PROVENANCE)
        texts[increments] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        assert increments == load_artifact(folder).manifest.design.increments

    assert "increments" not in texts[None]
    assert [2, 1] == texts[2, 1]["increments"]


def test_a_manifest_survives_its_text(folder: Path) -> None:
    """to_json and from_json are inverse, exactly, and the text is the file."""
    manifest = read_manifest(folder)

    assert manifest == Manifest.from_json(manifest.to_json().encode())
    assert manifest.to_json() == (folder / "manifest.json").read_text(encoding="utf-8")


def test_a_version_is_never_rewritten(folder: Path) -> None:
    """A folder that holds anything is refused."""
    with pytest.raises(ValueError, match="must be empty"):
        write_artifact(folder, network(), DESIGN, PROVENANCE)


def test_a_factory_of_ones_own_takes_the_place_of_an_import(tmp_path: Path) -> None:
    """A manifest that names a callable that is not installed here loads with the callable given."""
    architecture = BackboneConfig(name="elsewhere:linear", input_shape=(2,))
    features = Preprocessing(mean=(0.0, 0.0), std=(1.0, 1.0), scale=1.0)
    design = dataclasses.replace(DESIGN, architecture=architecture, preprocessing=features)
    written = write_artifact(tmp_path, nn.Linear(2, 3), design, PROVENANCE)

    loaded = load_artifact(tmp_path, factory=lambda num_classes: nn.Linear(2, num_classes))

    assert written == loaded.manifest
    assert "network" == refusal(tmp_path).reason


def cut(path: Path) -> None:
    """Truncate to half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    """Flip one bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def link_away(path: Path) -> None:
    """Put the same content behind a link."""
    target = path.parent.parent / "elsewhere"
    path.rename(target)
    path.symlink_to(target)


@pytest.mark.parametrize(
    ("name", "damage", "reason"),
    [
        ("manifest.json", Path.unlink, "missing"),
        ("manifest.json", cut, "manifest"),
        ("manifest.json", link_away, "path"),
        ("manifest.json", lambda path: path.write_bytes(b" " * (2**24 + 1)), "size"),
        ("teacher.safetensors", Path.unlink, "missing"),
        ("teacher.safetensors", cut, "size"),
        ("teacher.safetensors", lambda path: path.write_bytes(path.read_bytes() * 2), "size"),
        ("teacher.safetensors", flip, "checksum"),
        ("teacher.safetensors", link_away, "path"),
    ],
)
def test_damaged_files_are_refused(
    folder: Path, name: str, damage: Callable[[Path], object], reason: str
) -> None:
    """The error names the file and the kind of damage."""
    damage(folder / name)

    error = refusal(folder)

    assert (reason, folder / name) == (error.reason, error.path)
    assert str(folder / name) in str(error)


def weights_with(**changes: torch.Tensor) -> bytes:
    """Return the network's weights with some tensors replaced."""
    return save({**load(serialize_weights(network())), **changes})


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        (pickle.dumps({"head.weight": [1.0]}), "format"),
        (b"", "manifest"),
        (weights_with(**{"head.bias": torch.full((3,), torch.nan)}), "nonfinite"),
        (weights_with(**{"head.bias": torch.zeros(4)}), "tensors"),
        (weights_with(extra=torch.zeros(1)), "tensors"),
    ],
)
def test_weights_that_do_not_fit_are_refused(folder: Path, weights: bytes, reason: str) -> None:
    """Also if size and digest agree with the manifest."""
    rewrite(folder, weights)

    assert reason == refusal(folder).reason


@pytest.mark.parametrize(
    ("changes", "reason", "named"),
    [
        ({"format": 2}, "manifest", "format: 2"),
        ({"epoch": 0}, "manifest", "epoch: 0"),
        ({"version": -1}, "manifest", "version: -1"),
        ({"version": "42"}, "manifest", "version: '42'"),
        ({"classes": ["a", "b"]}, "tensors", "head"),
        ({"classes": []}, "manifest", "classes: ()"),
        ({"classes": ["a", "a", "b"]}, "manifest", "classes"),
        ({"increments": [2, 2]}, "manifest", "increments: [2, 2]: must be two or more"),
        ({"increments": [3]}, "manifest", "increments: [3]: must be two or more"),
        ({"increments": [3, 0]}, "manifest", "increments: [3, 0]: must be two or more"),
        ({"sigma": -1.0}, "manifest", "sigma: -1.0"),
        ({"weights_sha256": "../../etc/passwd"}, "manifest", "weights_sha256"),
        ({"metrics": {"accuracy": "high"}}, "manifest", "metrics.accuracy: 'high'"),
        ({"created_at": "yesterday"}, "manifest", "created_at: 'yesterday'"),
        ({"created_at": "2026-01-02T03:04:05"}, "manifest", "created_at"),
        ({"pickle": "gASV"}, "manifest", "pickle: 'gASV': is not a known key"),
        (
            {"preprocessing": {"mean": [0.1], "std": [0.0], "scale": 1.0}},
            "manifest",
            "preprocessing.std: 0.0",
        ),
        (
            {"preprocessing": {"mean": [0.0] * 3, "std": [1.0] * 3, "scale": 1.0}},
            "manifest",
            "preprocessing",
        ),
        (
            {"architecture": {"name": "smal_cnn", "input_shape": [1, 8, 8], "arguments": {}}},
            "network",
            "architecture.name: smal_cnn",
        ),
        (
            {"architecture": {"name": "mlp", "input_shape": [1, 8, 8], "arguments": {}}},
            "tensors",
            "features",
        ),
    ],
)
def test_manifests_that_say_something_else_are_refused_by_key(
    folder: Path, changes: dict[str, object], reason: str, named: str
) -> None:
    """The message names the key and its value."""
    rewrite(folder, **changes)

    error = refusal(folder)

    assert reason == error.reason
    assert named in str(error)


REQUIRED = [field.name for field in dataclasses.fields(Manifest) if not field.metadata]


@pytest.mark.parametrize("key", REQUIRED)
def test_no_key_of_a_manifest_may_be_missing(folder: Path, key: str) -> None:
    """There are no defaults in a file."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    del manifest[key]
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")

    assert f"{key}: is missing" in str(refusal(folder))


def test_figures_that_are_not_finite_are_refused_when_written() -> None:
    """JSON has no NaN; the writer hears it, not the reader."""
    with pytest.raises(ValueError, match=r"^metrics\.loss: nan"):
        dataclasses.replace(PROVENANCE, metrics={"loss": float("nan")})
