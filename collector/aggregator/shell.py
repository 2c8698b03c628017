"""The aggregator's shell: sockets and clock around the machine. It obeys, it never decides."""

from __future__ import annotations

import logging
import random
import secrets
import sqlite3
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import zmq

from shardlog.collector import follow
from shardlog.collector.aggregator.machine import Aggregator, AggregatorEffect, Channel
from shardlog.collector.aggregator.memory import Remember
from shardlog.collector.aggregator.store import Store
from shardlog.collector.aggregator.twin import AnswerTwin, AskTwin
from shardlog.collector.service import (
    one_line,
    raise_files_limit,
    say_ready,
    say_stopping,
    stop_requests,
)
from shardlog.crdt.endpoint import snapshot_address
from shardlog.crdt.errors import RemoteProtocolError
from shardlog.crdt.replication.messages import (
    Answer,
    Ask,
    Confirm,
    Heard,
    Log,
    PassDown,
    Publish,
    SnapshotChunk,
    Tell,
)
from shardlog.crdt.wire import codec
from shardlog.crdt.wire.schema import FRAME_BYTES_GOAL

if TYPE_CHECKING:
    from collections.abc import Container

    from shardlog.collector.aggregator.config import AggregatorConfig

log = logging.getLogger("shardlog.aggregator")


def run(config: AggregatorConfig) -> None:
    """Run an aggregator until SIGTERM or SIGINT.

    Raises:
        ConfigError: an address can't be used.
    """
    raise_files_limit()
    with ExitStack() as stack:
        stop = stack.enter_context(stop_requests())
        store = None
        if config.store is not None:
            store = Store(config.store)
            stack.callback(store.close)
        node = secrets.token_hex(8)
        machine = Aggregator(
            config,
            source=node,
            epoch=secrets.token_hex(8),
            rng=random.Random(),
            now_ns=time.time_ns(),
            bytes_max=FRAME_BYTES_GOAL,
            remembered=[] if store is None else store.load(),
            lower_bound="" if store is None else store.lower_bound,
        )
        context = follow.new_context()
        stack.callback(context.term)
        _Shell(config, machine, node, store, context, stack).run(stop)


