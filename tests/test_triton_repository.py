"""Triton's layout: names that are folders' names, and nothing that leads elsewhere."""

from pathlib import Path

import pytest

from teacherd.daemon.errors import UsageError
from teacherd.daemon.triton_repository import model_folder, version_name


@pytest.mark.parametrize(
    "name", ["../out", "a/b", "", ".", "..", "-x", "a b", "a\n", "\u00e9", "a\\b"]
)
def test_a_model_name_that_is_a_path_is_refused(name: str) -> None:
    """The error names the option and what would do."""
    with pytest.raises(UsageError, match=r"^--name: "):
        model_folder(Path("repository"), name)


@pytest.mark.parametrize("name", ["teacher", "digits-2.1_b", "7"])
def test_a_plain_name_is_a_folder_below_the_repository(name: str) -> None:
    """Whatever is in it."""
    assert Path("repository") / name == model_folder(Path("repository"), name)


def test_a_version_is_named_as_triton_orders_it() -> None:
    """Without leading zeros; version 0 is one that Triton ignores."""
    assert "42" == version_name(42)
    with pytest.raises(UsageError, match="ignores a version 0"):
        version_name(0)
