"""Ask somebody for a decision and wait for it, for days if need be, with a reminder now and then.

    orbit dev examples/approval.py
    id=$(orbit start Approval --input '{"what": "a new kettle", "remind_after_s": 20}')
    orbit tail $id &
    orbit send $id yes

Who answers is known by the `sub` of a token (`connection.subject`). With `approvers` in the input only theirs count;
that needs an edge with token keys (`orbit dev --token-keys`): without, there are no subjects, and anybody may decide.

While it waits it is unloaded and costs a worker nothing. The time it waits for is recorded when the waiting begins: no
crash and no deploy begins it anew.
"""

import time
from typing import Any

from orbit import STOP, State

DAY_S = 86_400.0
ANSWERS = range(1_000)


class Approval(State):
    """Ends with the first answer that counts, or without one after `wait_s`."""

    what: str
    approvers: list[str] = []
    remind_after_s: float = DAY_S
    wait_s: float = 7 * DAY_S
    until: float = 0.0
    reminders: int = 0
    decision: dict[str, Any] | None = None

    async def run(self) -> dict[str, Any] | None:
        self.until = await self.transaction.step("begin", time.time) + self.wait_s
        await self.transaction.send_update({"asked": self.what}, once="asked")
        await self.transaction.set_timer("reminder", self.remind_after_s)
        await self.transaction.each("answers", ANSWERS, self.answer)
        return self.decision

    async def answer(self, number: int) -> object:
        """Wait for one answer, and judge it. First it waits, then it changes and sends: that is one commit."""
        message = await self.transaction.wait_message("answer", timeout_s=max(0.0, self.until - time.time()))
        if message is None:
            return STOP
        subject = message.connection.subject
        if self.approvers and subject not in self.approvers:
            await message.connection.send({"refused": "you aren't asked"})
            return None
        if message.data not in ("yes", "no"):
            await message.connection.send({"refused": "say yes or no"})
            return None
        self.decision = {"approved": message.data == "yes", "by": subject}
        await self.transaction.send_update(self.decision)
        return STOP

    async def on_timer(self, name: str) -> None:
        self.reminders += 1
        await self.transaction.send_update({"reminder": self.reminders, "of": self.what})
        await self.transaction.set_timer("reminder", self.remind_after_s)

    def view(self) -> dict[str, Any]:
        return {"asked": self.what, "until": self.until, "decision": self.decision}
