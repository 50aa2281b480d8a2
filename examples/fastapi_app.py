"""FastAPI with Broker: start a count, watch it as a stream of lines, stop it.

    orbit worker examples/counter.py --redis redis://localhost
    ORBIT_REDIS=redis://localhost uvicorn examples.fastapi_app:app

The Broker belongs to the application's lifespan, and so to its event loop.
"""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
from pydantic import BaseModel

from orbit import Broker, RequestError

PAGE = """<!doctype html><title>Count</title><button>Count to ten</button><ol></ol>
<script type="module">
document.querySelector("button").onclick = async () => {
  const headers = { "Content-Type": "application/json" };
  const started = await fetch("/counts", { method: "POST", headers, body: JSON.stringify({ total: 10 }) });
  const { id } = await started.json();
  const lines = (await fetch(`/counts/${id}/updates`)).body.pipeThrough(new TextDecoderStream()).getReader();
  for (let read; !(read = await lines.read()).done;) document.querySelector("ol").append(read.value);
};
</script>"""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with Broker(os.environ.get("ORBIT_REDIS", "redis://localhost")) as broker:
        app.state.broker = broker
        yield


def broker_of(request: Request) -> Broker:
    broker: Broker = request.app.state.broker
    return broker


app = FastAPI(lifespan=lifespan)
Orbit = Annotated[Broker, Depends(broker_of)]


class Count(BaseModel):
    total: int = 10


@app.exception_handler(RequestError)
async def refused(request: Request, error: RequestError) -> JSONResponse:
    status = {"not_found": 404, "ended": 409}.get(error.code, 400)
    return JSONResponse({"error": error.message}, status)


@app.get("/", response_class=HTMLResponse)
async def page() -> str:
    return PAGE


@app.post("/counts", status_code=201)
async def start(count: Count, broker: Orbit) -> dict[str, str]:
    return {"id": await broker.start("Counter", {"total": count.total})}


@app.get("/counts/{tx}")
async def show(tx: str, broker: Orbit) -> dict[str, Any]:
    info = await broker.get(tx)
    return {"status": info.status, "result": info.result}


@app.get("/counts/{tx}/updates")
async def updates(tx: str, broker: Orbit, after: str = "0") -> StreamingResponse:
    await broker.get(tx)  # what isn't there is said before the stream begins

    async def lines() -> AsyncIterator[str]:
        async for update in broker.updates(tx, after=after):
            yield json.dumps({"cursor": update.cursor, "data": update.data}) + "\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")


@app.post("/counts/{tx}/stop", status_code=202)
async def stop(tx: str, broker: Orbit) -> dict[str, str]:
    return {"status": await broker.cancel(tx, "stopped on the page")}
