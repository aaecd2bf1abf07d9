"""Fixtures that any test may ask for."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from programs import find_program

RequiresProgram = Callable[[str, str], Path]


@pytest.fixture
def requires_program() -> RequiresProgram:
    """Give `requires_program(name, install_hint)`: a program's path, or a skip (never in CI)."""

    def requires(name: str, install_hint: str) -> Path:
        return find_program(name, install_hint, environment=os.environ)

    return requires
