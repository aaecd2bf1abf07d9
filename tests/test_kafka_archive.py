"""Looking things up in a topic without leaving a trace in any group."""

from kafka_broker import open_admin
from kafka_service import KafkaService

from teacherd.consumers.kafka_archive import KafkaArchive
from teacherd.consumers.kafka_config import KafkaConfig
from teacherd.consumers.record import NewRecord, OffsetRange, Partition


def test_an_archive_reads_what_is_left_and_commits_nothing(kafka: KafkaService) -> None:
    """Retention may have taken the beginning."""
    topic = kafka.create_topic(partitions=2)
    kafka.produce(topic, [NewRecord(b"value")] * 8, partition=1)
    kafka.delete_records(topic, 1, below=3)
    group = f"{topic}-group"
    archive = KafkaArchive(KafkaConfig(bootstrap_servers=kafka.bootstrap, topic=topic, group=group))
    try:
        assert {Partition(topic, 0): 0, Partition(topic, 1): 3} == archive.earliest()

        batches = list(archive.read([OffsetRange(Partition(topic, 1), 0, 5)]))

        assert [3, 4] == [offset for batch in batches for offset in batch.offsets]
    finally:
        archive.close()
    admin = open_admin(kafka.bootstrap)
    try:
        assert group not in {each["group_id"] for each in admin.list_groups()}
    finally:
        admin.close()
