"""What bits depend on: named, told apart, and never a difference for lack of a name."""

import sys
from pathlib import Path

import pytest
import torch

from teacherd.daemon.runtime_facts import differing_facts, runtime_facts

CPU = torch.device("cpu")


def test_every_fact_is_a_word_of_this_machine() -> None:
    """Versions, decoders, processor, number of threads."""
    facts = runtime_facts(CPU)

    assert torch.__version__ == facts["torch"]
    assert str(torch.get_num_threads()) == facts["threads"]
    assert ("cpu", "", "") == (facts["device"], facts["cuda"], facts["decoder"])
    assert torch.backends.cpu.get_cpu_capability() == facts["cpu_capability"]
    assert "zlib " in facts["image_libraries"]
    assert facts["cpu"]


def test_the_users_decoder_counts_by_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same name with other code gives other instances."""
    monkeypatch.syspath_prepend(tmp_path)
    facts = []
    for body in ("one", "two"):
        (tmp_path / "own_decoder_of_a_test.py").write_text(f"# {body}\ndef decode(record): ...\n")
        sys.modules.pop("own_decoder_of_a_test", None)
        facts.append(runtime_facts(CPU, decoder="own_decoder_of_a_test:decode")["decoder"])

    assert facts[0] != facts[1]
    assert all(each.startswith("own_decoder_of_a_test:decode sha256 ") for each in facts)


@pytest.mark.parametrize("decoder", ["not_there:decode", "not_there.at_all:decode"])
def test_a_decoder_that_is_not_there_is_left_to_whoever_builds_it(decoder: str) -> None:
    """The error that it gives there says what to do."""
    assert decoder == runtime_facts(CPU, decoder=decoder)["decoder"]


def test_only_what_both_name_can_differ() -> None:
    """A log of an older teacherd names fewer facts, one of a newer perhaps more."""
    before = {"torch": "2.6", "numpy": "2.0", "gone": "1"}
    now = {"torch": "2.7", "numpy": "2.0", "cpu": "any"}

    assert {"torch": ("2.6", "2.7")} == differing_facts(before, now)
