"""Adopting a user's own network: in whatever wrapping it comes, and only if it is what was said."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor, nn

from teacherd.daemon.adoption import Adoption, adopt_network
from teacherd.daemon.errors import UsageError
from teacherd.models.artifact import load_artifact, read_manifest
from teacherd.models.backbone import BackboneConfig, build_backbone
from teacherd.models.class_means import head_with_means, means_of

State = dict[str, Tensor]


@pytest.fixture
def network() -> nn.Module:
    """Return what the user trained: the larger of its two features decides."""
    config = BackboneConfig(name="mlp", input_shape=(2,), arguments={"width": 3, "depth": 0})
    built = build_backbone(config, num_classes=2).eval()
    with torch.no_grad():
        built.state_dict()["head.weight"].copy_(torch.eye(2))
        built.state_dict()["head.bias"].zero_()
    return built


@pytest.fixture
def adoption(tmp_path: Path, network: nn.Module) -> Adoption:
    """Return a plain adoption that works."""
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    return Adoption(
        weights=tmp_path / "weights.pt",
        network="mlp",
        arguments=("width=3", "depth=0"),
        input_shape="2",
        classes="cat, dog",
        mean="0,0",
        std="1,1",
        scale=None,
        samples=None,
        min_accuracy=0.0,
        out=tmp_path / "base",
    )


def samples(path: Path, classes: tuple[str, str]) -> str:
    """Write labelled data in which the larger feature is the class: first cat, second dog."""
    inputs = np.array([[3, 1], [1, 2], [5, 0], [0, 9]], dtype=np.float32)
    names = np.array(["cat", "dog", "cat", "dog"])
    labels = np.array([classes.index(name) for name in names])
    np.savez(path, inputs=inputs, labels=labels, classes=list(classes))
    return str(path)


def refusal(adoption: Adoption) -> str:
    """Return why an adoption is refused; nothing has been written."""
    with pytest.raises(UsageError) as caught:
        adopt_network(adoption)

    assert not adoption.out.exists()
    return str(caught.value)


def test_an_adopted_network_answers_as_before(adoption: Adoption, network: nn.Module) -> None:
    """Same weights, same logits, with classes and preprocessing beside them."""
    report = adopt_network(adoption)
    loaded = load_artifact(adoption.out)
    inputs = torch.randn(5, 2)

    assert torch.equal(network(inputs), loaded.network(inputs))
    assert ("cat", "dog") == loaded.manifest.classes
    assert (0.0, 0.0) == loaded.manifest.preprocessing.mean
    assert 1.0 == loaded.manifest.preprocessing.scale
    assert report["sha256"] == loaded.manifest.weights_sha256
    assert 6 == report["parameters"]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model_state_dict": state},
        lambda state: {"model": state},
        lambda state: {f"module.{name}": each for name, each in state.items()},
        lambda state: {f"_orig_mod.{name}": each for name, each in state.items()},
        lambda state: {f"_orig_mod.module.{name}": each for name, each in state.items()},
        lambda state: {f"module._orig_mod.{name}": each for name, each in state.items()},
    ],
)
def test_usual_wrappings_are_taken_off(
    adoption: Adoption, network: nn.Module, wrap: Callable[[State], Any]
) -> None:
    """Training loops, DistributedDataParallel and torch.compile all leave their mark."""
    torch.save(wrap(network.state_dict()), adoption.weights)
    adopt_network(adoption)

    assert torch.equal(
        torch.eye(2), load_artifact(adoption.out).network.state_dict()["head.weight"]
    )


def test_safetensors_are_read_too(adoption: Adoption, network: nn.Module) -> None:
    """With the same wrappings."""
    path = adoption.weights.with_suffix(".safetensors")
    state = {f"module.{name}": each for name, each in network.state_dict().items()}
    safetensors.torch.save_file(state, path)

    assert 2 == adopt_network(replace(adoption, weights=path))["classes"]


class Evil:
    """A pickle that would run something."""

    def __reduce__(self) -> tuple[object, ...]:
        """Have print called on loading."""
        return print, ("executed",)


def test_nothing_in_the_file_is_executed(
    adoption: Adoption, capsys: pytest.CaptureFixture[str]
) -> None:
    """A checkpoint with objects is refused, and says what to save instead."""
    adoption.weights.write_bytes(pickle.dumps({"state_dict": Evil()}))
    refusal(adoption)
    torch.save({"state_dict": Evil()}, adoption.weights)

    reason = refusal(adoption)

    assert "save network.state_dict() alone" in reason
    assert "weights_only" not in reason  # torch's own words are how to load it all the same
    assert "" == capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"junk" * 20])
def test_a_file_that_holds_no_weights_is_refused(
    adoption: Adoption, suffix: str, content: bytes | None
) -> None:
    """Missing, empty or something else: the path is named."""
    path = adoption.weights.with_name(f"other{suffix}")
    if content is not None:
        path.write_bytes(content)

    assert str(path) in refusal(replace(adoption, weights=path))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda state: state.pop("head.bias"), "missing head.bias"),
        (lambda state: state.update(extra=torch.ones(1)), "unexpected extra"),
        (
            lambda state: state.update({"head.bias": torch.ones(3)}),
            "head.bias is [3], wanted [2]",
        ),
        (lambda state: state["head.bias"].fill_(torch.nan), "not finite: head.bias"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    adoption: Adoption, network: nn.Module, change: Callable[[State], object], reason: str
) -> None:
    """Every tensor must be there, in its shape, and finite."""
    state = {name: each.clone() for name, each in network.state_dict().items()}
    change(state)
    torch.save(state, adoption.weights)

    assert reason in refusal(adoption)


def test_something_that_is_no_state_dict_is_refused(adoption: Adoption) -> None:
    """A list of tensors has no names."""
    torch.save([torch.ones(1)], adoption.weights)

    assert "is no state dict" in refusal(adoption)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"network": "nonet"}, "--network: nonet: no such backbone"),
        ({"network": ""}, "--network: "),
        ({"network": "no.such:net"}, "--network: no.such:net: cannot be imported"),
        ({"input_shape": "2,2"}, "--input-shape: (2, 2)"),
        ({"input_shape": "0"}, "--input-shape: (0,)"),
        ({"input_shape": "two"}, "--input-shape: 'two'"),
        ({"input_shape": ""}, "--input-shape: ''"),
        ({"arguments": ("num_classes=2",)}, "--argument: num_classes"),
        ({"arguments": ("width=[",)}, "--argument"),
        ({"classes": "cat"}, "--classes: 1 names"),
        ({"classes": "cat,cat"}, "--classes"),
        ({"classes": "@/nowhere/names"}, "--classes: /nowhere/names: No such file"),
        ({"classes": "a,b,c"}, "wrong shape"),
        ({"mean": "0"}, "--mean has 1"),
        ({"std": "1,1,1"}, "--mean has 2 and --std 3"),
        ({"mean": "a,b"}, "--mean: 'a,b'"),
        ({"std": "0,1"}, "--mean, --std, --scale: std"),
        ({"scale": 0.0}, "--mean, --std, --scale: scale"),
        ({"mean": "nan,0"}, "--mean, --std, --scale: mean"),
        ({"min_accuracy": 0.5}, "--min-accuracy"),
        ({"samples": "nowhere"}, "--samples: "),
        ({"class_means": True}, "--class-means: there is nothing to take means of"),
    ],
)
def test_what_cannot_be_is_told_by_its_flag(
    adoption: Adoption, values: dict[str, Any], reason: str
) -> None:
    """A usage error, never a traceback."""
    assert reason in refusal(replace(adoption, **values))


def test_class_names_can_come_from_a_file(adoption: Adoption, tmp_path: Path) -> None:
    """One name a line; empty lines are none."""
    (tmp_path / "names.txt").write_text("cat\n\ndog\n", encoding="utf-8")
    adopt_network(replace(adoption, classes=f"@{tmp_path / 'names.txt'}"))

    assert ("cat", "dog") == read_manifest(adoption.out).classes


@pytest.mark.parametrize("order", [("cat", "dog"), ("dog", "cat")])
def test_samples_are_matched_by_the_names_of_their_classes(
    adoption: Adoption, tmp_path: Path, order: tuple[str, str]
) -> None:
    """However the samples number them, right is what the network calls so."""
    path = samples(tmp_path / "samples.npz", order)

    report = adopt_network(replace(adoption, samples=path, min_accuracy=1.0))

    assert 1.0 == report["accuracy_on_samples"]
    assert {"accuracy.samples": 1.0} == read_manifest(adoption.out).metrics


@pytest.mark.parametrize("order", [("cat", "dog"), ("dog", "cat")])
def test_samples_give_the_means_of_their_classes(
    adoption: Adoption, tmp_path: Path, order: tuple[str, str]
) -> None:
    """By the names of the classes, in the weights and in the manifest."""
    path = samples(tmp_path / "samples.npz", order)
    adopt_network(replace(adoption, samples=path, class_means=True))
    loaded = load_artifact(adoption.out)
    head = head_with_means(loaded.network)

    assert loaded.manifest.architecture.class_means
    assert head is not None
    means_KE, counts_K = means_of(head)
    assert ([[4.0, 0.5], [0.5, 5.5]], [2, 2]) == (means_KE.tolist(), counts_K.tolist())


def test_wrongly_ordered_classes_show_on_samples(adoption: Adoption, tmp_path: Path) -> None:
    """The usual mistake is found before it is deployed, and the likely causes are named."""
    path = samples(tmp_path / "samples.npz", ("cat", "dog"))

    reason = refusal(replace(adoption, classes="dog,cat", samples=path, min_accuracy=0.9))

    assert "accuracy on the samples is 0.000, below --min-accuracy 0.9" in reason
    assert "order of --classes" in reason


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"inputs": np.zeros((2, 3), np.float32), "classes": ["cat", "dog"]}, "inputs are [3]"),
        ({"inputs": np.zeros((2, 2), np.float32), "classes": ["cat", "owl"]}, "classes owl"),
    ],
)
def test_samples_of_something_else_are_refused(
    adoption: Adoption, tmp_path: Path, arrays: dict[str, Any], reason: str
) -> None:
    """Another shape or other classes cannot tell anything."""
    np.savez(tmp_path / "samples.npz", labels=np.array([0, 1]), **arrays)

    assert reason in refusal(replace(adoption, samples=str(tmp_path / "samples.npz")))


def test_images_are_scaled_to_one_unless_told(adoption: Adoption, tmp_path: Path) -> None:
    """uint8 images are divided by 255, as torchvision's weights expect."""
    config = BackboneConfig(name="small_cnn", input_shape=(1, 8, 8), arguments={"width": 2})
    torch.save(build_backbone(config, num_classes=2).state_dict(), tmp_path / "cnn.pt")
    image_adoption = replace(
        adoption,
        weights=tmp_path / "cnn.pt",
        network="small_cnn",
        arguments=("width=2",),
        input_shape="1,8,8",
        mean="0.5",
        std="0.5",
    )
    adopt_network(image_adoption)
    assert 1 / 255 == read_manifest(adoption.out).preprocessing.scale

    adopt_network(replace(image_adoption, scale=1.0))

    assert 1.0 == read_manifest(adoption.out).preprocessing.scale


