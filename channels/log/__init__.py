"""The log channel: durable on local disk, in LMDB; the default of `knit run`.

`channel.py` is the Channel (topics, subscriptions, stores of workers that are no more), `partition.py` the life of an
event in one store, `positions.py` what is known of it in memory, `store.py` the files and the one transaction a batch
becomes, `record.py` the bytes, `pages.py` and `repair.py` what is done about a damaged file. Nothing else imports lmdb.
"""

from channels.log.channel import LogChannel

__all__ = ["LogChannel"]
