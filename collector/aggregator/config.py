"""What an aggregator can be told, validated."""

from __future__ import annotations

from dataclasses import dataclass

from shardlog.crdt.endpoint import check_address


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregatorConfig:
    """Settings of one aggregator. Raises ConfigError for what can't work."""

    listen: str
    """The address to which collectors connect."""
    serve: str
    """The address at which monitors read the cluster's state."""
    insecure: bool = False
    """Whether tcp addresses beyond loopback are allowed, without encryption."""
    heartbeat_interval_ms: int = 1000
    sources_max: int = 10_000
    """Streams beyond this number of sources are refused."""
    syncs_max: int = 32
    """How many snapshots may be under way at once; the others wait their turn."""

    def __post_init__(self) -> None:
        for address in (self.listen, self.serve):
            check_address(address, insecure=self.insecure)