def test_torchvisions_own_weights_are_sent_to_torchvisions_own_network(
    adoption: Adoption, tmp_path: Path
) -> None:
    """The name alone is the network adapted to small images: the way out is in the message."""
    plain = BackboneConfig(name="torchvision.models:resnet18", input_shape=(3, 64, 64))
    torch.save(build_backbone(plain, num_classes=2).state_dict(), tmp_path / "resnet.pt")
    adapted = replace(
        adoption,
        weights=tmp_path / "resnet.pt",
        network="resnet18",
        arguments=(),
        input_shape="3,64,64",
        mean="0,0,0",
        std="1,1,1",
    )

    assert "it fits torchvision's own: --network torchvision.models:resnet18" in refusal(adapted)
    assert adopt_network(replace(adapted, network=plain.name))["note"] is None


def test_samples_are_brought_to_the_size_of_the_inputs(adoption: Adoption, tmp_path: Path) -> None:
    """As the records of the stream will be: a folder of photographs needs no preparation."""
    for name, level in {"cat": 0, "dog": 255}.items():
        (tmp_path / "samples" / name).mkdir(parents=True)
        Image.new("L", (11, 9), level).save(tmp_path / "samples" / name / "1.png")
    config = BackboneConfig(name="small_cnn", input_shape=(1, 8, 8), arguments={"width": 2})
    torch.save(build_backbone(config, num_classes=2).state_dict(), tmp_path / "cnn.pt")

    report = adopt_network(
        replace(
            adoption,
            weights=tmp_path / "cnn.pt",
            network="small_cnn",
            arguments=("width=2",),
            input_shape="1,8,8",
            mean="0.5",
            std="0.5",
            samples=str(tmp_path / "samples"),
        )
    )

    assert report["accuracy_on_samples"] in (0.0, 0.5, 1.0)


def test_a_place_that_cannot_be_written_is_told_before_the_work(
    adoption: Adoption, tmp_path: Path
) -> None:
    """The weights are not even looked at: training, which asks the same, takes hours."""
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "below" / "base"
    impossible = replace(adoption, out=place, weights=tmp_path / "none.pt")

    assert f"{tmp_path / 'file'} is not a writable directory" in refusal(impossible)
