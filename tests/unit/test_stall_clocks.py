"""The two stall clocks (design, rule 13): long to the first token, short between tokens, and none on the whole."""

import asyncio
from collections.abc import Iterator
from itertools import repeat
from typing import Any

import pytest

from provider.answers.stall_clock import StallClock
from tests.support.entries import is_last
from tests.unit.engine_script import FOR_EVER, JSON, Step, relayed
from tests.unit.virtual_time import in_virtual_time

TOKEN = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n'
ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
PING = b": ping\n\n"
DONE = b"data: [DONE]\n\n"
FIRST_S, GAP_S, ANSWER_S = 300, 60, 1800
LIMITS: dict[str, Any] = {"first_token_timeout_s": FIRST_S, "token_timeout_s": GAP_S, "answer_timeout_s": ANSWER_S}


def pings_for_ever(*before: bytes) -> Iterator[Step]:
    yield from before
    for _ in repeat(None):
        yield 10.0
        yield PING


def assert_late_and_never_early(silence_s: float, limit_s: float = GAP_S, grain_s: float = StallClock.GRAIN_S) -> None:
    """A stall may be seen a little late; what is in time is never taken for one."""
    assert limit_s - 0.001 <= silence_s <= limit_s + grain_s + 0.001


class TestFirstToken:
    def test_an_engine_that_accepts_and_never_answers_is_given_up(self) -> None:
        outcome = relayed([], wait_s=FOR_EVER, **LIMITS)
        assert outcome.code == "first_token_timeout"
        assert outcome.took_s == pytest.approx(FIRST_S)
        assert outcome.engine.is_closed

    def test_an_engine_that_answers_and_never_speaks_is_given_up(self) -> None:
        outcome = relayed([FOR_EVER], **LIMITS)
        assert outcome.code == "first_token_timeout"
        assert outcome.took_s == pytest.approx(FIRST_S)
        assert outcome.reply.entries == []
        assert outcome.engine.is_closed

    def test_it_is_the_engine_s_fault_and_another_may_do_better(self) -> None:
        failed = relayed([FOR_EVER], **LIMITS).failed
        assert failed is not None
        assert (failed.failure.status, failed.failure.retryable) == (504, True)

    def test_keeping_the_connection_warm_is_no_answer(self) -> None:
        outcome = relayed(pings_for_ever(), **LIMITS)
        assert outcome.code == "first_token_timeout"
        assert outcome.took_s == pytest.approx(FIRST_S)

    def test_saying_whose_turn_it_is_is_no_answer(self) -> None:
        outcome = relayed([250.0, ROLE, FOR_EVER], **LIMITS)
        assert outcome.code == "first_token_timeout"
        assert outcome.took_s == pytest.approx(FIRST_S)
        assert outcome.reply.entries == []

    def test_half_an_event_is_no_answer(self) -> None:
        outcome = relayed([250.0, TOKEN[:-1], FOR_EVER], **LIMITS)
        assert outcome.code == "first_token_timeout"
        assert outcome.took_s == pytest.approx(FIRST_S)

    def test_a_model_may_take_its_time_to_load(self) -> None:
        outcome = relayed([float(FIRST_S - 1), TOKEN, DONE], **LIMITS)
        assert outcome.failed is None
        assert outcome.took_s == pytest.approx(FIRST_S - 1)


class TestBetweenTokens:
    def test_silence_after_some_tokens_ends_the_attempt_and_keeps_them(self) -> None:
        outcome = relayed([100.0, TOKEN, 1.0, TOKEN, FOR_EVER], **LIMITS)
        assert outcome.code == "token_timeout"
        assert_late_and_never_early(outcome.took_s - 101)
        assert outcome.reply.data == TOKEN * 2
        assert not any(is_last(entry) for entry in outcome.reply.entries)
        assert outcome.engine.is_closed

    def test_keeping_the_connection_warm_is_no_token(self) -> None:
        outcome = relayed(pings_for_ever(TOKEN), **LIMITS)
        assert outcome.code == "token_timeout"
        assert_late_and_never_early(outcome.took_s)

    def test_half_an_event_is_no_token(self) -> None:
        outcome = relayed([TOKEN, 50.0, TOKEN[:-1], FOR_EVER], **LIMITS)
        assert_late_and_never_early(outcome.took_s)

    def test_slow_tokens_may_go_on_for_hours(self) -> None:
        steps: list[Step] = [step for _ in range(200) for step in (GAP_S - 1.0, TOKEN)]
        outcome = relayed([*steps, DONE], **LIMITS)
        assert outcome.failed is None
        assert outcome.took_s > 3 * 3600
        assert outcome.reply.data == TOKEN * 200 + DONE

    def test_many_quick_tokens_push_the_limit_on_too(self) -> None:
        steps: list[Step] = [step for _ in range(1000) for step in (0.1, TOKEN)]
        outcome = relayed([*steps, FOR_EVER], **LIMITS)
        assert outcome.code == "token_timeout"
        assert_late_and_never_early(outcome.took_s - 100)

    def test_a_short_limit_is_held_as_closely(self) -> None:
        outcome = relayed([TOKEN, 0.1, TOKEN, FOR_EVER], first_token_timeout_s=1, token_timeout_s=0.2)
        assert_late_and_never_early(outcome.took_s - 0.1, 0.2, 0.05)
        assert outcome.code == "token_timeout"

    def test_an_event_at_the_last_moment_is_in_time(self) -> None:
        """Also after many quick ones, of which the clock takes note only now and then."""
        steps: list[Step] = [step for _ in range(40) for step in (0.1, TOKEN)]
        outcome = relayed([*steps, GAP_S - 0.01, TOKEN, DONE], **LIMITS)
        assert outcome.failed is None


class TestWholeAnswers:
    def test_an_answer_that_is_not_streamed_has_a_clock_of_its_own(self) -> None:
        outcome = relayed([b'{"a":', 1000.0, b"1}", FOR_EVER], content_type=JSON, stream=False, **LIMITS)
        assert outcome.code == "answer_timeout"
        assert outcome.took_s == pytest.approx(ANSWER_S)
        assert outcome.reply.entries == []

    def test_it_may_take_longer_than_any_token(self) -> None:
        steps: list[Step] = [ANSWER_S - 1.0, b'{"a":1}']
        outcome = relayed(steps, content_type=JSON, stream=False, **LIMITS)
        assert outcome.failed is None
        assert outcome.reply.data == b'{"a":1}'


class TestStallClock:
    def test_the_first_limit_ends_with_the_first_event(self) -> None:
        async def story() -> float:
            loop = asyncio.get_running_loop()
            clock = StallClock(5, 100)

            async def one_event_and_silence() -> None:
                async with clock.timer:
                    await asyncio.sleep(4)
                    clock.tick()
                    await asyncio.sleep(FOR_EVER)

            with pytest.raises(TimeoutError):
                await one_event_and_silence()
            return loop.time()

        assert in_virtual_time(story()) == pytest.approx(104, abs=StallClock.GRAIN_S + 0.01)

    def test_nothing_fires_after_an_answer_has_ended(self) -> None:
        async def story() -> None:
            clock = StallClock(5, 5)
            async with clock.timer:
                clock.tick()
            await asyncio.sleep(100)
            assert not clock.timer.expired()

        in_virtual_time(story())

    def test_a_cancellation_is_no_timeout(self) -> None:
        async def story() -> None:
            clock = StallClock(5, 5)

            async def guarded() -> None:
                async with clock.timer:
                    await asyncio.sleep(FOR_EVER)

            task = asyncio.create_task(guarded())
            await asyncio.sleep(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        in_virtual_time(story())
