"""docs/operating.md: the tables that a person acts on are those of the code."""

import re
from pathlib import Path

from teacherd.daemon.errors import ExitCode

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
LOGGED = re.compile(r'(?:_log|get_logger\(\)|level)(?:\.\w+)?\(\s*"([a-z_]+)"')
EVENT_ROWS = re.compile(r"^\| (`[a-z_]+`(?:, `[a-z_]+`)*) \|", re.MULTILINE)


def test_every_exit_code_is_explained() -> None:
    """All of them, and no other."""
    explained = {int(code) for code in re.findall(r"^\| (\d+) \|", DOCUMENT, re.MULTILINE)}

    assert {int(code) for code in ExitCode} == explained


def test_every_event_is_explained() -> None:
    """Whatever the running daemon can log under a name, and nothing that it cannot."""
    sources = [
        path.read_text(encoding="utf-8")
        for path in (ROOT / "daemon").glob("*.py")
        if not path.name.startswith("demo")
    ]
    logged = {name for source in sources for name in LOGGED.findall(source)}
    explained = {name for row in EVENT_ROWS.findall(DOCUMENT) for name in re.findall(r"\w+", row)}

    assert logged == explained
