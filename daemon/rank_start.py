"""What rank 0 tells the others at its start: the stream's places, and the settings to be equal."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from teacherd.daemon.config import Config, to_plain
from teacherd.daemon.errors import ConfigurationError, Problem
from teacherd.daemon.lineage import Lineage
from teacherd.daemon.rank_message import RankMessage

_SHARED = ("source", "decoding", "tasks")
_SHARED_OF_KAFKA = ("topic", "group", "start_at", "on_lost_records")


def pack_start(
    config: Config, lineage: Lineage, *, input_shape: tuple[int, ...], has_open_labels: bool
) -> RankMessage:
    """Return what another rank needs to read its part of the stream."""
    return RankMessage(
        "start",
        {
            "lineage": lineage.id,
            "places": [[*each, place] for each, place in lineage.places.items()],
            "topic_ids": [[*each, name] for each, name in lineage.topic_ids.items()],
            "input_shape": list(input_shape),
            "classes": list(lineage.first_classes),
            "has_open_labels": has_open_labels,
            "settings": shared_settings(config),
        },
    )


def shared_settings(config: Config) -> dict[str, Any]:
    """Return the settings that must be the same on all ranks, by dotted key."""
    plain = to_plain(asdict(config))
    sections = {name: plain[name] for name in _SHARED}
    sections["kafka"] = {name: plain["kafka"][name] for name in _SHARED_OF_KAFKA}
    shared: dict[str, Any] = {"source": sections.pop("source")}
    for name, section in sections.items():
        shared |= {f"{name}.{key}": value for key, value in section.items()}
    return shared


def require_same_settings(config: Config, of_rank_0: Mapping[str, Any]) -> None:
    """Hold this rank's settings against rank 0's.

    Raises:
        ConfigurationError: Some differ that must not.
    """
    problems = [
        Problem(
            key,
            f"{value!r}: rank 0 has {of_rank_0.get(key)!r}; give all ranks the same configuration",
        )
        for key, value in shared_settings(config).items()
        if of_rank_0.get(key) != value
    ]
    if problems:
        raise ConfigurationError(problems)
