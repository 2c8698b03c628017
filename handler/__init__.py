"""What runs inside the process that logs: `ShardHandler`, its words, `counter` and `distribution`,
`busy`, and `log_uncaught`.
"""

from shardlog.handler.counters import counter, distribution
from shardlog.handler.handler import ShardHandler
from shardlog.handler.tasks import busy
from shardlog.handler.uncaught import log_uncaught
from shardlog.handler.words import count, erase, observe

__all__ = [
    "ShardHandler",
    "busy",
    "count",
    "counter",
    "distribution",
    "erase",
    "log_uncaught",
    "observe",
]
