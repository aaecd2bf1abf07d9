"""Exports: each is loaded by its own runtime, from raw inputs, and answers as HotTeacher does."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from base_models import untrained_base
from command_line import CommandLine, write_settings
from lineages import NOW, accept_task, open_state
from safetensors import safe_open
from torch import nn

from teacherd.daemon.base_model import write_base
from teacherd.daemon.config import ModelConfig
from teacherd.daemon.opening import open_lineage
from teacherd.models.artifact import version_folder
from teacherd.models.backbone import BackboneConfig, build_backbone
from teacherd.models.design import Design
from teacherd.models.hot_teacher import HotTeacher
from teacherd.models.preprocessing import Preprocessing

IMAGE_CLASSES = ("cat", "dog", 'a "b"\n\\c', "\u00e9l\u00e9phant")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """Run verbs in this process."""
    return CommandLine(capsys)


def image_base(directory: Path) -> Path:
    """A base model of small images, with batch statistics and odd names."""
    architecture = BackboneConfig(name="small_cnn", input_shape=(2, 8, 8), arguments={"width": 4})
    torch.manual_seed(1)
    network = build_backbone(architecture, num_classes=4).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
    preprocessing = Preprocessing(mean=(0.2, 0.6), std=(0.1, 0.4), scale=1 / 255)
    design = Design(
        architecture=architecture, classes=IMAGE_CLASSES, preprocessing=preprocessing, sigma=None
    )
    write_base(directory / "base", network, design, metrics={})
    return directory / "base"


def lineage(directory: Path, base: Path) -> Path:
    """Make a lineage with versions 0 and 1 over a base; return the configuration."""
    state = open_state(directory / "state")
    open_lineage(ModelConfig(base=str(base)), state, seed=7, now=NOW)
    accept_task(state)
    state.close()
    return write_settings(directory, base=base)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A lineage of images."""
    return lineage(tmp_path, image_base(tmp_path))


def images(count: int) -> np.ndarray:
    """Raw images."""
    return np.random.default_rng(0).integers(0, 256, (count, 2, 8, 8), dtype=np.uint8)


def expected(tmp_path: Path, inputs: np.ndarray) -> np.ndarray:
    """What HotTeacher says."""
    with HotTeacher(tmp_path / "state" / "public", poll_seconds=3600) as teacher:
        assert 1 == teacher.version
        return teacher.predict(inputs).probabilities.numpy()


