"""The collector's shell: sockets, store and clock around the machine. It obeys, it decides not."""

from __future__ import annotations

import logging
import os
import secrets
import sqlite3
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import zmq
from zmq.utils.monitor import recv_monitor_message

from shardlog.collector import follow
from shardlog.collector.batch import Lead, Name, Persist
from shardlog.collector.service import (
    one_line,
    raise_files_limit,
    say_ready,
    say_stopping,
    stop_requests,
)
from shardlog.collector.sidecar.joining import join
from shardlog.collector.sidecar.kernel import Kernel
from shardlog.collector.sidecar.life import LifeFolder
from shardlog.collector.sidecar.machine import Sidecar, SidecarEffect
from shardlog.collector.sidecar.owner import sole_owner
from shardlog.collector.sidecar.watch import LifeWatch
from shardlog.collector.store import Store
from shardlog.crdt.endpoint import snapshot_address
from shardlog.crdt.errors import RemoteProtocolError
from shardlog.crdt.life import life_folder
from shardlog.crdt.process_id import process_id
from shardlog.crdt.replication.messages import Answer, Confirm, Log, PassDown, Publish
from shardlog.crdt.wire import codec
from shardlog.crdt.wire.schema import FRAME_BYTES_GOAL

if TYPE_CHECKING:
    from collections.abc import Container

    from shardlog.collector.sidecar.config import SidecarConfig

MS = 1_000_000
DRAIN_MS = 500
"""How long a stopping collector waits for another report before it closes."""
DRAIN_MS_MAX = 3000
"""How long it takes reports at all: blades that live on never cease, and will send them again."""
LAST_WORDS_MS = 1000
LOOK_MS = 1000
"""How often a collector looks whether the file of its socket is still there."""

log = logging.getLogger("shardlog.collector")


def run(config: SidecarConfig) -> None:
    """Run a collector until SIGTERM or SIGINT.

    Raises:
        ConfigError: an address, the store or the folder of the socket can't be used.
    """
    raise_files_limit()
    with ExitStack() as stack:
        stop = stack.enter_context(stop_requests())
        stack.enter_context(sole_owner(config.listen))
        store = Store(config.store)
        stack.callback(store.close)
        path = life_folder(config.listen)
        folder = None if path is None else LifeFolder(path)
        if folder is not None:
            stack.callback(folder.close)
            folder.drop_halves(time.time_ns())
        restored = store.load()
        epoch = secrets.token_hex(8)
        store.begin(epoch)
        machine = Sidecar(
            config,
            restored,
            process=process_id(
                config.host, config.host, "", os.getpid(), time.time_ns(), secrets.token_hex(4)
            ),
            epoch=epoch,
            now_ns=time.time_ns(),
            bytes_max=FRAME_BYTES_GOAL,
            named=None if folder is None else folder.named(),
            named_version=0 if folder is None else folder.version(),
        )
        context = follow.new_context()
        stack.callback(context.term)
        _Shell(config, machine, store, folder, context, stack).run(stop)


