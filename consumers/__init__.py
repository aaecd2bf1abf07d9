"""Records in: sources, decoding, dead letters, the task buffer. Knows Kafka and bytes only."""
