"""The jars of a real Apache Kafka broker, fetched once by Maven into a cache outside the tree."""

import hashlib
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from programs import find_program

_POM = Path(__file__).parents[1] / "kafka" / "pom.xml"
_JAVA_HINT = "apt-get install openjdk-17-jre-headless"
_MAVEN_HINT = "apt-get install maven"


def find_java(environment: Mapping[str, str]) -> Path:
    """Return the program that runs the broker; without it the test is skipped, or fails in CI."""
    return find_program("java", _JAVA_HINT, environment=environment)


def fetch_jars(environment: Mapping[str, str]) -> Path:
    """Return the folder with the jars that tests/kafka/pom.xml names; Maven is needed once."""
    cache = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "teacherd"
    digest = hashlib.sha256(_POM.read_bytes()).hexdigest()[:12]
    folder = cache / f"kafka-{digest}"
    if folder.is_dir():
        return folder
    maven = find_program("mvn", _MAVEN_HINT, environment=environment)
    cache.mkdir(parents=True, exist_ok=True)
    draft = cache / f".{folder.name}.{os.getpid()}"
    command = [str(maven), "-q", "-B", "-f", str(_POM), "dependency:copy-dependencies"]
    subprocess.run([*command, f"-DoutputDirectory={draft}"], check=True, timeout=600)
    try:
        draft.rename(folder)
    except OSError:
        # Another process was first; its jars are the same.
        assert folder.is_dir(), f"{folder} cannot be made"
    return folder
