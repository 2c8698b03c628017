"""What runs inside the process that logs: `ShardHandler`, `count` and `erase`, and `counter`."""

from shardlog.handler.counters import counter
from shardlog.handler.handler import ShardHandler
from shardlog.handler.words import count, erase

__all__ = ["ShardHandler", "count", "counter", "erase"]
