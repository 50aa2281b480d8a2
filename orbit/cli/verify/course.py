"""The course of a run: start, disturb, let it come to rest, judge."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass

from orbit.cli.failures import DONE, FAILED, INTERRUPTED, CommandError
from orbit.cli.verify.report import Screen, Verdict, print_verdict, rows_of, write_json, write_traces
from orbit.cli.verify.scene import Scene, Setting
from orbit.cli.verify.states import FEED_KEEPS
from orbit.cli.verify.troubles import Troubles
from orbit.verify.audit import read_logs
from orbit.verify.client import WireClient
from orbit.verify.follower import Follower, GaveUp
from orbit.verify.jobs import Jobs, has_crashed
from orbit.verify.judge import Reader, Record, counted, excerpt, judge
from orbit.verify.people import Person, Place
from orbit.verify.plan import HARMLESS, LOSING, Injection, plan
from orbit.verify.recovery import Recovery
from orbit.verify.trace import Finding, Message
from orbit.verify.web import NoAnswer, Web

BEGIN_S = 60.0
REST_S = 60.0
"""Once nothing disturbs it any more, everything comes to rest within that time."""
PLACES = (
    Place("", "Room"), Place("", "Ticker", ticks=True), Place("", "Ticker", ticks=True),
    Place("", "Looper", ticks=True), Place("", "Looper", ticks=True), Place("", "Plain", ticks=True),
    Place("", "Drawer", ticks=True), Place("", "Asker", simple=True, ticks=True),
    Place("", "Feed", ticks=True, keeps=FEED_KEEPS), Place("", "Feed", ticks=True, keeps=FEED_KEEPS),
    Place("", "Sleeper"), Place("", "Sleeper"), Place("", "Parent"),
)  # fmt: skip
"""The long transactions; all clients are in the first."""
PACES = {"Feed": 0.05, "Room": 1.0}
SHOW_S = 5.0
EACH_FOLLOWS = 3
"""So many beside the room."""


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for. `json`: a file for the verdict; `-` is stdout, and then nothing else goes there."""

    setting: Setting
    faults: tuple[str, ...]
    for_s: float
    seed: int
    clients: int
    json: str | None


