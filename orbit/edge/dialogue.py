"""What is said on one connection: each message of the client, judged alone and answered."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict
from typing import TYPE_CHECKING

from orbit.edge.access import Rights
from orbit.edge.access.access import EXPIRED
from orbit.edge.attachment import Attachment
from orbit.edge.conversation import Line
from orbit.edge.follower import Follower
from orbit.edge.frames import message_frame
from orbit.edge.hub import RETRY_AFTER_MS, Watch
from orbit.edge.lanes import Asked, Lanes
from orbit.edge.pages import Page
from orbit.errors import (
    BadRequest,
    Forbidden,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    RateLimited,
    RequestError,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from orbit.protocol.cursors import NEW_ONLY, Cursor, parse_cursor
from orbit.protocol.entries import LogReset
from orbit.protocol.ids import PublicName, Session, TxId
from orbit.protocol.messages import (
    Attach,
    Attached,
    Cancel,
    Cancelled,
    ClientMessage,
    Detach,
    Detached,
    EdgeMessage,
    Error,
    GoAway,
    Malformed,
    Ping,
    Pong,
    Receipt,
    Rejected,
    Send,
)
from orbit.protocol.values import pack_checked
from orbit.store import types as t

if TYPE_CHECKING:
    from orbit.edge.edge import Edge

log = logging.getLogger("orbit.edge")

BUSY = 256
REASON_CHARACTERS = 1000
BROKEN_RATES, RATE_BROKEN = 1000, 4429
"""So many messages over the rate with none in between that wasn't: the connection is closed."""
INTERNAL = "a defect of Orbit; its log has the details"


