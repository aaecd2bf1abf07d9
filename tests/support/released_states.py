"""State directories as releases of teacherd left them, unpacked to go on with."""

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STATES = Path(__file__).parent.parent / "states"
RELEASES = sorted(path.name for path in STATES.iterdir() if path.is_dir())


@dataclass(frozen=True, slots=True)
class ReleasedState:
    """What one release left behind: killed inside its fourth task, with records left for a fifth.

    Made by tests/states/make_state.py with that release's own code.
    """

    settings: dict[str, Any]
    """With paths below the directory it was unpacked into."""
    continued: list[dict[str, Any]]
    """The outcomes of all five tasks, as the same release went on to decide them."""
    runtime: dict[str, str]
    """What the bits of those outcomes depended on."""


def unpack(release: str, directory: Path) -> ReleasedState:
    """Unpack what a release left behind into a directory."""
    with tarfile.open(STATES / release / "lineage.tar.xz") as packed:
        packed.extractall(directory, filter="data")
    settings = json.loads((directory / "settings.json").read_text())
    settings["model"]["base"] = str(directory / settings["model"]["base"])
    for section, key in (("process", "state_directory"), ("stream_log", "path")):
        settings[section][key] = str(directory / settings[section][key])
    lines = (directory / "state" / "lineage.log").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    (runtime,) = [entry["facts"] for entry in entries if entry["kind"] == "runtime"]
    continued = json.loads((STATES / release / "continued.json").read_text())
    return ReleasedState(settings, continued, runtime)
