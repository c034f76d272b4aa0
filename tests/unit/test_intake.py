"""What bodies of direct calls may take of this machine before their callers have shown that they may call."""

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack

import pytest
from starlette.requests import Request
from starlette.types import Message

from provider.api.intake import BODIES, Intake
from provider.errors import CallRefused
from provider.settings import ServerSettings

LIMIT_BYTES = 1024


def arriving(parts: Iterable[bytes], *, more: bool = False) -> Request:
    """A request whose body comes in these parts, with `more` to follow that never comes."""
    messages: list[Message] = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    messages += [] if more else [{"type": "http.request", "body": b"", "more_body": False}]
    waiting = iter(messages)

    async def receive() -> Message:
        if (message := next(waiting, None)) is None:
            await asyncio.Event().wait()
        assert message is not None
        return message

    return Request({"type": "http", "method": "POST", "path": "/", "headers": []}, receive)


def an_intake(timeout_s: float = 5) -> Intake:
    return Intake(ServerSettings(max_body_bytes=LIMIT_BYTES, retry_after_s=7, body_timeout_s=timeout_s))


async def test_a_body_counts_for_as_long_as_it_is_held() -> None:
    intake = an_intake()
    async with intake.body_of(arriving([b"ab", b"cd"])) as body:
        assert body == b"abcd"
        assert intake.held_bytes == 4
    assert intake.held_bytes == 0


async def test_bodies_that_come_in_drops_end_at_the_time_limit() -> None:
    intake = an_intake(timeout_s=0.05)
    with pytest.raises(CallRefused) as refused:
        async with intake.body_of(arriving([b"ab"], more=True)):
            pass
    assert (refused.value.status, refused.value.code) == (408, "request_timeout")
    assert intake.held_bytes == 0


async def test_too_many_bodies_at_once_are_refused_until_others_are_let_go() -> None:
    intake = an_intake()
    full = [b"x" * LIMIT_BYTES]

    async with AsyncExitStack() as held:
        for _ in range(BODIES):
            await held.enter_async_context(intake.body_of(arriving(full)))
        with pytest.raises(CallRefused) as refused:
            async with intake.body_of(arriving([b"x"])):
                pass
        assert (refused.value.status, refused.value.retry_after_s) == (503, 7)
        assert intake.held_bytes == BODIES * LIMIT_BYTES
    async with intake.body_of(arriving(full)) as body:
        assert len(body) == LIMIT_BYTES


async def test_a_body_that_is_too_long_lets_go_of_what_came() -> None:
    intake = an_intake()
    with pytest.raises(CallRefused) as refused:
        async with intake.body_of(arriving([b"x" * LIMIT_BYTES, b"x"])):
            pass
    assert refused.value.status == 413
    assert intake.held_bytes == 0
