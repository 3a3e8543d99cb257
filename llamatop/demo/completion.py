"""A simulated llama-server answering a completion, whole or as a stream."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

from . import answers
from .engine import Happening, Request
from .web import Events, Exchange

if TYPE_CHECKING:
    from .worker import Worker

WORDS = (
    " the", " cluster", " answers", " with", " one", " token", " at", " a", " time", " and",
    " every", " slot", " waits", " for", " its", " turn",
)  # fmt: skip
_encode = json.JSONEncoder(separators=(",", ":")).encode


async def complete(worker: Worker, exchange: Exchange, chat: bool) -> None:
    """Answer POST /completion, or with `chat` POST /v1/chat/completions."""
    try:
        asked = json.loads(exchange.body)
        text = str(asked.get("messages") if chat else asked.get("prompt", ""))
        limit = int(asked.get("max_tokens", asked.get("n_predict", 128)))
        events = exchange.events if asked.get("stream") is True else None
    except (ValueError, AttributeError, TypeError):
        body = answers.error(400, "invalid_request_error", "the body is not a JSON object")
        await exchange.json(400, body)
        return
    happenings: asyncio.Queue[Happening] = asyncio.Queue()
    request = Request(max(1, len(text) // 4), limit if limit > 0 else 512, streamed=True)
    request.listener = lambda _, happening: happenings.put_nowait(happening)
    engine = worker.engine
    if engine is None or not worker.submit(request):
        await exchange.json(503, answers.error(503, "unavailable_error", "Loading model"))
        return
    reply = Reply(worker.shape.model.name, worker.token, request, chat, events)
    worker.machine.streams += 1
    try:
        await reply.send(exchange, happenings)
    finally:
        worker.machine.streams -= 1
        # A client that is gone frees its slot at once.
        engine.cancel(request)


class Reply:
    """One answer in the making: bit by bit where there are `events` to put it into."""

    def __init__(
        self, model: str, token: int, request: Request, chat: bool, events: Events | None
    ) -> None:
        self.model = model
        self.token = token
        self.request = request
        self.chat = chat
        self.events = events
        self.words: list[str] = []

    async def send(self, exchange: Exchange, happenings: asyncio.Queue[Happening]) -> None:
        """Send it as its tokens come."""
        while (happening := await happenings.get()) != "end":
            if happening == "cut":
                exchange.cut()
                return
            if happening == "token":
                await self._token()
        final = self._whole()
        if self.events is None:
            await exchange.json(200, final)
            return
        await self.events.send(_encode(final))
        if self.chat:
            await self.events.send("[DONE]")
        await self.events.end()

    async def _token(self) -> None:
        self.words.append(WORDS[len(self.words) % len(WORDS)])
        if self.events is not None:
            if len(self.words) == 1:
                await self.events.begin()
            await self.events.send(_encode(self._part()))

    def _part(self) -> dict[str, Any]:
        if self.chat:
            return self._chunk({"content": self.words[-1]}, None)
        return {
            "index": 0,
            "content": self.words[-1],
            "tokens": [485],
            "stop": False,
            "id_slot": -1,
            "tokens_predicted": len(self.words),
            "tokens_evaluated": self.request.prompt,
        }

    def _chunk(self, delta: dict[str, Any], reason: str | None) -> dict[str, Any]:
        return {
            "choices": [{"finish_reason": reason, "index": 0, "delta": delta}],
            "created": int(time.time()),
            "id": f"chatcmpl-{self.token}-{self.request.task}",
            "model": self.model,
            "system_fingerprint": answers.BUILD,
            "object": "chat.completion.chunk",
        }

    def _whole(self) -> dict[str, Any]:
        request, text = self.request, "" if self.events else "".join(self.words)
        timings = answers.timings(request)
        if self.chat and self.events:
            return self._chunk({}, "length") | {"timings": timings}
        if self.chat:
            message = {"role": "assistant", "content": text}
            whole = self._chunk({}, "length") | {"object": "chat.completion"}
            whole["choices"] = [{"finish_reason": "length", "index": 0, "message": message}]
            whole["usage"] = {
                "completion_tokens": request.generated,
                "prompt_tokens": request.prompt,
                "total_tokens": request.prompt + request.generated,
            }
            return whole | {"timings": timings}
        return {
            "index": 0,
            "content": text,
            "tokens": [],
            "id_slot": request.slot,
            "stop": True,
            "model": self.model,
            "tokens_predicted": request.generated,
            "tokens_evaluated": request.prompt,
            "generation_settings": answers.SAMPLING | {"n_predict": request.generate},
            "prompt": "",
            "has_new_line": False,
            "truncated": False,
            "stop_type": "limit",
            "stopping_word": "",
            "tokens_cached": request.prompt + request.generated - 1,
            "timings": timings,
        }
