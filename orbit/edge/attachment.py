"""One session's hold of one transaction, on one connection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from orbit.edge.access import OPEN, Rights
from orbit.edge.access.access import Expiry
from orbit.edge.follower import Follower
from orbit.edge.gate import Gate
from orbit.edge.hub import Watch
from orbit.protocol.ids import PublicName, TxId
from orbit.store.store import Store
from orbit.store.types import AttachDone, Barred, Missing, Place


class Keeper(Protocol):
    """Who holds attachments: told when one is over, and why."""

    def on_end(self, attachment: Attachment) -> None: ...
    def on_lost(self, attachment: Attachment, code: str, message: str) -> None: ...
    def on_defect(self, attachment: Attachment, error: Exception) -> None: ...
    async def on_taken(self, attachment: Attachment, before: Place) -> None:
        """Its place was taken again, from an earlier attach that Redis had gone back to."""


class Attachment:
    """Attributes:
    number: Which attach of its connection.
    rights: What the token that it was attached with allows.
    expiry: The wait for their end.
    given_mid: The highest mid that the client was told is stored, as far as this edge knows.
    number: Of its attach, by the store's count.
    sends: Messages are stored and answered inside it; what is stored is told to the client while it is shut.
    """

    def __init__(
        self,
        store: Store,
        keeper: Keeper,
        watch: Watch,
        session: PublicName,
        place: Place,
        rights: Rights = OPEN,
    ) -> None:
        self.watch = watch
        self.session = session
        self.place = place
        self.rights = rights
        self.expiry: Expiry | None = None
        self.given_mid = 0
        self.number = 0
        self.sends = Gate()
        self.open = True
        self.follower: Follower | None = None
        self._store = store
        self._keeper = keeper

    @property
    def tx(self) -> TxId:
        return self.watch.tx

    def on_end(self) -> None:
        self._keeper.on_end(self)

    def on_gone(self) -> None:
        feed = self.watch.feed
        over = feed is not None and feed.over
        text = "the transaction was removed" if over else "no such transaction: Redis lost it"
        self._keeper.on_lost(self, "gone" if over else "not_found", text)

    def on_replaced(self) -> None:
        self._keeper.on_lost(self, "replaced", "a newer attach took this session's place")

    def on_barred(self, message: str) -> None:
        self._keeper.on_lost(self, "forbidden", message)

    def on_defect(self, error: Exception) -> None:
        self._keeper.on_defect(self, error)

    async def confirm(self) -> int | None:
        """The session's last mid, after making sure that the place is still its own. None: it is attached no more.

        Redis may have lost the place, or an edge that took this one for dead have freed it: then it is taken again, but
        never from a later attach of the same session: what that one's client sent under a mid mustn't meet what this
        one's did.
        """
        answer = await self._store.attach_again(self.tx, self.session, self.place, self.rights.sub, self.number)
        if not self.open:
            return None
        match answer:
            case AttachDone():
                if answer.before is not None:
                    await self._keeper.on_taken(self, answer.before)
                return answer.last_mid
            case Missing():
                self.on_gone()
            case Barred(message):
                self.on_barred(message)
            case _:
                self.on_replaced()
        return None

    async def at_rest(self, tell: Callable[[int], None]) -> None:
        """Call `tell` with the session's last mid while no message of its is under way, if it is still attached.

        What was answered before, the client was told before. What it hears afterwards was stored after this was asked:
        so a `last_mid` and the receipts around it are told in the order in which they are true.
        """
        async with self.sends.shut():
            last_mid = await self.confirm()
            if last_mid is not None and last_mid < self.given_mid:
                last_mid = await self._begin_anew()
            if last_mid is not None and self.open:
                self.given_mid = last_mid
                tell(last_mid)

    async def _begin_anew(self) -> int | None:
        """As `confirm`, under a new name of the place.

        The client is to give mids out again that it has used. A message of before, whose answer never came, may still
        be on its way to Redis; from now on it is refused there, as after a new attach.
        """
        attach, _, before = self.place.attach.partition(".")
        self.place = replace(self.place, attach=f"{attach}.{int(before or 0) + 1}")
        return await self.confirm()

    async def recheck(self) -> None:
        """After Redis was away: did it lose this session's messages, or its place?"""
        given = self.given_mid
        last_mid = await self.confirm()
        # What was told meanwhile counts, too: it may have been this very loss.
        if last_mid is not None and last_mid < min(given, self.given_mid) and self.follower is not None:
            self.follower.restart()
