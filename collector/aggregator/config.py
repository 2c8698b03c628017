"""What an aggregator can be told, validated."""

from __future__ import annotations

from dataclasses import dataclass

from shardlog.crdt.endpoint import check_address, check_apart, snapshot_address
from shardlog.crdt.errors import ConfigError
from shardlog.crdt.retention import Retention


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregatorConfig:
    """Settings of one aggregator. Raises ConfigError for what can't work."""

    listen: str
    """The address to which collectors connect."""
    serve: str
    """The address at which monitors read the cluster's state."""
    to: tuple[str, ...] = ()
    """The addresses of the aggregators above: each gets the streams of all hosts."""
    store: str | None = None
    """The folder in which all that was heard outlives a restart; None: nowhere."""
    peer: tuple[str, ...] = ()
    """The `listen` addresses of twins, from which departed hosts are fetched at the start."""
    insecure: bool = False
    """Whether tcp addresses beyond loopback are allowed, without encryption."""
    retention: Retention = Retention()  # noqa: RUF009 - it is immutable
    """How long what is said is kept: the same table as the collectors have."""
    heartbeat_interval_ms: int = 1000
    sources_max: int = 10_000
    """Routes beyond this number are refused: a host counts once for each node it is heard by."""
    syncs_max: int = 32
    """How many snapshots may be under way at once; the others wait their turn."""

    def __post_init__(self) -> None:
        for address in (self.listen, self.serve, *self.to, *self.peer):
            check_address(address, insecure=self.insecure)
        check_apart((self.listen, snapshot_address(self.listen)), self.serve)
        for flag, addresses in (("--to", self.to), ("--peer", self.peer)):
            if self.listen in addresses:
                raise ConfigError(f"{self.listen}: {flag} names the aggregator's own --listen")
