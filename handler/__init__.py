"""What runs inside the process that logs: `ShardHandler`, `count` and `erase`, `counter`, `busy`,
and `log_uncaught`.
"""

from shardlog.handler.counters import counter
from shardlog.handler.handler import ShardHandler
from shardlog.handler.tasks import busy
from shardlog.handler.uncaught import log_uncaught
from shardlog.handler.words import count, erase

__all__ = ["ShardHandler", "busy", "count", "counter", "erase", "log_uncaught"]
