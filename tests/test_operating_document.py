"""docs/operating.md: the tables that a person acts on are those of the code."""

import re
from pathlib import Path

from teacherd.daemon.errors import ExitCode

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")


def test_every_exit_code_is_explained() -> None:
    """All of them, and no other."""
    explained = {int(code) for code in re.findall(r"^\| (\d+) \|", DOCUMENT, re.MULTILINE)}

    assert {int(code) for code in ExitCode} == explained
