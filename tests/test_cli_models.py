"""Verbs about networks and versions: what they print for people and for programs."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from base_models import CLASSES, untrained_base
from command_line import CommandLine, write_settings
from lineages import NOW, accept_task, open_state

from teacherd.daemon.config import ModelConfig
from teacherd.daemon.opening import open_lineage
from teacherd.models.artifact import load_artifact, read_manifest, version_folder


@pytest.fixture
def teacherd(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """Run verbs in this process."""
    return CommandLine(capsys)


@pytest.fixture
def lineage(tmp_path: Path) -> Iterator[Path]:
    """Hold a lineage of versions 0 and 1, as a running daemon does; give its configuration."""
    base = untrained_base(tmp_path)
    state = open_state(tmp_path / "state")
    open_lineage(ModelConfig(base=str(base)), state, seed=7, now=NOW)
    accept_task(state)
    yield write_settings(tmp_path, base=base)
    state.close()


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    """Return feature vectors whose larger entry is the class."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(80, 2)).astype(np.float32)
    np.savez(tmp_path / "vectors.npz", features=inputs, labels=inputs.argmax(1))
    return tmp_path / "vectors.npz"


def test_a_network_is_adopted(teacherd: CommandLine, tmp_path: Path) -> None:
    """From flags to a base model folder; the JSON says what was found."""
    trained = load_artifact(untrained_base(tmp_path, name="trained")).network
    torch.save(trained.state_dict(), tmp_path / "weights.pt")
    (tmp_path / "names").write_text("\n".join(CLASSES))
    flags = (
        *("adopt", tmp_path / "weights.pt", "--network", "mlp", "--input-shape", "4"),
        *("--argument", "width=4", "--argument", "depth=1", "--classes", f"@{tmp_path}/names"),
        *("--mean", "0,0,0,0", "--std", "1,1,1,1", "--out", tmp_path / "base"),
    )
    for_programs = teacherd(*flags, "--json").json
    for_people = teacherd(*flags)

    manifest = read_manifest(tmp_path / "base")
    assert (CLASSES, for_programs["sha256"]) == (manifest.classes, manifest.weights_sha256)
    assert 0 == for_people.code
    assert f"adopted into {tmp_path / 'base'}" == for_people.out.splitlines()[0]
    assert "accuracy_on_samples" not in for_people.out  # there were none
    assert f"set model.base: {tmp_path / 'base'}" in for_people.out


def test_an_adoption_that_is_refused_leaves_stdout_empty(
    teacherd: CommandLine, tmp_path: Path
) -> None:
    """Exit 2, the reason on stderr."""
    answer = teacherd(
        *("adopt", tmp_path / "none.pt", "--network", "mlp", "--input-shape", "4"),
        *("--classes", "a,b", "--mean", "0,0,0,0", "--std", "1,1,1,1", "--json"),
        *("--out", tmp_path / "base"),
    )

    assert (2, "") == (answer.code, answer.out)
    assert f"{tmp_path / 'none.pt'}: cannot be read: No such file or directory" in answer.err


def test_a_base_model_is_pretrained(teacherd: CommandLine, vectors: Path, tmp_path: Path) -> None:
    """Progress goes to stderr, so that stdout is one document."""
    flags = ("pretrain", vectors, "--network", "mlp", "--epochs", "2", "--out", tmp_path / "base")
    for_programs = teacherd(*flags, "--json")
    for_people = teacherd(*flags)

    assert (72, 8) == (for_programs.json["instances"], for_programs.json["held_out"])
    assert read_manifest(tmp_path / "base").weights_sha256 == for_programs.json["sha256"]
    assert ["epochs: 1/2", "epochs: 2/2"] == for_programs.err.splitlines()
    assert f"pretrained into {tmp_path / 'base'}" == for_people.out.splitlines()[0]


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (("nowhere",), "data set 'nowhere': is no folder, no file and no known name"),
        (("vectors.npz",), "use the backbone mlp for feature vectors"),
        (("vectors.npz", "--network", "mlp", "--device", "abacus"), "--device: 'abacus'"),
        (("vectors.npz", "--network", "resnt18"), "did you mean resnet"),
        (("vectors.npz", "--out", "vectors.npz"), "--out: vectors.npz"),
    ],
)
def test_what_cannot_be_pretrained_is_told(
    teacherd: CommandLine,
    vectors: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: tuple[str, ...],
    reason: str,
) -> None:
    """Exit 2, and no base model."""
    monkeypatch.chdir(vectors.parent)
    answer = teacherd("pretrain", *flags)

    assert (2, "") == (answer.code, answer.out)
    assert reason in answer.err
    assert not (vectors.parent / "base").exists()


