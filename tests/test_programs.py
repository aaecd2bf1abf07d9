"""Tests of the skip for a missing program, and of its being a failure in CI."""

from collections.abc import Callable
from pathlib import Path

import pytest
from programs import find_program


@pytest.fixture
def directory_with_program(tmp_path: Path) -> Path:
    """Give a directory that holds one executable, `frobnicate`."""
    program = tmp_path / "frobnicate"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return tmp_path


def test_a_program_on_the_path_is_found(directory_with_program: Path) -> None:
    """What is there is returned by its path, required or not."""
    environment = {"PATH": str(directory_with_program), "TEACHERD_TEST_REQUIRE_ALL": "1"}

    found = find_program("frobnicate", "make it", environment=environment)

    assert directory_with_program / "frobnicate" == found


@pytest.mark.parametrize("require_all", [{}, {"TEACHERD_TEST_REQUIRE_ALL": "0"}])
def test_a_missing_program_skips_with_what_to_install(
    tmp_path: Path, require_all: dict[str, str]
) -> None:
    """On a desk the test is skipped, and the reason says how to have it run."""
    with pytest.raises(pytest.skip.Exception, match=r"'frobnicate'.*apt-get install frobnicate"):
        find_program(
            "frobnicate",
            "apt-get install frobnicate",
            environment={"PATH": str(tmp_path), **require_all},
        )


def test_a_missing_program_fails_where_all_are_required(tmp_path: Path) -> None:
    """In CI a test that cannot run is a failure that says the same."""
    with pytest.raises(pytest.fail.Exception, match=r"'frobnicate'.*apt-get install frobnicate"):
        find_program(
            "frobnicate",
            "apt-get install frobnicate",
            environment={"PATH": str(tmp_path), "TEACHERD_TEST_REQUIRE_ALL": "1"},
        )


def test_the_fixture_searches_the_real_path(
    directory_with_program: Path,
    monkeypatch: pytest.MonkeyPatch,
    requires_program: Callable[[str, str], Path],
) -> None:
    """Tests ask through the fixture, which reads this process's environment."""
    monkeypatch.setenv("PATH", str(directory_with_program))

    assert directory_with_program / "frobnicate" == requires_program("frobnicate", "make it")
