"""Running a piece of a State's code: in its frame, with middleware around it and a limit on its turn."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from orbit.state import Call, Middleware, is_async
from orbit.worker.actor import Actor
from orbit.worker.frames import Frame, current_frame
from orbit.worker.threads import ThreadedCall


async def call(actor: Actor, frame: Frame, fn: Callable[..., Any], *args: Any) -> Any:
    """Run a hook or a loop's body as `frame`, in the turn that is held: as it is where it is async, else in a thread.

    Raises:
        TimeoutError: It held the turn for longer than it may.
        Whatever it raises.
    """
    frame.task = asyncio.current_task()
    frame.threaded = not is_async(fn)
    outer = current_frame.get()
    actor.limit_turn(outer, None)
    token = current_frame.set(frame)
    try:
        if actor.options.turn_timeout_s is None:
            return await in_middleware(actor, frame, lambda: _bare(actor, frame, fn, args))
        async with asyncio.timeout(actor.options.turn_timeout_s) as frame.limit:
            return await in_middleware(actor, frame, lambda: _bare(actor, frame, fn, args))
    finally:
        frame.limit = None
        current_frame.reset(token)


async def _bare(actor: Actor, frame: Frame, fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    if not frame.threaded:
        return await watched(actor, frame.hook, fn(*args))
    thread = ThreadedCall(actor.threads, f"orbit {frame.hook} {actor.tx}")
    result = await thread.run(lambda: False, fn, *args)
    return await result if asyncio.iscoroutine(result) else result


async def watched(actor: Actor, name: str, work: Awaitable[Any]) -> Any:
    watch = actor.around.watch
    return await (work if watch is None else watch(name, work))


async def in_middleware(actor: Actor, frame: Frame, work: Callable[[], Awaitable[Any]]) -> Any:
    """`work`, with the worker's middleware around it."""
    chain = actor.around.middleware
    if not chain:
        return await work()
    about = Call(actor.tx, actor.options.name, frame.kind_of_call, frame.name, frame.attempt)
    return await _wrapped(chain, about, work)


async def _wrapped(chain: tuple[Middleware, ...], about: Call, work: Callable[[], Awaitable[Any]]) -> Any:
    if not chain:
        return await work()
    first, *rest = chain
    return await first.around(about, lambda: _wrapped(tuple(rest), about, work))
