"""Direct mode: a caller over HTTP instead of a job from the broker, for the same engine and the same slots."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast
from uuid import uuid4

import structlog
from pydantic import BaseModel, StrictStr, ValidationError

from common.reasons import Reason
from common.types import ModelId
from provider.errors import CallRefused, EngineDown, EngineError, EngineFull, HmacRefused, HubError, HubRefused
from provider.machine import Machine
from provider.membership.hub_client import HubClient
from provider.protocol.engine import EngineAnswer, Question
from provider.settings import ServerSettings
from provider.standing import Standing
from provider.telemetry.outcomes import Outcomes

log = structlog.get_logger()

MAX_HMAC_CHARS = 1024
"""Longer ones are not worth a question to the hub."""


@dataclass(frozen=True, slots=True)
class Call:
    """A direct call as it came in."""

    endpoint: str
    body: bytes
    hmac: str
    """The header `X-Inferoute-HMAC`; empty if there is none."""
    trace: str = ""
    id: str = field(default_factory=lambda: uuid4().hex)


class DirectCalls:
    """Admits direct calls and keeps the books of those that run."""

    def __init__(self, settings: ServerSettings, machine: Machine, standing: Standing, hub: HubClient) -> None:
        self._settings = settings
        self._machine = machine
        self._standing = standing
        self._hub = hub
        self._running: set[asyncio.Task[object]] = set()
        self._ended: set[asyncio.Task[object]] = set()
        self.outcomes = Outcomes()
        """How many calls ended how, since the start."""

    def precheck(self, hmac: str) -> None:
        """Refuse a call by its head alone: a body that leads to nothing is not worth its memory.

        Raises:
            CallRefused: 503 busy or no hub, 401 an HMAC that can't be good.
        """
        self._refuse_if_busy()
        if not self._settings.require_hmac and not hmac:
            return
        if not hmac:
            raise CallRefused(401, "hmac_missing", "direct calls need the header X-Inferoute-HMAC")
        if len(hmac) > MAX_HMAC_CHARS:
            raise CallRefused(401, "hmac_malformed", "the HMAC is longer than any can be")
        if not self._hub.is_set:
            raise CallRefused(503, "no_hub", "this provider knows no hub that could check the HMAC (provider.url)")

    async def admit(self, call: Call) -> Question:
        """Say what to ask the engine, in this order: free, allowed, well-formed.

        To read JSON takes many times its memory, and the event loop's time: no stranger gets that.

        Raises:
            CallRefused: as `precheck`, 401 HMAC, 503 no hub answers about it, 400 no request.
        """
        self.precheck(call.hmac)
        if call.hmac:
            await self._check_hmac(call)
        return _read(call)

    @asynccontextmanager
    async def ask(self, question: Question) -> AsyncIterator[EngineAnswer]:
        """Ask in a slot; the slot is free again when the context is left.

        Raises:
            CallRefused: meanwhile it became busy, there is no room for the model, the engine went away, or the call
                was broken off by `end_all`.
            EngineFull: the engine has no memory for the model.
            EngineFailed: the engine refused.
        """
        self._refuse_if_busy()
        if not self._machine.room.fits(question.model):
            raise self._busy((Reason.GPU_MEMORY,))
        task = cast("asyncio.Task[object]", asyncio.current_task())
        self._machine.slots.take()
        self._running.add(task)
        try:
            async with self._machine.engine.current.ask(question) as answer:
                yield answer
        except EngineError as exc:
            self._machine.engine.learn_from(exc)
            if isinstance(exc, EngineDown):
                raise self._busy((Reason.ENGINE_DOWN,)) from exc
            if isinstance(exc, EngineFull):
                self._machine.room.refuse(question.model)
            raise
        except asyncio.CancelledError:
            if task not in self._ended:
                raise
            task.uncancel()
            raise self._busy(self._standing.reasons) from None
        finally:
            self._running.discard(task)
            self._ended.discard(task)
            self._machine.slots.give_back()

    def end_all(self) -> int:
        """Break off every running call: the owner wants the GPU, or time is up. How many were not ending already."""
        running_on = self._running - self._ended
        for task in running_on:
            self._ended.add(task)
            task.cancel()
        return len(running_on)

    async def drain(self, limit_s: float) -> None:
        """Wait for the running calls, then break off those that are left."""
        if self._running:
            await asyncio.wait([*self._running], timeout=limit_s)
        self.end_all()

    def _refuse_if_busy(self) -> None:
        if reasons := self._standing.reasons:
            raise self._busy(reasons)

    def _busy(self, reasons: tuple[str, ...]) -> CallRefused:
        message = f"this provider takes no work now: {', '.join(reasons)}"
        return CallRefused(503, "provider_busy", message, retry_after_s=self._settings.retry_after_s)

    async def _check_hmac(self, call: Call) -> None:
        try:
            await self._hub.check_hmac(call.hmac, self._standing.node, call.endpoint, call.body)
        except HmacRefused as exc:
            raise CallRefused(401, f"hmac_{exc.code}", f"the HMAC is refused: {exc.code}") from exc
        except HubError as exc:
            log.warning("hmac_unchecked", request=call.id, error=str(exc))
            code = "hub_refused" if isinstance(exc, HubRefused) else "hub_unreachable"
            raise CallRefused(
                503, code, "the HMAC cannot be checked now", retry_after_s=self._settings.retry_after_s
            ) from exc


class _Head(BaseModel):
    """The part of a body that must be known here; the engine judges the rest."""

    model: StrictStr
    stream: object = None


def _read(call: Call) -> Question:
    try:
        # Its reader makes objects of nothing but these two fields: a third of the time and memory of a whole parse.
        head = _Head.model_validate_json(call.body)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False, include_context=False)[0]
        if first["type"] == "json_invalid":
            raise CallRefused(
                400, "invalid_json", f"the body is no JSON: {first['msg'].removeprefix('Invalid JSON: ')}"
            ) from exc
        raise CallRefused(400, "missing_required_parameter", "the body must be an object with a model") from exc
    return Question(
        id=call.id,
        endpoint=call.endpoint,
        model=ModelId(head.model),
        stream=head.stream is True,
        body=call.body,
        trace=call.trace,
    )
