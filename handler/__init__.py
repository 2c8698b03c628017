"""What runs inside the process that logs: `ShardHandler`, `count` and `erase`, `counter`, and
`log_uncaught`.
"""

from shardlog.handler.counters import counter
from shardlog.handler.handler import ShardHandler
from shardlog.handler.uncaught import log_uncaught
from shardlog.handler.words import count, erase

__all__ = ["ShardHandler", "count", "counter", "erase", "log_uncaught"]
