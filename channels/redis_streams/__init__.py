"""The Redis Streams channel: durable as far as Redis is, shared by every process that has the same plan and the same Redis.

Events are matched before they are stored: each subscription has a stream of its own, which holds what it has not settled
yet and nothing else. `channel.py` is the Channel, `topic.py` a topic and what is known of its other readers,
`subscription.py` the life of an event for one subscription (`delivery.py`: what it hands out; `publish.py`: what waits for
its 202), `takeover.py` what is found in Redis at the start and after a death, `lane.py` the one connection and its batches, `wire.py` the
bytes on it, `locate.py` where to connect to, `keys.py` names and rows in Redis, `sink.py` the RedisStreamSink. Nothing
else imports redis or hiredis.
"""

from channels.redis_streams.channel import RedisChannel
from channels.redis_streams.sink import RedisSinks

__all__ = ["RedisChannel", "RedisSinks"]
