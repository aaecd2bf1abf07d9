"""The Kafka that tests talk to is a real one."""

from kafka_service import KafkaService

from teacherd.consumers.record import NewRecord


def test_a_topic_takes_records_and_says_where_it_ends(kafka: KafkaService) -> None:
    """Whichever of the three ways it was had."""
    topic = kafka.create_topic(partitions=2)

    assert [0, 1, 2] == kafka.produce(topic, [NewRecord(b"value")] * 3, partition=1)
    assert {0: 0, 1: 3} == kafka.ends(topic)


def test_two_topics_never_have_the_same_name(kafka: KafkaService) -> None:
    """Tests share the broker."""
    assert kafka.create_topic() != kafka.create_topic()