def onnx_answer(path: Path, inputs: np.ndarray) -> np.ndarray:
    """What ONNX Runtime says."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(["probabilities"], {"inputs": inputs})
    return np.asarray(probabilities)


def pt2_answer(path: Path, inputs: np.ndarray) -> np.ndarray:
    """What the exported program says."""
    with torch.no_grad():
        probabilities = torch.export.load(path).module()(torch.from_numpy(inputs))[1]
    return np.asarray(probabilities)


def safetensors_answer(path: Path, inputs: np.ndarray) -> np.ndarray:
    """What somebody computes who reads the description and fills the network."""
    with safe_open(path, framework="pt") as file:
        description = json.loads(file.metadata()["teacherd"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    network = build_backbone(
        BackboneConfig(
            name=description["network"],
            input_shape=tuple(description["input_shape"]),
            arguments=description["network_arguments"],
        ),
        num_classes=len(description["classes"]),
    ).eval()
    network.load_state_dict(tensors)
    rule = description["preprocessing"]
    mean, std = (torch.tensor(rule[name]).view(1, -1, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        logits = network((torch.from_numpy(inputs) * rule["scale"] - mean) / std)
    return np.asarray(logits.softmax(1))


ANSWERS: dict[str, Callable[[Path, np.ndarray], np.ndarray]] = {
    "onnx": onnx_answer,
    "pt2": pt2_answer,
    "safetensors": safetensors_answer,
}


@pytest.mark.parametrize("form", ANSWERS)
def test_an_export_answers_as_the_teacher_does(
    run: CommandLine, config: Path, tmp_path: Path, form: str
) -> None:
    """From raw inputs, for batches of any size; what it is lies beside it."""
    out = tmp_path / "out"

    answer = run("versions", "export", "--format", form, "--out", out, "-c", config, "--json")

    assert 0 == answer.code, answer.err
    path = Path(answer.json["path"])
    assert (1, f"model.{form}") == (answer.json["version"], path.name)
    assert 0 <= answer.json["largest_difference"] < 1e-4
    for count in (1, 7):
        inputs = images(count)
        np.testing.assert_allclose(
            ANSWERS[form](path, inputs), expected(tmp_path, inputs), rtol=1e-4, atol=1e-5
        )
    description = json.loads((out / "description.json").read_text())
    assert list(IMAGE_CLASSES) == description["classes"]
    assert ("uint8", [2, 8, 8], 1) == (
        description["input_type"],
        description["input_shape"],
        description["version"],
    )
    assert {path.name, "description.json"} == {each.name for each in out.iterdir()}


def triton_config(path: Path) -> Any:  # noqa: ANN401 (a protobuf message)
    """Read config.pbtxt as Triton does, by its own message."""
    script = (
        "import importlib.util, sys\n"
        "from google.protobuf import text_format, json_format\n"
        "origin = importlib.util.find_spec('tritonclient').submodule_search_locations[0]\n"
        "file = f'{origin}/grpc/model_config_pb2.py'\n"
        "spec = importlib.util.spec_from_file_location('model_config_pb2', file)\n"
        "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)\n"
        "message = text_format.Parse(open(sys.argv[1]).read(), module.ModelConfig())\n"
        "print(json_format.MessageToJson(message))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_a_triton_repository_is_laid_out_as_triton_reads_it(
    run: CommandLine, config: Path, tmp_path: Path
) -> None:
    """Parsed by its own message; the model answers; the next version comes beside the first."""
    arguments = ["versions", "export", "--format", "triton", "--out", tmp_path / "repository"]
    first = run(*arguments, "--name", "digits", "-c", config, "--json")
    state = open_state(tmp_path / "state")
    accept_task(state)
    state.close()
    second = run(*arguments, "--name", "digits", "-c", config, "--json")

    assert (0, 0) == (first.code, second.code), first.err + second.err
    folder = tmp_path / "repository" / "digits"
    assert ["1", "2", "config.pbtxt", "labels.txt"] == sorted(
        path.name for path in folder.iterdir()
    )
    assert ["model.onnx"] == [path.name for path in (folder / "1").iterdir()]
    assert ["cat", "dog", 'a "b"\\n\\c', "\u00e9l\u00e9phant"] == (
        (folder / "labels.txt").read_text(encoding="utf-8").splitlines()
    )
    parsed = triton_config(folder / "config.pbtxt")
    assert ("digits", "onnxruntime", 64) == (
        parsed["name"],
        parsed["backend"],
        parsed["maxBatchSize"],
    )
    assert [{"name": "inputs", "dataType": "TYPE_UINT8", "dims": ["2", "8", "8"]}] == parsed[
        "input"
    ]
    assert ["logits", "probabilities"] == [output["name"] for output in parsed["output"]]
    described = json.loads(parsed["parameters"]["teacherd"]["stringValue"])
    assert (2, list(IMAGE_CLASSES)) == (described["version"], described["classes"])
    inputs = images(3)
    answer = onnx_answer(folder / "2" / "model.onnx", inputs)
    with HotTeacher(tmp_path / "state" / "public", poll_seconds=3600) as teacher:
        np.testing.assert_allclose(
            answer, teacher.predict(inputs).probabilities.numpy(), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("form", ["onnx", "pt2"])
def test_vectors_are_exported_too(run: CommandLine, tmp_path: Path, form: str) -> None:
    """As float32, of a given version."""
    config = lineage(tmp_path, untrained_base(tmp_path))
    out = tmp_path / "out"

    answer = run("versions", "export", 0, "--format", form, "--out", out, "-c", config, "--json")

    assert 0 == answer.code, answer.err
    inputs = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    given = ANSWERS[form](Path(answer.json["path"]), inputs)
    base = version_folder(tmp_path / "state" / "public", 0)
    assert given.shape == (3, 3)
    assert json.loads((out / "description.json").read_text())["weights_sha256"] in (
        (base / "manifest.json").read_text()
    )


def test_what_cannot_be_exported_is_told(run: CommandLine, config: Path, tmp_path: Path) -> None:
    """A version that is not there, a place that is taken, Triton's version 0, a damaged version."""
    export = ("versions", "export", "-c", config, "--out", tmp_path / "out")
    missing = run(*export, 9)
    zero = run(*export, 0, "--format", "triton")
    unknown = run(*export, "--format", "tflite")
    astray = run(*export, "--format", "triton", "--name", "../elsewhere")
    (tmp_path / "out").mkdir()
    taken = run(*export)
    (tmp_path / "out").rmdir()
    weights = version_folder(tmp_path / "state" / "public", 1) / "teacher.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    damaged = run(*export, "--format", "safetensors")

    assert (2, 2, 2, 2, 2, 74) == (
        missing.code,
        zero.code,
        unknown.code,
        astray.code,
        taken.code,
        damaged.code,
    )
    assert "there is no version 9" in missing.err
    assert "Triton ignores a version 0" in zero.err
    assert "is there already" in taken.err
    assert "--name: '../elsewhere'" in astray.err
    assert "sha256" in damaged.err
    assert not (tmp_path / "out").exists()


def test_an_export_that_answers_otherwise_is_not_kept(
    run: CommandLine, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written by a runtime with a fault, it is refused and nothing appears."""
    real = torch.export.load

    def faulty(path: Path) -> Any:  # noqa: ANN401 (an exported program)
        program = real(path)
        with torch.no_grad():
            next(iter(program.state_dict.values())).add_(1.0)
        return program

    monkeypatch.setattr(torch.export, "load", faulty)
    answer = run(
        *("versions", "export", "--format", "pt2", "--out", tmp_path / "out", "-c", config)
    )

    assert 74 == answer.code
    assert "answers otherwise when loaded back" in answer.err
    assert not (tmp_path / "out").exists()


def test_a_triton_repository_stays_as_it_is_where_an_export_fails(
    run: CommandLine, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its configuration is that of the version that Triton serves, which may have fewer classes."""

    class Faulty(onnxruntime.InferenceSession):  # type: ignore[misc]  # it has no types
        def run(self, *arguments: Any) -> Any:  # noqa: ANN401 (arrays)
            (logits,) = super().run(*arguments)
            return (logits + 1.0,)

    model = tmp_path / "repository" / "digits"
    model.mkdir(parents=True)
    (model / "config.pbtxt").write_text("of the version before")
    monkeypatch.setattr(onnxruntime, "InferenceSession", Faulty)
    answer = run(
        *("versions", "export", "--format", "triton", "--name", "digits"),
        *("--out", tmp_path / "repository", "-c", config),
    )

    assert 74 == answer.code
    assert ["config.pbtxt"] == [path.name for path in model.iterdir()]
    assert "of the version before" == (model / "config.pbtxt").read_text()


def test_without_the_libraries_the_way_to_them_is_told(
    run: CommandLine, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is written."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    answer = run("versions", "export", "--out", tmp_path / "out", "-c", config)

    assert 2 == answer.code
    assert "pip install 'teacherd[export]'" in answer.err
