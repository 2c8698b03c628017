"""The errors that shardlog raises on purpose. Nothing else is part of the interface.

A *local* protocol error is a mistake of the code that calls a machine, a *remote* one a mistake of
the peer: the first is a bug to mend, the second is refused, counted and named once in the log.
"""


class ShardlogError(Exception):
    """Base of all errors that shardlog raises on purpose."""


class ConfigError(ShardlogError):
    """A setting, address, key or path that a person can mend; the text says what, where and how."""


class Unreachable(ShardlogError):
    """Nobody answered at the address within the time that was given."""


class LocalProtocolError(ShardlogError):
    """This side used a machine in a way that its state does not allow."""


class RemoteProtocolError(ShardlogError):
    """The peer sent something that is not in the protocol.

    `reason` is one of a few fixed words, so that refusals can be counted by reason.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
