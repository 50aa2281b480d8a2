"""Starlette with Broker: start a count and watch it on the page, over a WebSocket of the application's own.

    orbit worker examples/counter.py --redis redis://localhost
    ORBIT_REDIS=redis://localhost uvicorn examples.starlette_app:app

The Broker belongs to the application's lifespan, and so to its event loop.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from orbit import Broker, RequestError

PAGE = """<!doctype html><title>Count</title><button>Count to ten</button><ol></ol>
<script type="module">
document.querySelector("button").onclick = async () => {
  const { id } = await (await fetch("/counts", { method: "POST", body: JSON.stringify({ total: 10 }) })).json();
  new WebSocket(`${location.origin.replace("http", "ws")}/counts/${id}`).onmessage = ({ data }) => {
    const line = document.createElement("li");
    line.textContent = data;
    document.querySelector("ol").append(line);
  };
};
</script>"""


class Shared(TypedDict):
    """What the lifespan gives to each request."""

    broker: Broker


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[Shared]:
    async with Broker(os.environ.get("ORBIT_REDIS", "redis://localhost")) as broker:
        yield {"broker": broker}


async def page(request: Request) -> Response:
    return HTMLResponse(PAGE)


async def start(request: Request) -> Response:
    broker: Broker = request.state.broker
    return JSONResponse({"id": await broker.start("Counter", await request.json())}, 201)


async def refused(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 400)


async def watch(socket: WebSocket) -> None:
    await socket.accept()
    sending = asyncio.create_task(send_updates(socket))
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass  # nothing is expected but that the client leaves
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)


async def send_updates(socket: WebSocket) -> None:
    """Whoever comes again says after which cursor."""
    broker: Broker = socket.state.broker
    tx, after = socket.path_params["tx"], socket.query_params.get("after", "0")
    try:
        async for update in broker.updates(tx, after=after):
            await socket.send_json({"cursor": update.cursor, "data": update.data})
        await socket.close(1000)
    except RequestError as error:
        await socket.close(4400, error.message)


app = Starlette(
    routes=[
        Route("/", page),
        Route("/counts", start, methods=["POST"]),
        WebSocketRoute("/counts/{tx}", watch),
    ],
    exception_handlers={RequestError: refused},
    lifespan=lifespan,
)
