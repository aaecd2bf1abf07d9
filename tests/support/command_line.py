"""Runs `teacherd` inside the test's own process, as the installed command would run it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from teacherd.daemon.__main__ import main


@dataclass(frozen=True, slots=True)
class Answer:
    """What a verb ended with."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:  # noqa: ANN401 (any JSON value)
        """What is on stdout, which must be one JSON document and nothing else."""
        return json.loads(self.out)


class CommandLine:
    """Runs verbs; what they wrote is taken from pytest's capture."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def __call__(self, *arguments: object) -> Answer:
        """Run one verb and return exit code and output; nothing it raises gets away."""
        self._capture.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(each) for each in arguments])
        written = self._capture.readouterr()
        code = ended.value.code
        return Answer(code if isinstance(code, int) else 0, written.out, written.err)


def write_settings(directory: Path, *, base: Path, **sections: dict[str, Any]) -> Path:
    """Write a configuration whose files all lie below a directory; return its path."""
    settings: dict[str, Any] = {
        "model": {"base": str(base)},
        "process": {"state_directory": str(directory / "state"), "device": "cpu"},
        "stream_log": {"path": str(directory / "stream.db")},
        "endpoints": {"port": 0},
    }
    for section, values in sections.items():
        settings[section] = {**settings.get(section, {}), **values}
    path = directory / "config.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path