class Dialogue:
    """One client's attachments and messages.

    Args:
        rights: What the token of the handshake allows: the default of attaches. None: it brought none.
    """

    def __init__(self, edge: Edge, line: Line, rights: Rights | None = None) -> None:
        self.attachments: dict[str, Attachment] = {}
        self._edge = edge
        self._store = edge.store
        self._line = line
        self._rights = rights
        self._lanes = Lanes(edge.tasks, self._answer, line.take_more)
        self._attaches = 0
        self._over_rate = 0
        self._attaching = 0
        self._left: OrderedDict[str, str] = OrderedDict()

    @property
    def full(self) -> bool:
        """So many messages are taken and not yet answered that no more are to be read."""
        return self._lanes.busy >= BUSY

    def read(self, payload: bytes, *, text: bool) -> list[ClientMessage | Malformed]:
        """The messages of a frame. Raises ProtocolError."""
        return self._line.codec.decode_client(payload, text=text)

    def receive(self, message: ClientMessage | Malformed) -> None:
        """Take one message; its answer comes in its own time."""
        match message:
            case Malformed():
                self._malformed(message)
            case Ping():
                self.say(Pong(message.nonce))
            case _:
                self._edge.metrics.received.labels(message.type).inc()
                self._lanes.put(message)

    def say(self, message: EdgeMessage) -> None:
        if not self._line.closed:
            self._line.write(message_frame(message, self._line.codec))

    def go_away(self, reconnect_after_ms: int) -> None:
        self.say(GoAway(reconnect_after_ms))

    def leave(self) -> None:
        """The connection is gone: its sessions leave their places."""
        self._lanes.clear()
        for attachment in tuple(self.attachments.values()):
            self._end(attachment)
            self._edge.leaving.add(attachment.tx, attachment.session, attachment.place)

    # ---- answers

    def _malformed(self, message: Malformed) -> None:
        if message.op == Attach.type and message.tx in self.attachments:
            attachment = self.attachments[message.tx]
            self._end(attachment)
            self._edge.leaving.add(attachment.tx, attachment.session, attachment.place)
        if message.op == Send.type and message.tx is not None and message.mid is not None:
            self._reject(message.tx, message.mid, message.code, message.message)
        else:
            self.say(Error(message.code, message.message, message.tx, message.op, message.mid))

    async def _answer(self, message: Asked) -> None:
        try:
            match message:
                case Send():
                    await self._send(message)
                case Attach():
                    await self._attach(message)
                case Cancel():
                    await self._cancel(message)
                case Detach():
                    await self._detach(message)
        except OutcomeUnknown:
            self._refuse(message, Unavailable("Redis didn't answer", retry_after_ms=RETRY_AFTER_MS))
        except RequestError as error:
            self._refuse(message, error)
        except Exception:
            log.exception("a defect in %s", message.type)
            self._edge.metrics.defects.inc()
            self._refuse(message, RequestError(INTERNAL))

    def _refuse(self, message: Asked, error: RequestError) -> None:
        mid = message.mid if isinstance(message, Send) else None
        self.say(Error(error.code, error.message, message.tx, message.type, mid, error.retry_after_ms))

    # ---- send

    async def _send(self, message: Send) -> None:
        attachment = self.attachments.get(message.tx)
        if attachment is None:
            code = self._left.get(message.tx, "bad_request")
            self._reject(message.tx, message.mid, code, _NOT_ATTACHED[code])
            return
        try:
            rights = self._edge.access.demand(attachment.rights, "send", attachment.tx)
            self._edge.rates.message(self._line.id, rights.sub, self._line.address)
            self._over_rate = 0
            data = pack_checked(message.data, limit_bytes=self._edge.config.limits.data_bytes)
            gaps = self._edge.gaps
            async with attachment.sends.passing():
                self._judge(attachment, message.mid, await self._append(attachment, message.mid, data))
            if gaps != self._edge.gaps:
                self._edge.check_again(attachment)  # its receipt may be of what is lost, later than the check
        except Unauthorized as error:  # before the timer says so
            self._expire(attachment)
            self._reject(message.tx, message.mid, error.code, error.message)
        except (TooLarge, BadRequest, Forbidden) as error:
            self._reject(message.tx, message.mid, error.code, error.message)
        except RateLimited as error:
            self._reject(message.tx, message.mid, error.code, error.message, error.retry_after_ms)
            self._over_rate += 1
            if self._over_rate == BROKEN_RATES:
                self._line.close(RATE_BROKEN, "the rate limit was broken again and again")
        except Overloaded as error:  # Redis is full: it is certain that nothing was stored
            self._reject(message.tx, message.mid, error.code, error.message, error.retry_after_ms)
        except Unavailable:
            self._reject(message.tx, message.mid, "unavailable", "Redis can't be reached now", RETRY_AFTER_MS)

    async def _append(self, attachment: Attachment, mid: int, data: bytes) -> Appended:
        subject = attachment.rights.sub
        new = t.NewMessage(data, session=attachment.session, mid=mid, place=attachment.place, subject=subject)
        answer = await self._store.append(attachment.tx, new)
        if isinstance(answer, t.NotPlace) and attachment.open and await attachment.confirm() is not None:
            answer = await self._store.append(attachment.tx, new)  # the place was lost, and is taken again
        return answer

    def _judge(self, attachment: Attachment, mid: int, answer: Appended) -> None:
        tx = attachment.tx
        self._edge.metrics.answers.labels(type(answer).__name__).inc()
        match answer:
            case t.Stored(duplicate):
                attachment.given_mid = max(attachment.given_mid, mid)
                self.say(Receipt(tx, mid, duplicate))
            case t.WrongMid(last_mid):
                self._reject(tx, mid, "out_of_order", f"the next mid is {last_mid + 1}", None, last_mid)
            case t.InboxFull(last_mid):
                self._reject(tx, mid, "overloaded", "the inbox is full", RETRY_AFTER_MS, last_mid)
            case t.Over():
                self._reject(tx, mid, "ended", _NOT_ATTACHED["ended"])
            case t.NotPlace():
                self._reject(tx, mid, "replaced", _NOT_ATTACHED["replaced"])
                attachment.on_replaced()
            case t.Barred(text):
                self._reject(tx, mid, "forbidden", text)
                attachment.on_barred(text)
            case t.Missing():
                self._reject(tx, mid, "not_found", "no such transaction")
                self._edge.hub.drop(attachment.watch)

    def _reject(
        self, tx: str, mid: int, code: str, text: str, retry_after_ms: int | None = None, last_mid: int | None = None
    ) -> None:
        self.say(Rejected(tx, mid, code, text, retry_after_ms, last_mid))

    # ---- attach

    async def _attach(self, message: Attach) -> None:
        tx, session = TxId(message.tx), Session(message.session or secrets.token_urlsafe(24))
        before = self.attachments.get(tx)
        if before is not None:
            self._end(before)
        self._left.pop(tx, None)
        public, self._attaches = self._store.public_name(tx, session), self._attaches + 1
        place = t.Place(self._edge.id, self._line.id, str(self._attaches))
        self._edge.taking.add(place)
        try:
            with self._edge.admission.attach(asyncio.get_running_loop().time()):
                await self._take(message, session, public, place)
        finally:
            self._edge.taking.discard(place)
            if before is not None and not (tx in self.attachments and before.session == public):
                self._edge.leaving.add(before.tx, before.session, before.place)

    async def _take(self, message: Attach, session: Session, public: PublicName, place: t.Place) -> None:
        rights = self._rights if message.token is None else self._edge.access.of_token(message.token)
        rights = self._edge.access.demand(rights, "watch", message.tx)
        if len(self.attachments) + self._attaching >= self._edge.config.limits.attaches:
            raise Overloaded(f"more than {self._edge.config.limits.attaches} attaches on one connection")
        self._attaching += 1
        try:
            watch = await self._edge.hub.join(TxId(message.tx))
        finally:
            self._attaching -= 1
        attachment = Attachment(self._store, self, watch, public, place, rights)
        kept = False
        try:
            kept = await self._begin(message, session, attachment)
        finally:
            if not kept:
                self._end(attachment)
                self._edge.leaving.add(attachment.tx, public, place)

    async def _begin(self, message: Attach, session: Session, attachment: Attachment) -> bool:
        """Take the place, tell `attached`, and go on from the cursor. False: the connection closed meanwhile."""
        gaps = self._edge.gaps
        done = await self._take_place(attachment)
        watch = attachment.watch
        feed = watch.begin(done.head, done.number, done.status)
        after = done.head if message.after == NEW_ONLY else parse_cursor(message.after)
        assert after is not None  # judged when the message was read
        page: Page | None = None
        if feed.since(after) is None:
            page = await self._first_page(watch, after)
        first = None if page is None else page.answer
        if watch.gone:
            raise NotFound("no such transaction")
        if self._line.closed:
            return False
        cursor = first.cursor if isinstance(first, LogReset) else after
        attachment.given_mid = done.last_mid
        self.attachments[message.tx] = attachment
        attachment.expiry = self._edge.access.at_expiry(attachment.rights, lambda: self._expire(attachment))
        attached = Attached(message.tx, session, str(cursor), done.status, done.last_mid)
        attachment.follower = Follower(self._edge.hub, watch, feed, self._line, attachment, cursor, attachment.session)
        if isinstance(first, LogReset):
            # In one frame: a client that heard the first alone would go on from the reset's cursor, unaware of it.
            attachment.follower.tell_reset(first, done.last_mid, after=attached)
            page = None
        else:
            self.say(attached)
        attachment.follower.start(page)
        if gaps != self._edge.gaps:
            self._edge.check_again(attachment)
        return True

    async def _take_place(self, attachment: Attachment) -> t.AttachDone:
        answer = await self._store.attach(
            attachment.tx, attachment.session, attachment.place, attachment.rights.sub
        )
        match answer:
            case t.AttachDone(before):
                attachment.number = answer.attach
                if before is not None:
                    await self._edge.replace(attachment.tx, attachment.session, before)
                return answer
            case t.Barred(text):
                raise Forbidden(text)
            case t.NotPlace():
                raise Forbidden("the session belongs to another subject")
            case t.Crowded():
                raise Overloaded("as many sessions are attached as may be", retry_after_ms=RETRY_AFTER_MS)
            case t.Missing():
                raise NotFound("no such transaction")

    async def _first_page(self, watch: Watch, after: Cursor) -> Page:
        page = await self._edge.hub.pages.get(watch.tx, after)
        if isinstance(page.answer, t.Missing):
            self._edge.hub.drop(watch)
            raise NotFound("no such transaction")
        return page

    # ---- cancel, detach

    async def _cancel(self, message: Cancel) -> None:
        reason = message.reason or ""
        if len(reason) > REASON_CHARACTERS:
            raise BadRequest(f"reason: {len(reason)} characters; the limit is {REASON_CHARACTERS}")
        attachment = self.attachments.get(message.tx)
        rights = self._rights if attachment is None else attachment.rights
        self._edge.access.demand(rights, "cancel", message.tx)
        await self._edge.cancel(TxId(message.tx), reason)
        self.say(Cancelled(message.tx))

    async def _detach(self, message: Detach) -> None:
        attachment = self.attachments.get(message.tx)
        self._left.pop(message.tx, None)
        if attachment is not None:
            self._end(attachment)
            self._edge.leaving.add(attachment.tx, attachment.session, attachment.place)
        self.say(Detached(message.tx))

    # ---- what happens to attachments

    def on_end(self, attachment: Attachment) -> None:
        """Its client was told the end."""
        self._end(attachment, left="ended")
        self._edge.leaving.add(attachment.tx, attachment.session, attachment.place)

    def on_lost(self, attachment: Attachment, code: str, message: str) -> None:
        if attachment.open:
            self._end(attachment, left="replaced" if code == "replaced" else None)
            self.say(Error(code, message, attachment.tx))

    async def on_taken(self, attachment: Attachment, before: t.Place) -> None:
        await self._edge.replace(attachment.tx, attachment.session, before)

    def _expire(self, attachment: Attachment) -> None:
        """Its token is over: nothing that it allowed is served any more."""
        if attachment.open:
            self._end(attachment)
            self._edge.leaving.add(attachment.tx, attachment.session, attachment.place)
            self.say(Error(Unauthorized.code, EXPIRED, attachment.tx))

    def on_defect(self, attachment: Attachment, error: Exception) -> None:
        log.error("a defect in following %s", attachment.tx, exc_info=error)
        self._edge.metrics.defects.inc()
        if attachment.open:
            self._end(attachment)
            self._edge.leaving.add(attachment.tx, attachment.session, attachment.place)
            self.say(Error("internal", INTERNAL, attachment.tx))

    def _end(self, attachment: Attachment, left: str | None = None) -> None:
        """It is attached no more; `left`: what a later send is told."""
        if not attachment.open:
            return
        attachment.open = False
        if attachment.expiry is not None:
            attachment.expiry.cancel()
        if attachment.follower is not None:
            attachment.follower.stop()
        self._edge.hub.leave(attachment.watch)
        if self.attachments.get(attachment.tx) is attachment:
            del self.attachments[attachment.tx]
        if left is not None:
            self._left[attachment.tx] = left
            if len(self._left) > self._edge.config.limits.attaches:
                self._left.popitem(last=False)


Appended = t.Stored | t.WrongMid | t.InboxFull | t.NotPlace | t.Missing | t.Over | t.Barred

_NOT_ATTACHED = {
    "bad_request": "not attached to this transaction",
    "ended": "the transaction is over",
    "replaced": "a newer attach took this session's place",
}
