"""What a collector can be told, validated."""

from __future__ import annotations

from dataclasses import dataclass

from shardlog.crdt.endpoint import check_address, check_apart
from shardlog.crdt.errors import ConfigError
from shardlog.crdt.retention import Retention
from shardlog.crdt.stamp import MAX_SKEW_NS

HOST_BYTES_MAX = 255
"""As all names on the wire."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarConfig:
    """Settings of one collector. Raises ConfigError for what can't work."""

    listen: str
    """The address at which blades of this host send."""
    to: tuple[str, ...]
    """The aggregators' addresses: each gets the same stream."""
    host: str
    """The name of this host in the cluster."""
    store: str
    """The folder in which counts and registers outlive a restart."""
    serve: str | None = None
    """Where monitors may read this host's own state; None: nowhere."""
    insecure: bool = False
    """Whether tcp addresses beyond loopback are allowed, without encryption."""
    heartbeat_interval_ms: int = 1000
    lost_after_ms: int = 5000
    """One without a life file that is silent for so long is called lost, until it speaks again."""
    late_after_ms: int = 3000
    """A process that lives and is silent for so long is called late, until it speaks again."""
    silent_after_ms: int = 10_000
    """And for so long, silent."""
    presence_interval_ms: int = 5000
    """How often the time at which each process was last heard is published."""
    max_skew_ms: int = MAX_SKEW_NS // 1_000_000
    """Registers and floors stamped further ahead than this are refused."""
    retention: Retention = Retention()  # noqa: RUF009 - it is immutable
    """How long what is said is kept."""
    paths_max: int = 1_000_000
    """New paths beyond this are refused."""
    error_groups_max: int = 1000
    """What is counted in groups of errors beyond this goes to the group `overflow`."""

    def __post_init__(self) -> None:
        for address in (self.listen, *self.to, *([self.serve] if self.serve else [])):
            check_address(address, insecure=self.insecure)
        if self.serve:
            check_apart((self.listen,), self.serve)
        if not self.host.isprintable() or not 0 < len(self.host.encode()) <= HOST_BYTES_MAX:
            raise ConfigError(
                f"{self.host[:HOST_BYTES_MAX]!r} is no name of a host: --host NAME, of 1 to "
                f"{HOST_BYTES_MAX} bytes of text that prints"
            )
        if self.lost_after_ms < 3 * self.heartbeat_interval_ms:
            raise ConfigError("lost_after_ms must span at least three heartbeats")