def test_versions_are_listed_beside_a_running_daemon(teacherd: CommandLine, lineage: Path) -> None:
    """The lock is the daemon's; looking needs none."""
    rows = teacherd("versions", "list", "--config", lineage, "--json").json
    lines = teacherd("versions", "list", "--config", lineage).out.splitlines()

    assert [0, 1] == [row["version"] for row in rows]
    assert ["", "current, head"] == [row["state"] for row in rows]
    shown = ("version", "parent", "task", "instances", "classes", "outer_ratio", "gate")
    assert [*shown, "written_at", "state", "replay"] == lines[1].split()
    assert [True, True] == [row["is_kept"] for row in rows]
    assert [None, None] == [row["can_replay"] for row in rows]  # there is no stream
    figures = ["1", "0", "1", "10", "3", "0.25", "ungated", NOW]
    assert [*figures, "current,", "head"] == lines[4].split()


def test_a_version_is_shown_whole(teacherd: CommandLine, lineage: Path) -> None:
    """Plan, outcome and manifest, nested for programs and dotted for people."""
    shown = teacherd("versions", "show", "1", "--config", lineage, "--json").json
    text = teacherd("versions", "show", "1", "--config", lineage).out
    facts = dict(line.split(maxsplit=1) for line in text.splitlines()[1:])

    assert {"state", "classes", "plan", "outcome", "manifest"} == set(shown)
    assert "current, head" == facts["state"]
    assert str(shown["plan"]["num_instances"]) == facts["plan.num_instances"]
    assert shown["manifest"]["weights_sha256"] == facts["manifest.weights_sha256"]
    assert ", ".join(CLASSES) == facts["manifest.classes"]


def test_two_versions_are_compared(teacherd: CommandLine, lineage: Path) -> None:
    """The served one and its parent, unless others are named."""
    found = teacherd("versions", "diff", "--config", lineage, "--json").json
    named = teacherd("versions", "diff", "1", "0", "--config", lineage).out
    lines = teacherd("versions", "diff", "--config", lineage).out.splitlines()

    assert (0, 1, 10) == (found["from"], found["to"], found["instances_learned"])
    assert "version 0 to 1" == lines[0]
    assert ["relation", "1 was learned from 0"] == lines[1].split(maxsplit=1)
    assert ["1", "1", "count", "10", "ungated", NOW] in [line.split() for line in lines]
    assert "instances undone   10" in named
    assert "settings" not in named  # none decided version 0


def test_a_comparison_says_which_weights_were_removed(
    teacherd: CommandLine, lineage: Path, tmp_path: Path
) -> None:
    """And how to have them again."""
    shutil.rmtree(version_folder(tmp_path / "state" / "public", 0))
    answer = teacherd("versions", "diff", "--config", lineage)

    assert 0 == answer.code
    assert "publication.keep_versions has removed 0; see `teacherd replay --out`" in answer.out


def test_a_version_that_is_not_there_is_a_usage_error(teacherd: CommandLine, lineage: Path) -> None:
    """It says which there are."""
    for verb in ("show", "verify", "diff"):
        answer = teacherd("versions", verb, "7", "--config", lineage, "--json")

        assert (2, "") == (answer.code, answer.out)
        assert "there is no version 7; versions go from 0 to 1" in answer.err


def test_where_there_is_no_lineage_the_verbs_say_how_to_begin(
    teacherd: CommandLine, tmp_path: Path
) -> None:
    """Looking makes nothing."""
    config = write_settings(tmp_path, base=tmp_path)
    answer = teacherd("versions", "list", "--config", config)

    assert (2, "") == (answer.code, answer.out)
    assert "holds no lineage yet: start `teacherd run`" in answer.err
    assert not (tmp_path / "state").exists()


def test_good_versions_are_verified(teacherd: CommandLine, lineage: Path) -> None:
    """All of them, or one."""
    both = teacherd("versions", "verify", "--config", lineage, "--json")
    one = teacherd("versions", "verify", "1", "--config", lineage)

    assert 0 == both.code == one.code
    assert ["good", "good"] == [row["state"] for row in both.json]
    assert ["1", "good"] == one.out.splitlines()[-1].split()


def test_a_damaged_version_ends_verification_with_74(
    teacherd: CommandLine, lineage: Path, tmp_path: Path
) -> None:
    """Every version is looked at all the same."""
    folder = version_folder(tmp_path / "state" / "public", 1)
    weights = next(folder.glob("*.safetensors"))
    weights.chmod(0o644)
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    for_people = teacherd("versions", "verify", "--config", lineage)
    for_programs = teacherd("versions", "verify", "--config", lineage, "--json")

    assert 74 == for_people.code == for_programs.code
    assert ["good", "bad"] == [row["state"] for row in for_programs.json]
    assert "1 of 2 versions are bad" in for_programs.err