class _Shell:
    """The sockets of one collector."""

    def __init__(
        self,
        config: SidecarConfig,
        machine: Sidecar,
        store: Store,
        folder: LifeFolder | None,
        context: follow.Context,
        stack: ExitStack,
    ) -> None:
        self._config = config
        self._machine = machine
        self._store = store
        self._poller = zmq.Poller()
        self._publishers: dict[Literal["up", "serve"], follow.Socket] = {}
        self._context = context
        self._folder = folder
        self._watch: LifeWatch | None = None
        self._answerers: dict[bytes, follow.Socket] = {}
        open_socket = stack.callback

        if folder is not None:
            kernel = Kernel()
            open_socket(kernel.close)
            self._watch = LifeWatch(folder, machine, kernel)
            self._take_in_what_was_left(self._watch)
        self._pull = follow.pull_bind(context, config.listen)
        open_socket(self._pull.close)
        self._looked_ns = time.monotonic_ns()
        self._is_deaf = False
        self._monitor = self._pull.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        open_socket(self._monitor.close)  # an open one would hold up the end of the context
        open_socket(self._pull.disable_monitor)
        if config.to:
            up = follow.xpub_connect(context, *config.to)
            open_socket(lambda: up.close(linger=LAST_WORDS_MS))
            self._publishers["up"] = up
        open_socket(self._close_answerers)
        self._open_answerers()
        if config.serve:
            serve = follow.xpub_bind(context, config.serve)
            open_socket(serve.close)
            self._publishers["serve"] = serve
            self._router = follow.router_bind(context, snapshot_address(config.serve))
            open_socket(self._router.close)
            self._poller.register(self._router, zmq.POLLIN)
        for polled in (self._pull, self._monitor, *self._publishers.values()):
            self._poller.register(polled, zmq.POLLIN)

    def run(self, stop: int) -> None:
        """Receive, step, obey, re-arm; on a request to stop, drain and end."""
        say_ready(self._config.listen, *([self._config.serve] if self._config.serve else []))
        self._poller.register(stop, zmq.POLLIN)
        drained_ns = ended_ns = 0  # of the monotonic clock: no step of the other holds up the end
        is_stopping = False
        while not is_stopping or time.monotonic_ns() < min(drained_ns, ended_ns):
            wait_ns = self._machine.next_timer_ns() - time.time_ns()
            if self._watch is not None and self._watch.has_more:
                wait_ns = 0
            if is_stopping:
                wait_ns = min(wait_ns, drained_ns - time.monotonic_ns())
            ready = dict(
                self._poller.poll(follow.wait_ms(wait_ns, self._config.heartbeat_interval_ms))
            )
            if stop in ready:
                say_stopping()
                self._poller.unregister(stop)
                is_stopping = True
                drained_ns = time.monotonic_ns() + DRAIN_MS * MS
                ended_ns = time.monotonic_ns() + DRAIN_MS_MAX * MS
            now_ns = time.time_ns()
            if self._receive(ready, now_ns):
                drained_ns = time.monotonic_ns() + DRAIN_MS * MS
            self._look_after_socket()
            if self._watch is not None:
                is_drained = not self._pull.poll(0)
                self._watch.look(now_ns, time.monotonic_ns(), is_drained=is_drained)
            self._machine.handle_timer(now_ns)
            self._obey_all()

    def _take_in_what_was_left(self, watch: LifeWatch) -> None:
        """Before anybody can be answered: what ended while no collector was there."""
        watch.start(time.time_ns())
        self._obey_all()
        while watch.has_more:
            watch.look(time.time_ns(), time.monotonic_ns(), is_drained=True)
            self._obey_all()

    def _receive(self, ready: Container[object], now_ns: int) -> bool:
        """Hand all that has arrived on these to the machine; whether there were reports."""
        has_reports = False
        if self._pull in ready:
            for report in join(follow.gathered(self._pull)):
                has_reports = True
                if isinstance(report, RemoteProtocolError):
                    self._machine.refuse(report.reason, f"a report: {report}", now_ns)
                else:
                    self._machine.receive(report, now_ns)
        for channel, publisher in self._publishers.items():
            for subscription in follow.drain(publisher) if publisher in ready else ():
                if subscription[:1] == b"\x01":
                    self._machine.subscribed(channel, now_ns)
        for address, dealer in self._answerers.items():
            for frame in follow.drain(dealer) if dealer in ready else ():
                self._hear_parent(address, frame, now_ns)
        if self._config.serve and self._router in ready:
            for peer, *rest in follow.drain_multipart(self._router):
                self._hear_monitor(peer, rest[-1] if rest else b"", now_ns)
        while self._monitor in ready and self._monitor.poll(0):
            recv_monitor_message(self._monitor)
            self._machine.note("disconnects", now_ns)
        return has_reports

    def _open_answerers(self) -> None:
        """Be known to the aggregators by the name of the replica."""
        replica = self._machine.replica.encode()
        for address in self._config.to:
            dealer = follow.dealer_connect(self._context, snapshot_address(address), replica)
            self._answerers[address.encode()] = dealer
            self._poller.register(dealer, zmq.POLLIN)

    def _close_answerers(self) -> None:
        while self._answerers:
            _, dealer = self._answerers.popitem()
            self._poller.unregister(dealer)
            dealer.close()

    def _name(self, replicas: tuple[str, ...]) -> None:
        """Another replica collects from now on, or the first; at the start no socket is open."""
        if self._folder is not None:
            try:
                self._folder.name(replicas)
            except OSError as error:
                log.warning(
                    "%s can't be written: %s; a loss of the store would not be noticed",
                    self._folder.path,
                    error.strerror,
                )
        if self._answerers:
            self._close_answerers()
            self._open_answerers()

    def _look_after_socket(self) -> None:
        """Bind again if the file is gone, as by what tidies up temporary folders.

        Nobody else may have bound there meanwhile: this process holds the lock.
        """
        if time.monotonic_ns() - self._looked_ns < LOOK_MS * MS:
            return
        self._looked_ns = time.monotonic_ns()
        listen = self._config.listen
        path = Path(listen.removeprefix("ipc://"))
        if not listen.startswith("ipc://") or path.exists():
            return
        with suppress(zmq.ZMQError):  # the last attempt has come so far already
            self._pull.unbind(listen)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._pull.bind(listen)
        except (OSError, zmq.ZMQError) as error:
            if not self._is_deaf:
                log.warning("%s was removed, and can't be bound again: %s", listen, error)
            self._is_deaf = True
        else:
            log.warning("%s was removed, and is bound again", listen)
            self._is_deaf = False

    def _hear_parent(self, peer: bytes, frame: bytes, now_ns: int) -> None:
        try:
            message = codec.decode_from_above(frame)
        except RemoteProtocolError as error:
            self._machine.refuse(error.reason, f"an aggregator: {error}", now_ns)
            return
        if isinstance(message, PassDown):
            self._machine.pass_down(peer, message)
        else:
            self._machine.request("up", peer, message)

    def _hear_monitor(self, peer: bytes, frame: bytes, now_ns: int) -> None:
        try:
            self._machine.request("serve", peer, codec.decode_request(frame))
        except RemoteProtocolError as error:
            self._machine.refuse(error.reason, f"a request: {error}", now_ns)

    def _obey_all(self) -> None:
        for effect in self._machine.take_effects():
            self._obey(effect)

    def _obey(self, effect: SidecarEffect) -> None:
        match effect:
            case Persist():
                self._persist(effect)
            case Name(replicas):
                self._name(replicas)
            case Lead():
                if self._watch is not None:
                    self._watch.obey([effect])
            case Publish(channel, message):
                publisher = self._publishers.get(channel)
                if publisher is not None:
                    publisher.send(codec.encode_published(message))
            case Answer("up", peer, message) | Confirm(peer, message):
                follow.offer(self._answerers[peer], [codec.encode(message)])
            case Answer(_, peer, message):
                follow.offer(self._router, [peer, codec.encode(message)])
            case Log(text):
                log.warning(one_line(text))

    def _persist(self, batch: Persist) -> None:
        try:
            self._store.commit(batch)
        except sqlite3.Error as error:
            why = f"{self._store.path} can't be written: {error}"
            self._machine.not_persisted(batch, why, time.time_ns())
        else:
            if self._folder is not None:
                self._folder.note_version(batch.version)
            due = self._machine.persisted(time.time_ns())
            if self._watch is not None:
                self._watch.obey(due)
