"""Reading one log call, for the tests of this folder."""

from __future__ import annotations

import logging
from typing import Any

from shardlog.crdt.delta import Erase, Total, Write
from shardlog.crdt.replication.messages import Report
from shardlog.crdt.wire.codec import decode_report, encode
from shardlog.handler.shard import Shard, ShardReader

READER = ShardReader("blade")


def log(
    extra: dict[Any, Any] | None,
    msg: object = "said",
    *args: object,
    logger: str = "app",
    reader: ShardReader = READER,
) -> Shard:
    """The shard of one call of a real logger, which makes the record."""
    record = logging.getLogger(logger).makeRecord(
        logger, logging.INFO, "app.py", 1, msg, args, None, "main", extra
    )
    return reader.read(record, 7)


def written(shard: Shard) -> dict[str, Any]:
    """What the shard writes by path, without the blade's message."""
    return dict(shard.writes[1:])


def check_sendable(shard: Shard) -> None:
    """The wire takes the shard and gives the same back, so no value is of a foreign type."""
    report = Report(
        "p",
        1,
        7,
        False,
        [Write(path, 7, 0, value) for path, value in shard.writes],
        [Erase(path, 7, 0) for path in shard.erases],
        [Total(path, 1, 7, 7, amount) for path, amount in shard.counts],
    )
    assert repr(decode_report(encode(report))) == repr(report)
    for number, sample in shard.refused.values():
        assert number > 0
        sample.encode()
