"""Where courses keep what is done: base weights, a JSON per run, runs half done."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Runs:
    """A folder of runs of one course: the same base, sizes and split, whatever the order."""

    folder: Path

    def path(self, order: int, name: str, suffix: str = ".json") -> Path:
        """Return where a run's file is; the folder of its order is made."""
        folder = self.folder / f"order-{order}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name}{suffix}"

    def load(self, order: int, name: str) -> dict[str, Any] | None:
        """Return a finished run, None if there is none."""
        path = self.path(order, name)
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def save(self, order: int, name: str, run: dict[str, Any]) -> None:
        """Keep a finished run; what was half done goes."""
        write_whole(self.path(order, name), (json.dumps(run, indent=1) + "\n").encode())
        self.path(order, name, ".partial").unlink(missing_ok=True)

    def load_partial(
        self, order: int, name: str
    ) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return tensors and facts of a run that is half done, None if there is none."""
        path = self.path(order, name, ".partial")
        if not path.is_file():
            return None
        with safetensors.safe_open(path, framework="pt") as file:
            facts = json.loads(file.metadata()["facts"])
            return {key: file.get_tensor(key) for key in file.keys()}, facts  # noqa: SIM118

    def save_partial(
        self, order: int, name: str, state: dict[str, Tensor], facts: dict[str, Any]
    ) -> None:
        """Keep a run between two tasks."""
        blob = safetensors.torch.save(state, metadata={"facts": json.dumps(facts)})
        write_whole(self.path(order, name, ".partial"), blob)

    def all(self) -> Iterator[tuple[int, str, dict[str, Any]]]:
        """Yield order, name and content of every finished run."""
        for path in sorted(self.folder.glob("order-*/*.json")):
            order = int(path.parent.name.removeprefix("order-"))
            yield order, path.stem, json.loads(path.read_text(encoding="utf-8"))


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: a run may be cut off at any moment."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
