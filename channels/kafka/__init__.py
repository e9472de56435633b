"""Kafka: topics, group ids and records as Knative's own Kafka broker and channel have them. The owner of aiokafka.

Start with channel.py. wire.py speaks to the cluster; publisher.py stores; member.py says which partitions are ours; reader.py
reads them once for all; cursor.py is one subscription in one partition; tracker.py (pure) is what it has settled there.
"""

from channels.kafka.channel import KafkaChannel

__all__ = ["KafkaChannel"]