class _Shell:
    """The sockets of one aggregator. The routers are bound before what makes others use them."""

    def __init__(
        self,
        config: AggregatorConfig,
        machine: Aggregator,
        node: str,
        store: Store | None,
        context: follow.Context,
        stack: ExitStack,
    ) -> None:
        self._config = config
        self._machine = machine
        self._store = store
        self._poller = zmq.Poller()
        self._ask = follow.router_bind(context, snapshot_address(config.listen))
        stack.callback(self._ask.close)
        self._sub = follow.sub_bind(context, config.listen)
        stack.callback(self._sub.close)
        self._answer = follow.router_bind(context, snapshot_address(config.serve))
        stack.callback(self._answer.close)
        self._publish = follow.xpub_bind(context, config.serve)
        stack.callback(self._publish.close)
        self._publishers: dict[Channel, follow.Socket] = {"serve": self._publish}
        self._up_answers: dict[bytes, follow.Socket] = {}
        if config.to:
            up = follow.xpub_connect(context, *config.to, send_hwm=follow.PASS_ON_HWM)
            stack.callback(up.close)
            self._publishers["up"] = up
        for address in config.to:
            dealer = follow.dealer_connect(context, snapshot_address(address), node.encode())
            stack.callback(dealer.close)
            self._up_answers[address.encode()] = dealer
        self._twins: dict[str, follow.Socket] = {}
        for address in config.peer:
            twin = follow.dealer_connect(context, snapshot_address(address))
            stack.callback(twin.close)
            self._twins[address] = twin
        dealers = (*self._up_answers.values(), *self._twins.values())
        for socket in (self._ask, self._sub, self._answer, *self._publishers.values(), *dealers):
            self._poller.register(socket, zmq.POLLIN)

    def run(self, stop: int) -> None:
        """Receive, step, obey, re-arm."""
        say_ready(self._config.listen, self._config.serve)
        self._poller.register(stop, zmq.POLLIN)
        while True:
            wait_ns = self._machine.next_timer_ns() - time.time_ns()
            ready = dict(
                self._poller.poll(follow.wait_ms(wait_ns, self._config.heartbeat_interval_ms))
            )
            if stop in ready:
                say_stopping()
                return
            now_ns = time.time_ns()
            self._receive(ready, now_ns)
            self._machine.handle_timer(now_ns)
            for effect in self._machine.take_effects():
                self._obey(effect)

    def _receive(self, ready: Container[object], now_ns: int) -> None:
        if self._sub in ready:
            for frame in follow.drain(self._sub):
                self._hear_stream(frame, now_ns)
        if self._ask in ready:
            for peer, *rest in follow.drain_multipart(self._ask):
                self._hear_child(peer, rest[-1] if rest else b"", now_ns)
        for peer_address, twin in self._twins.items():
            for frame in follow.drain(twin) if twin in ready else ():
                self._hear_twin(peer_address, frame, now_ns)
        for channel, publisher in self._publishers.items():
            for subscription in follow.drain(publisher) if publisher in ready else ():
                if subscription[:1] == b"\x01":
                    self._machine.subscribed(channel, now_ns)
        if self._answer in ready:
            for peer, *rest in follow.drain_multipart(self._answer):
                self._hear_monitor(peer, rest[-1] if rest else b"", now_ns)
        for address, dealer in self._up_answers.items():
            for frame in follow.drain(dealer) if dealer in ready else ():
                self._hear_parent(address, frame, now_ns)

    def _hear_child(self, peer: bytes, frame: bytes, now_ns: int) -> None:
        """From the source itself or who passes it on; or a twin asks."""
        try:
            message = codec.decode_from_below(frame)
            if isinstance(message, Heard):
                self._machine.confirmed(peer.decode(errors="replace"), message.number)
            elif isinstance(message, SnapshotChunk):
                sender = message.via or message.source
                if sender.encode() != peer:
                    raise RemoteProtocolError("sender", f"{peer!r} answered for {sender!r}")
                self._machine.receive(message, now_ns)
            else:
                self._machine.request_of_twin(peer, message, now_ns)
        except RemoteProtocolError as error:
            self._machine.refuse(error.reason, f"a collector's answer: {error}")

    def _hear_parent(self, peer: bytes, frame: bytes, now_ns: int) -> None:
        try:
            message = codec.decode_from_above(frame)
        except RemoteProtocolError as error:
            self._machine.refuse(error.reason, f"an aggregator above: {error}")
            return
        if isinstance(message, PassDown):
            self._machine.pass_down(peer, message)
        else:
            self._machine.request("up", peer, message, now_ns)

    def _hear_monitor(self, peer: bytes, frame: bytes, now_ns: int) -> None:
        try:
            self._machine.request("serve", peer, codec.decode_request(frame), now_ns)
        except RemoteProtocolError as error:
            self._machine.refuse(error.reason, f"a request: {error}")

    def _hear_stream(self, frame: bytes, now_ns: int) -> None:
        try:
            self._machine.receive(codec.decode_published(frame), now_ns)
        except RemoteProtocolError as error:
            self._machine.refuse(error.reason, f"a collector's stream: {error}")

    def _hear_twin(self, address: str, frame: bytes, now_ns: int) -> None:
        try:
            self._machine.receive_from_twin(address, codec.decode_from_twin(frame), now_ns)
        except RemoteProtocolError as error:
            self._machine.refuse(error.reason, f"the twin at {address}: {error}")

    def _obey(self, effect: AggregatorEffect) -> None:
        match effect:
            case Remember():
                self._remember(effect)
            case Publish(channel, message):
                self._publishers[channel].send(codec.encode_published(message))
            case AnswerTwin(peer, answer):
                follow.offer(self._ask, [peer, codec.encode(answer)])
            case AskTwin(address, message):
                follow.offer(self._twins[address], [codec.encode(message)])
            case Answer("up", peer, chunk):
                follow.offer(self._up_answers[peer], [codec.encode(chunk)])
            case Answer(_, peer, chunk):
                follow.offer(self._answer, [peer, codec.encode(chunk)])
            case Ask(source, request, via):
                follow.offer(self._ask, [(via or source).encode(), codec.encode(request)])
            case Tell(child, message):
                follow.offer(self._ask, [child.encode(), codec.encode(message)])
            case Confirm(peer, message):
                follow.offer(self._up_answers[peer], [codec.encode(message)])
            case Log(text):
                log.warning(one_line(text))

    def _remember(self, batch: Remember) -> None:
        assert self._store is not None
        try:
            self._store.commit(batch)
        except sqlite3.Error as error:
            why = f"{self._store.path} can't be written: {error}"
            self._machine.not_remembered(batch, why)
        else:
            self._machine.remembered()
