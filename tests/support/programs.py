"""Programs that some tests need and Python does not bring: a missing one skips, or fails in CI."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

REQUIRE_ALL_VARIABLE = "TEACHERD_TEST_REQUIRE_ALL"


def find_program(name: str, install_hint: str, *, environment: Mapping[str, str]) -> Path:
    """Return where a program is; without it skip the test, or fail it where nothing may be missing.

    Args:
        name: As typed in a shell.
        install_hint: What to do to have it, such as `apt-get install default-jre-headless`.
        environment: PATH is searched; TEACHERD_TEST_REQUIRE_ALL=1 turns the skip into a failure.
    """
    found = shutil.which(name, path=environment.get("PATH", ""))
    if found is not None:
        return Path(found)
    reason = f"needs the program {name!r}, which is not on the PATH; to install it: {install_hint}"
    if environment.get(REQUIRE_ALL_VARIABLE) == "1":
        pytest.fail(f"{reason} ({REQUIRE_ALL_VARIABLE}=1 allows no skip)", pytrace=False)
    pytest.skip(reason)