async def run_verify(order: Order, stop: asyncio.Event) -> int:
    """Run it; returns the status to exit with: 0 only if nothing was found."""
    screen = Screen(order.json == "-")
    course = asyncio.create_task(_verify(order, screen))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([course, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if course.done():
        return await course
    course.cancel()
    await asyncio.gather(course, return_exceptions=True)
    return INTERRUPTED


async def _verify(order: Order, screen: Screen) -> int:
    screen.begin(order.seed, order.for_s, order.faults, order.setting.redis)
    async with Scene(order.setting) as scene:
        verdict = await Course(order, scene, screen).run()
    print_verdict(screen.console, verdict)
    if order.json is not None:
        write_json(verdict, order.json)
    return FAILED if verdict.findings else DONE


class Course:
    """One run against a deployment that is up."""

    def __init__(self, order: Order, scene: Scene, screen: Screen) -> None:
        self._order, self._scene, self._screen = order, scene, screen
        self._rng = random.Random(order.seed)
        self._ids = f"verify{secrets.token_hex(8)}"
        self._recovery = Recovery()
        self._people: list[Person] = []
        self._places: list[Place] = []
        self._found: list[Finding] = []
        self._began = 0.0
        self._heard = asyncio.Event()

    @property
    def rewinds(self) -> bool:
        """Whether Redis may lose writes in this run."""
        return bool(LOSING.intersection(self._order.faults))

    def _now(self) -> float:
        return asyncio.get_running_loop().time() - self._began

    async def run(self) -> Verdict:
        """From the first start to the verdict."""
        async with AsyncExitStack() as stack:
            web = Web(self._scene.urls)
            stack.push_async_callback(web.close)
            await self._begin(web)
            stack.push_async_callback(self._leave)
            jobs = Jobs(web, self._people, random.Random(self._rng.random()), self._ids)
            await self._disturb(jobs)
            await self._come_to_rest(jobs, web)
        return await self._judge(jobs)

    # ---- the beginning

    async def _begin(self, web: Web) -> None:
        """Start the long transactions and the clients; returns once all are attached."""
        self._began = asyncio.get_running_loop().time()
        try:
            for number, kind in enumerate(PLACES):
                tx = f"{self._ids}-{kind.state.lower()}-{number}"
                await web.start(tx, kind.state, {"pace_s": PACES.get(kind.state, 0.2)}, within_s=BEGIN_S)
                self._places.append(Place(tx, kind.state, kind.simple, kind.ticks, kind.keeps))
        except NoAnswer as error:
            raise CommandError(f"the deployment didn't come up: {error}") from None
        for number in range(self._order.clients):
            rng = random.Random(self._rng.random())
            client = WireClient(
                self._scene.urls, codec=rng.choice(("json", "msgpack")), name=f"client {number}", rng=rng
            )
            client.on_entry = self._on_entry
            others = rng.sample(self._places[1:], EACH_FOLLOWS)
            self._people.append(Person(client, [self._places[0], *others], self._recovery.forget))
        for person in self._people:
            await person.client.__aenter__()
        with suppress(TimeoutError):
            async with asyncio.timeout(BEGIN_S):
                for follower in self._followers():
                    await follower.until(lambda f: f.attached)
                return
        raise CommandError("the deployment didn't come up: not every client is attached")

    async def _leave(self) -> None:
        for person in self._people:
            try:
                await person.client.stop()
            except Exception as error:  # a client that can't go on is a finding, whatever stopped it
                self._found.append(Finding(f"{type(error).__name__}: {error}", person.name))

    def _followers(self) -> list[Follower]:
        return [follower for person in self._people for follower in person.followers()]

    def _on_entry(self, follower: Follower, _message: Message) -> None:
        for wait in self._recovery.heard((follower.client.trace.name, follower.tx), self._now()):
            self._screen.recovered(self._now(), wait.fault, wait.took_s or 0.0)
        self._heard.set()
        self._heard = asyncio.Event()

    # ---- the faults

    async def _disturb(self, jobs: Jobs) -> None:
        """Everybody lives for as long as was asked, while all that the plan has is done; then all is healed."""
        self._began = asyncio.get_running_loop().time()
        troubles = Troubles(self._scene, self._people, self._on_fault)
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for person in self._people:
                group.create_task(person.live(stop))
            group.create_task(jobs.run(stop))
            group.create_task(self._show(stop, jobs))
            for injection in plan(self._order.faults, self._order.for_s, self._order.seed):
                group.create_task(self._at(injection, troubles.do))
            await asyncio.sleep(self._order.for_s)
            stop.set()
        await troubles.heal()
        for fault in troubles.skipped:
            self._recovery.skip(fault)
        for text in (*troubles.troubles, *jobs.failures):
            self._found.append(Finding(text))

    async def _at(self, injection: Injection, do: Callable[[Injection], object]) -> None:
        await asyncio.sleep(injection.at_s - self._now())
        await do(injection)  # type: ignore[misc]

    def _on_fault(self, injection: Injection, what: str, only: Person | None = None) -> None:
        waiting = [only] if only is not None else [person for person in self._people if not person.away]
        affected = [(person.name, tx) for person in waiting for tx, place in person.places.items() if place.ticks]
        self._recovery.begin(injection.fault, self._now(), affected)
        self._screen.fault(self._now(), injection.fault, what)

    async def _show(self, stop: asyncio.Event, jobs: Jobs) -> None:
        """Tell now and then how far it is."""
        while not stop.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._screen.every_s):
                    await stop.wait()
            attached = sum(follower.attached for follower in self._followers())
            self._screen.progress(self._now(), attached, len(self._followers()), len(jobs.begun))

    # ---- the rest

    async def _come_to_rest(self, jobs: Jobs, web: Web) -> None:
        """Nothing disturbs any more: all that was said is stored, all goes on, and all comes to its end."""
        self._screen.say(self._now(), "nothing disturbs it any more: it has to come to rest")
        forgiving = asyncio.create_task(self._forgive())
        resting = [asyncio.create_task(self._finish(place)) for place in self._places]
        resting += [asyncio.create_task(settled(one.follower, lambda f: f.end is not None)) for one in jobs.begun]
        try:
            await jobs.cancel_again(also_ended=self.rewinds)
            await asyncio.wait(resting, timeout=REST_S)
        finally:
            for task in (forgiving, *resting):
                task.cancel()
            await asyncio.gather(forgiving, *resting, return_exceptions=True)
        self._found += [await self._restless(follower, web) for follower in self._unended(jobs)]

    async def _finish(self, place: Place) -> None:
        """All messages are stored, it goes on for all its clients, and then it ends for all of them."""
        inside = [person for person in self._people if place.tx in person.places]
        followers = [person.client.followers[place.tx] for person in inside]
        for follower in followers:
            await settled(follower, lambda f: (f.attached and not f.queue) or f.end is not None)
        if any(follower.end is not None for follower in followers):
            self._found += [
                Finding(f"it ended by itself: {f.end}", f.client.trace.name, f.tx)
                for f in followers if f.end is not None and not has_crashed(f.end)
            ]  # fmt: skip
        elif place.ticks:
            last = self._recovery.begin("", self._now(), [key(f) for f in followers if not f.gave_up])
            while last.took_s is None:
                await self._news()
        if inside and not any(follower.end is not None for follower in followers):
            inside[0].say(place.tx, "finish")
        for follower in followers:
            await settled(follower, lambda f: f.end is not None)

    async def _news(self) -> None:
        heard = self._heard
        await heard.wait()

    async def _forgive(self) -> None:
        while True:
            for person in self._people:
                person.forgive()
            await asyncio.sleep(0.5)

    def _every(self, jobs: Jobs) -> list[Follower]:
        return [*self._followers(), *(one.follower for one in jobs.begun)]

    def _unended(self, jobs: Jobs) -> list[Follower]:
        return [f for f in self._every(jobs) if f.end is None and f.gave_up is None]

    async def _restless(self, follower: Follower, web: Web) -> Finding:
        """It waits for its end, long after the last fault."""
        try:
            _, shown = await web.ask("GET", f"/v1/transactions/{follower.tx}", within_s=SHOW_S)
        except NoAnswer as error:
            shown = error
        text = (
            f"not at rest {REST_S:g} s after the last fault: attached {follower.attached}, at {follower.cursor}, "
            f"{len(follower.queue)} messages not stored; it is shown as {shown}"
        )
        return Finding(text, follower.client.trace.name, follower.tx)

    # ---- the judgement

    async def _judge(self, jobs: Jobs) -> Verdict:
        self._screen.say(self._now(), "reading all logs again, and judging")
        traces = [person.client.trace for person in self._people]
        if self._order.setting.logs is not None:
            write_traces(traces, self._began, self._order.setting.logs)
        followers = self._every(jobs)
        short = {place.tx: place.keeps for place in self._places if place.keeps}
        wanted = [(f.tx, str(f.session)) for f in followers if f.end is not None and f.tx not in short]
        logs = {}
        try:
            logs = await read_logs(self._scene.urls[0], wanted, some_lost=self.rewinds)
        except (TimeoutError, GaveUp) as error:
            self._found.append(Finding(f"the logs can't be read at the end: {error or 'not in their time'}"))
        record = Record(
            traces=traces,
            readers=[self._reader(f) for f in followers if f.end is not None],
            tasks=[one.task() for one in jobs.begun],
            logs=logs,
            trimmed=short,
            rewinds=self.rewinds,
            crashes=bool(set(self._order.faults) - HARMLESS),
            kept=self._order.setting.durability is not None and self._order.setting.durability.replicas > 0,
        )
        for seat in self._scene.seats:
            self._found += [Finding(text) for text in seat.troubles]
        found = [*await asyncio.to_thread(judge, record), *self._found, *self._lost_places()]
        return self._verdict(record, found, jobs)

    def _lost_places(self) -> list[Finding]:
        return [
            Finding(f"a transaction was lost: {f.gave_up}", f.client.trace.name, f.tx)
            for f in self._followers()
            if f.gave_up is not None and f.end is None
        ]

    def _reader(self, follower: Follower) -> Reader:
        person = next(one for one in self._people if one.client is follower.client)
        end = follower.end or {}
        said = person.said(follower.tx) if follower.tx in person.places and end.get("status") == "finished" else None
        result = end.get("result")
        return Reader(
            client=person.name,
            tx=follower.tx,
            session=str(follower.session),
            entries=follower.entries,
            resets=len(follower.resets),
            said=said,
            handled=result.get(person.name, []) if said is not None and isinstance(result, dict) else [],
        )

    def _verdict(self, record: Record, found: list[Finding], jobs: Jobs) -> Verdict:
        traces = {trace.name: trace for trace in record.traces}
        totals = counted(record.traces)
        totals |= {
            "clients": len(self._people),
            "transactions": len(self._places) + len(jobs.begun),
            "transactions_failed_as_crashed": len({f.tx for f in self._every(jobs) if has_crashed(f.end)}),
            "transactions_lost_and_told": sum(task.ended is None and task.gone is not None for task in record.tasks),
            "messages_lost_and_told": sum(len(f.lost) for f in self._followers()),
        }
        return Verdict(
            seed=self._order.seed,
            for_s=self._order.for_s,
            redis="embedded" if self._order.setting.redis is None else "given",
            rows=rows_of(self._order.faults, self._recovery),
            totals=totals,
            findings=found,
            excerpts=[excerpt(traces[one.who], one) if one.who in traces else [] for one in found],
            began=self._began,
        )


def key(follower: Follower) -> tuple[str, str]:
    """How recovery names a follower."""
    return follower.client.trace.name, follower.tx


async def settled(follower: Follower, condition: Callable[[Follower], object]) -> None:
    """Return when the condition holds, or once the follower has given up."""
    with suppress(GaveUp):
        await follower.until(condition)
