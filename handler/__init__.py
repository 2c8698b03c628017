"""What runs inside the process that logs: `ShardHandler`, and the words `count` and `erase`."""

from shardlog.handler.handler import ShardHandler
from shardlog.handler.words import count, erase

__all__ = ["ShardHandler", "count", "erase"]
