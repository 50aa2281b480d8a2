"""What the connections of one edge process share."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from typing import TYPE_CHECKING, Any, Protocol

import msgpack

from orbit.edge.access import Access, Origins
from orbit.edge.admission import Admission
from orbit.edge.attachment import Attachment
from orbit.edge.config import EdgeConfig
from orbit.edge.health import Health
from orbit.edge.hub import Hub
from orbit.edge.leaving import Leaving
from orbit.edge.metrics import Metrics
from orbit.edge.rates import Rates, address_of, networks
from orbit.edge.recent import Recent
from orbit.edge.rechecking import check_sessions
from orbit.edge.tasks import Tasks
from orbit.errors import Ended, NotFound, OrbitError, StoreUnusable
from orbit.protocol.ids import PublicName, TxId
from orbit.store import types as t
from orbit.store.store import Store

if TYPE_CHECKING:
    from orbit.edge.conversation import Conversation

log = logging.getLogger("orbit.edge")


class Peer(Protocol):
    """A client's connection, as its edge holds it."""

    id: str
    conversation: Conversation | None

    @property
    def waiting_bytes(self) -> int:
        """What the client hasn't taken yet."""

    def go_away(self, reconnect_after_ms: int) -> None:
        """Tell the client to connect elsewhere after that long."""

    def shutdown(self) -> None:
        """Close it: the edge restarts."""

    def tick(self, now: float) -> None:
        """Look whether the client is still there."""


