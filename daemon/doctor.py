"""What `teacherd doctor` looks at: libraries, device, directories, base model, port."""

import os
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import torch

from teacherd.daemon.config import Config
from teacherd.daemon.device import find_device
from teacherd.daemon.endpoints import bind
from teacherd.daemon.errors import ConfigurationError, TemporaryError, UnavailableError
from teacherd.daemon.masking import MASK
from teacherd.daemon.notifications import (
    NotificationsConfig,
    check_receivers,
    mask_webhook,
)
from teacherd.daemon.opening import load_base
from teacherd.daemon.record_archive_opening import open_archive
from teacherd.daemon.source_opening import has_fast_checksums, source_problems


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    state: Literal["ok", "note", "missing"]
    subject: str
    detail: str

    def to_json(self) -> dict[str, str]:
        """Return the finding as plain values."""
        return asdict(self)


def examine(config: Config) -> list[Finding]:
    """Look at everything; never raises for what is missing."""
    return [
        _torch(),
        _device(config),
        _crc32c(),
        _base(config),
        _directory("state directory", Path(config.process.state_directory)),
        _kafka(config) if config.source == "kafka" else _stream_log(Path(config.stream_log.path)),
        _port(config),
        *_notifications(config.notifications),
    ]


def _torch() -> Finding:
    threads = torch.get_num_threads()
    capability = torch.backends.cpu.get_cpu_capability()
    return Finding("ok", "torch", f"{torch.__version__}, {threads} threads, {capability}")


def _device(config: Config) -> Finding:
    try:
        device = find_device(config.process.device)
    except ValueError as error:
        return Finding("missing", "device", f"process.device: {error}")
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        return Finding("ok", "device", f"{name}, CUDA {torch.version.cuda}")
    return Finding("note", "device", "learning runs on the CPU")


def _crc32c() -> Finding:
    if not has_fast_checksums():
        return Finding(
            "missing", "crc32c", "kafka-python without it reads about 5 MB/s: pip install crc32c"
        )
    return Finding("ok", "crc32c", f"with kafka-python {version('kafka-python')}")


def _base(config: Config) -> Finding:
    try:
        manifest = load_base(config.model).manifest
    except ConfigurationError as error:
        return Finding("missing", "base model", "; ".join(map(str, error.problems)))
    return Finding(
        "ok", "base model", f"{manifest.architecture.name}, {len(manifest.classes)} classes"
    )


def _directory(subject: str, path: Path) -> Finding:
    existing = path.absolute()
    while not os.path.lexists(existing):
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return Finding("missing", subject, f"{path}: {existing} is not a writable directory")
    free = os.statvfs(existing)
    gigabytes = free.f_bavail * free.f_frsize / 1e9
    return Finding("ok", subject, f"{path.absolute()}, {gigabytes:.1f} GB free")


def _stream_log(path: Path) -> Finding:
    if not path.absolute().parent.is_dir():
        return Finding("missing", "stream log", f"{path}: its directory must exist; make it")
    return _directory("stream log", path.parent)


def _kafka(config: Config) -> Finding:
    subject, servers = "Kafka", config.kafka.bootstrap_servers
    try:
        with source_problems(), closing(open_archive(config)) as archive:
            num_partitions = len(archive.earliest())
    except (ConfigurationError, UnavailableError) as error:
        return Finding("missing", subject, str(error))
    topic = config.kafka.topic
    if num_partitions == 0:
        return Finding("missing", subject, f"{servers} has no topic {topic}; make it")
    return Finding("ok", subject, f"{topic} at {servers}, partitions: {num_partitions}")


def _notifications(config: NotificationsConfig) -> list[Finding]:
    subject = "notifications"
    if not config.receivers:
        return []
    try:
        check_receivers(config)
    except ConfigurationError as error:
        return [Finding("missing", subject, "; ".join(map(str, error.problems)))]
    told = [mask_webhook(config.webhook_url, mask=MASK)] if config.webhook_url else []
    told += [config.command[0]] if config.command else []
    return [Finding("ok", subject, f"{', '.join(config.events)} to {' and '.join(told)}")]


def _port(config: Config) -> Finding:
    try:
        bind(config.endpoints).close()
    except TemporaryError as error:
        return Finding("note", "port", f"{error} (a running daemon?)")
    except ConfigurationError as error:
        return Finding("missing", "port", "; ".join(map(str, error.problems)))
    return Finding("ok", "port", f"{config.endpoints.host}:{config.endpoints.port} is free")
