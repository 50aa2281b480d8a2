"""A room that people talk in: no `run`, only hooks. It sleeps, at no cost, whenever nobody speaks.

    orbit dev examples/chat.py
    id=$(orbit start Room --input '{"topic": "tea"}')
    orbit tail $id &
    orbit send $id '{"say": "hello"}'
    orbit send $id close

Each hook is one turn: its fields and its updates are committed together when it returns, or, should it raise, not at
all.
"""

from typing import Any

from orbit import Connection, State


class Room(State, stays_open=True, keep_updates=1_000):
    """What was said, with the newest lines as its view for those who come later than the log reaches."""

    topic: str
    people: list[str] = []
    lines: list[str] = []

    async def on_new_connection(self, connection: Connection) -> None:
        # Who moves to another edge comes without having left.
        if connection.session and connection.session not in self.people:
            self.people.append(connection.session)
        if not connection.resumed:
            await connection.send({"welcome": self.topic, "people": len(self.people)})

    async def on_disconnect(self, connection: Connection) -> None:
        self.people = [one for one in self.people if one != connection.session]

    async def on_update(self, connection: Connection, data: Any) -> None:
        if data == "close":
            await self.transaction.finish(result={"lines": len(self.lines)})
        elif isinstance(data, dict) and isinstance(data.get("say"), str):
            self.lines = [*self.lines[-99:], data["say"]]
            await self.transaction.send_update({"line": data["say"], "by": connection.session})
        else:
            connection.reject('say {"say": "..."}, or "close"')

    def view(self) -> dict[str, Any]:
        return {"topic": self.topic, "lines": self.lines}