class Edge:
    """One edge.

    Attributes:
        id: Its name among edges: drawn, so that one that comes back is another one.
        access: Who may do what.
        origins: Of which origins pages are let in.
        rates: How much of it.
        admission: Whether there is room for more.
        connections: The open WebSocket connections.
        draining: It is leaving.
        gaps: How often Redis was away, or a connection to it was made again.
        taking: Places that are being taken by attaches under way.
    """

    def __init__(self, config: EdgeConfig, store: Store, access: Access | None = None) -> None:
        self.id = secrets.token_hex(8)
        self.config = config
        self.store = store
        self.access = access or Access()
        self.origins = Origins(config.origins)
        self.rates = Rates(config.rates)
        self.admission = Admission(config.capacity)
        self._proxies = networks(config.trusted_proxies)
        self.metrics = Metrics()
        self.tasks = Tasks()
        self.connections: dict[str, Peer] = {}
        self.draining = False
        self.gaps = 0
        self.taking: set[t.Place] = set()
        self.hub = Hub(store, config.pulse, self.metrics, on_edge=self._hear, on_gap=self.recheck)
        self.leaving = Leaving(store, config.pulse.retry_s)
        self.health = Health(self)
        self.recent = Recent(self.hub)
        self._connection_ids = itertools.count(1)
        self._deserted = asyncio.Event()
        self._deserted.set()
        self._recheck_due = self._rechecking = False
        self.metrics.count("subscriber_restarts", "Times that the subscription had gone deaf", self._went_deaf)
        store.link.on_again = self.recheck
        self.metrics.gauge("connections", "Open WebSocket connections", lambda: len(self.connections))
        self.metrics.gauge("attaching", "Attaches under way", lambda: self.admission.attaching)
        self.metrics.gauge("loop_lag_seconds", "How late the event loop is", lambda: self.admission.lag_s)
        self.metrics.count("turned_away", "Newcomers that were told to come later", lambda: self.admission.refused)
        self.metrics.gauge("watched", "Transactions watched", lambda: len(self.hub))
        self.metrics.gauge("attachments", "Sessions attached", lambda: len(self.attachments()))
        self.metrics.gauge("waiting_bytes", "Bytes that wait for clients", self._waiting_bytes)

    # ---- connections

    def address_of(self, peer: str | None, forwarded: list[str]) -> str | None:
        """Who is counted for what comes from `peer`, with these `X-Forwarded-For` headers."""
        return address_of(peer, forwarded, self._proxies)

    def let_in(self) -> None:
        """One more client may come.

        Raises:
            Overloaded: Not now.
        """
        self.admission.newcomer(len(self.connections), asyncio.get_running_loop().time())

    def new_connection_id(self) -> str:
        return str(next(self._connection_ids))

    def take_in(self, connection: Peer) -> None:
        self.connections[connection.id] = connection
        self._deserted.clear()

    def forget(self, connection: Peer) -> None:
        self.connections.pop(connection.id, None)
        if not self.connections:
            self._deserted.set()

    async def deserted(self) -> None:
        """Return when the last connection has gone."""
        await self._deserted.wait()

    def _went_deaf(self) -> int:
        return self.hub.subscriber.went_deaf

    def _waiting_bytes(self) -> int:
        return sum(connection.waiting_bytes for connection in self.connections.values())

    def drain(self) -> None:
        """Turn away who comes; who waits for a result is answered with what is so."""
        self.draining = True
        for watch in self.hub.watches():
            watch.wake()

    def attachments(self) -> list[Attachment]:
        said = [connection.conversation for connection in self.connections.values()]
        return [held for one in said if one is not None for held in one.attachments.values()]

    async def cancel(self, tx: TxId, reason: str) -> t.CancelSet:
        """Cancel a transaction: certain to happen when this returns.

        Raises:
            NotFound, Ended, Unavailable, OutcomeUnknown: It isn't.
        """
        answer = await self.store.cancel(tx, reason)
        match answer:
            case t.CancelSet():
                return answer
            case t.Over(status):
                raise Ended(f"the transaction is over: {status}")
            case t.Missing():
                raise NotFound("no such transaction")

    async def look_at_keys(self) -> None:
        """What tokens allowed ends with their key, when that is taken out of the file."""
        if self.access.keys_changed():
            for attachment in self.attachments():
                if attachment.expiry is not None and not self.access.stands(attachment.rights):
                    attachment.expiry.now()

    # ---- between edges

    async def replace(self, tx: TxId, session: PublicName, place: t.Place) -> None:
        """Tell whoever holds `place` that it has been taken. It may not hear it: its sends are refused all the same."""
        if place.edge == self.id:
            self._replaced(tx, place)
            return
        message = {"t": "replaced", "tx": tx, "s": session, "c": place.connection, "a": place.attach}
        try:
            await self.store.tell_edge(place.edge, msgpack.packb(message))
        except OrbitError as error:
            log.debug("telling edge %s: %s", place.edge, error)

    def _hear(self, payload: bytes) -> None:
        """On this edge's own channel."""
        try:
            self._heed(msgpack.unpackb(payload))
        except Exception:
            log.exception("what was that on this edge's channel?")

    def _heed(self, message: dict[str, Any]) -> None:
        match message:
            case {"t": "replaced", "tx": tx, "c": connection, "a": attach}:
                self._replaced(tx, t.Place(self.id, connection, attach))
            case {"t": "barred", "tx": tx, "c": connection, "a": attach, "m": text}:
                attachment = self._held(tx, t.Place(self.id, connection, attach))
                if attachment is not None:
                    attachment.on_barred(text)

    def _replaced(self, tx: str, place: t.Place) -> None:
        attachment = self._held(tx, place)
        if attachment is not None:
            attachment.on_replaced()

    def _held(self, tx: str, place: t.Place) -> Attachment | None:
        connection = self.connections.get(place.connection)
        if connection is None or connection.conversation is None:
            return None
        attachment = connection.conversation.attachments.get(tx)
        return attachment if attachment is not None and attachment.place == place else None

    # ---- after a gap

    def recheck(self) -> None:
        """Redis was away: nothing that was heard or written lately is certain. Look at all of it again."""
        self.gaps += 1
        self.hub.on_gap()
        self._recheck_due = True
        if not self._rechecking:
            self._rechecking = True
            self.tasks.spawn(self._check_sessions(), "checking the sessions")

    async def _check_sessions(self) -> None:
        try:
            while self._recheck_due:
                self._recheck_due = False
                await check_sessions(self.attachments(), self.config.pulse.retry_s)
                await self._leave_unknown()
                await self._record_again()
        finally:
            self._rechecking = False

    def check_again(self, attachment: Attachment) -> None:
        """Redis was away while an attach, or a message of it, was under way: what it was told may be lost."""
        self.tasks.spawn(check_sessions((attachment,), self.config.pulse.retry_s), "checking a session")

    async def _record_again(self) -> None:
        try:
            await self.store.record_again()
        except StoreUnusable as error:
            log.error("%s", error)
        except OrbitError as error:
            log.debug("recording the deployment again: %s", error)

    async def _leave_unknown(self) -> None:
        """Free the places that Redis holds for this edge though nobody is there any more: it lost that they left."""
        try:
            found = await self.store.places_of(self.id)
        except OrbitError as error:
            log.debug("looking for places of this edge: %s", error)
            return
        held = {attachment.place for attachment in self.attachments()} | self.taking
        for tx, session, place in found:
            if place not in held:
                self.leaving.add(tx, session, place)
