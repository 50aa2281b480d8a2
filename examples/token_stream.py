"""A stream of tokens, as a language model makes them, for readers who come whenever they like.

    orbit dev examples/token_stream.py
    id=$(orbit start TokenStream --input '{"prompt": "Why is the sky blue?"}')
    orbit tail $id               # later once more, in another terminal: the same text, from its start
    orbit send $id stop

The tokens go out in batches: each is one update, and one commit together with the text so far. `run` begins again from
its top after a crash; it asks the model to go on after the text that was committed. So each token is there once.

A reader who comes late gets the log from its start, where that is kept (`keep_updates`); else the text so far (`view`),
and then the rest.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from orbit import Connection, State

BATCH = 8
WORDS = ["the", "light", "of", "a", "star", "comes", "a", "long", "way", "and", "the", "air", "keeps", "its", "blue"]


async def generate(prompt: str, so_far: str, tokens: int, tokens_per_s: float) -> AsyncGenerator[str]:
    """Stands in for a model: the tokens of its answer that follow `so_far`; the same for the same prompt."""
    chosen = random.Random(prompt)
    length = 0
    for _ in range(tokens):
        token = chosen.choice(WORDS) + " "
        length += len(token)
        if length > len(so_far):
            await asyncio.sleep(1 / tokens_per_s)
            yield token


class TokenStream(State, keep_updates=100):
    """Answers `prompt`, until the answer is complete or somebody says "stop"."""

    prompt: str
    tokens: int = 400
    tokens_per_s: float = 40.0
    text: str = ""
    stopped: bool = False

    async def run(self) -> dict[str, Any]:
        async with aclosing(generate(self.prompt, self.text, self.tokens, self.tokens_per_s)) as model:
            # A batch takes a fraction of a second. For so long the turn is held, and a "stop" waits.
            while not self.stopped and (batch := await next_batch(model)):
                self.text += batch
                await self.transaction.send_update(batch)
        return {"text": self.text, "stopped": self.stopped}

    async def on_update(self, connection: Connection, data: Any) -> None:
        if data != "stop":
            connection.reject('say "stop", or nothing')
        self.stopped = True

    def view(self) -> str:
        return self.text


async def next_batch(model: AsyncIterator[str]) -> str:
    """The next tokens, as one text; empty where there are no more."""
    tokens: list[str] = []
    async for token in model:
        tokens.append(token)
        if len(tokens) == BATCH:
            break
    return "".join(tokens)
