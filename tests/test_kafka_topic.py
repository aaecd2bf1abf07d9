"""What a topic's settings say of how it is cleaned."""

import pytest

from teacherd.consumers.kafka_topic import cleanup_policy, is_compacted, retention_of
from teacherd.consumers.source import Retention


@pytest.mark.parametrize(
    ("policy", "expected"), [("delete", False), ("compact", True), ("compact,delete", True)]
)
def test_compaction_is_seen_beside_deletion(policy: str, expected: bool) -> None:
    """Both may be set; either way records of the same key vanish."""
    assert expected is is_compacted({"cleanup.policy": policy})


def test_hidden_settings_say_nothing() -> None:
    """Who lacks the right to see them gets none: no policy, and no bound that could be shown."""
    assert "" == cleanup_policy({})
    assert not is_compacted({})
    assert Retention() == retention_of({})


def test_a_topic_that_is_only_compacted_keeps_old_records() -> None:
    """Its bounds are without effect."""
    settings = {"cleanup.policy": "compact", "retention.ms": "1000", "retention.bytes": "1000"}

    assert Retention() == retention_of(settings)
