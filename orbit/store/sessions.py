"""Sessions and their places: attach, detach, listings."""

from __future__ import annotations

from orbit.protocol.ids import PublicName, TxId
from orbit.store import decode, script
from orbit.store import types as t
from orbit.store.base import StorePart, milliseconds


class Sessions(StorePart):
    """Who is attached where."""

    async def attach(
        self, tx: TxId, session: PublicName, place: t.Place, subject: str | None
    ) -> t.AttachDone | t.Missing | t.Barred | t.NotPlace | t.Crowded:
        """Give the session's place to the caller. An ended transaction attaches, too (no place is taken).

        Returns:
            NotPlace: The session belongs to another subject.
            Crowded: No more sessions may be attached.

        Raises:
            OutcomeUnknown: The connection broke. The same attach again is safe. Atomic in `attach.lua`.
        """
        answer = await self._attach(tx, session, place, subject, "")
        assert not isinstance(answer, t.Newer)
        return answer

    async def attach_again(
        self, tx: TxId, session: PublicName, place: t.Place, subject: str | None, attach: int
    ) -> t.AttachDone | t.Missing | t.Barred | t.NotPlace | t.Crowded | t.Newer:
        """Make sure that the place is still that attach's: Redis may have lost it, or an edge freed it by mistake.

        Where a later attach has had the place since, it stays as it is. One that an earlier attach has (Redis went back
        to it) is taken.

        Raises:
            OutcomeUnknown: As `attach`.
        """
        return await self._attach(tx, session, place, subject, str(attach))

    async def _attach(
        self, tx: TxId, session: PublicName, place: t.Place, subject: str | None, again: str
    ) -> t.AttachDone | t.Missing | t.Barred | t.NotPlace | t.Crowded | t.Newer:
        reply = await self._link.run(
            script.ATTACH, self._keys.both(tx), tx, session, str(place), subject or "", self._session_retain_ms,
            self.settings.sessions, again,
        )  # fmt: skip
        match reply[0]:
            case b"missing":
                return t.Missing()
            case b"barred":
                return t.Barred(decode.text(reply[1]))
            case b"subject":
                return t.NotPlace()
            case b"newer":
                return t.Newer()
            case b"crowded":
                return t.Crowded()
        return t.AttachDone(
            before=t.Place.parse(decode.text(reply[1])),
            head=decode.cursor(reply[2]),
            number=int(reply[3]),
            status=decode.status(reply[4]),
            last_mid=int(reply[5]),
            attach=int(reply[6]),
        )

    async def detach(self, tx: TxId, session: PublicName, place: t.Place) -> bool:
        """Free the place if it is still the caller's; whether it was.

        Raises:
            OutcomeUnknown: The connection broke. Detaching again is safe. Atomic in `detach.lua`.
        """
        reply = await self._link.run(
            script.DETACH, self._keys.both(tx), tx, session, str(place), self._grace_ms, self._session_retain_ms
        )
        return bool(reply)

    async def sessions(self, tx: TxId, limit: int = 100) -> tuple[tuple[t.SessionRow, ...], int]:
        """The connected ones, at most `limit`, and how many there are in all."""
        total, *rows = await self._link.run(script.ROWS, (self._keys.transaction(tx),), max(1, limit))
        return tuple(
            t.SessionRow(
                PublicName(name.decode()), decode.optional(subject), int(mid or 0), t.Place.parse(decode.text(place))
            )
            for name, subject, mid, place in rows
        ), total

    async def session(self, tx: TxId, session: PublicName) -> t.SessionRow | None:
        """What is kept of one session; None where nothing is. Its last mid acknowledges: it waits as a receipt does.

        Raises:
            OutcomeUnknown: It wasn't kept in time. Asking again is safe.
        """
        key, fields = f"{self._keys.transaction(tx)}:sess", [f"{x}:{session}" for x in "ump"]
        subject, mid, place = await self._link.keep_read(key, "HMGET", key, *fields)
        if subject is None and mid is None and place is None:
            return None
        return t.SessionRow(session, decode.optional(subject), int(mid or 0), t.Place.parse(decode.text(place)))

    @property
    def _grace_ms(self) -> int:
        return milliseconds(self.settings.grace_s)

    @property
    def _session_retain_ms(self) -> int:
        return milliseconds(self.settings.session_retain_s)
