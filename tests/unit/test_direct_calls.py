"""Direct calls: who is admitted, in which order that is asked, and that a slot is free again however a call ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import orjson
import pytest
from starlette.types import Message

from common.reasons import Reason
from common.types import NodeId
from common.wire import Failure
from provider.api.direct import DirectResponse
from provider.direct import Call, DirectCalls
from provider.errors import CallRefused, EngineBroke, EngineDown, EngineFull, EngineRefused, HmacRefused, HubUnreachable
from provider.membership.hub_client import HubClient
from provider.protocol.engine import Engine, Question
from provider.settings import ServerSettings
from tests.unit.provider_parts import Parts

BODY = b'{"model": "m", "stream": true, "messages": []}'
PATH = "/v1/chat/completions"


class ToldAnswer:
    """An answer in these pieces; then it ends, raises, or hangs."""

    status = 200
    usage = None

    def __init__(self, *pieces: bytes, content_type: str = "text/event-stream", then: Exception | None = None) -> None:
        self.pieces = pieces
        self.content_type = content_type
        self.then = then
        self.hangs = False
        self.is_under_way = asyncio.Event()

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece
        self.is_under_way.set()
        if self.hangs:
            await asyncio.Event().wait()
        if self.then is not None:
            raise self.then


class ToldHub(HubClient):
    """A hub that says yes, or what it is told to."""

    says: Exception | None = None
    asked = 0

    async def check_hmac(self, given: str, node: NodeId, endpoint: str, body: bytes) -> None:  # noqa: ARG002
        self.asked += 1
        if self.says is not None:
            raise self.says


class Desk:
    """Direct mode of one provider, with an engine and a hub that do what they are told."""

    def __init__(self, *, hub_url: str | None = "http://hub", **settings: Any) -> None:
        self.parts = Parts(hub_url=hub_url, **settings).open()
        self.answer = ToldAnswer(b"data: 1\n\n", b"data: [DONE]\n\n")
        self.refuses: Exception | None = None
        self.open = 0
        self.parts.engine.asked = cast("Engine", self)
        self.hub = ToldHub(self.parts.settings)
        self.calls = DirectCalls(self.parts.settings.server, self.parts.machine, self.parts.standing, self.hub)

    @asynccontextmanager
    async def ask(self, question: Question) -> AsyncIterator[ToldAnswer]:  # noqa: ARG002 - one answer to all
        if self.refuses is not None:
            raise self.refuses
        self.open += 1
        try:
            yield self.answer
        finally:
            self.open -= 1

    async def refusal(self, body: bytes = BODY, hmac: str = "v1:a") -> tuple[int, str]:
        with pytest.raises(CallRefused) as refused:
            await self.calls.admit(Call(PATH, body, hmac))
        return refused.value.status, refused.value.code

    async def relay(self, leave: asyncio.Event | None = None) -> tuple[int, dict[str, str], bytes]:
        """What a caller gets: status, headers, body."""
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            await (leave or asyncio.Event()).wait()
            return {"type": "http.disconnect"}

        question = await self.calls.admit(Call(PATH, BODY, "v1:a"))
        async with asyncio.timeout(10):
            await DirectResponse(question, self.calls, self.parts.settings)({"type": "http"}, receive, send)
        assert (self.parts.slots.taken, self.open) == (0, 0), "whatever came of it"
        if not sent:
            return 0, {}, b""
        headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], headers, b"".join(one.get("body", b"") for one in sent[1:])


def code_of(body: bytes) -> str:
    code: str = orjson.loads(body)["error"]["code"]
    return code


class TestAdmission:
    async def test_a_good_call_becomes_the_question_it_is(self) -> None:
        question = await Desk().calls.admit(Call(PATH, BODY, "v1:a", trace="00-1"))
        assert (question.endpoint, question.model, question.body, question.trace) == (PATH, "m", BODY, "00-1")
        assert question.stream is True

    @pytest.mark.parametrize("stream", [b"false", b"null", b"1", b'"true"'])
    async def test_only_true_asks_for_a_stream(self, stream: bytes) -> None:
        question = await Desk().calls.admit(Call(PATH, b'{"model": "m", "stream": %b}' % stream, "v1:a"))
        assert question.stream is False

    async def test_busy_comes_before_all_and_nobody_is_asked(self) -> None:
        desk = Desk()
        desk.parts.gate.set(Reason.GPU_BUSY, holds=True)
        assert await desk.refusal(b"{", "") == (503, "provider_busy")
        assert desk.hub.asked == 0

    async def test_then_an_hmac_that_is_not_there_or_longer_than_any(self) -> None:
        desk = Desk()
        assert await desk.refusal(hmac="") == (401, "hmac_missing")
        assert await desk.refusal(hmac="v" * 1025) == (401, "hmac_malformed")
        assert await desk.refusal(b"{", "") == (401, "hmac_missing"), "no stranger's body is parsed"
        assert desk.hub.asked == 0

    async def test_last_of_all_a_body_that_is_no_request(self) -> None:
        desk = Desk()
        assert await desk.refusal(b"{") == (400, "invalid_json")
        assert await desk.refusal(b'{"model": 1}') == (400, "missing_required_parameter")
        assert desk.hub.asked == 2

    async def test_then_what_the_hub_says_of_it(self) -> None:
        desk = Desk()
        desk.hub.says = HmacRefused("expired")
        assert await desk.refusal() == (401, "hmac_expired")
        desk.hub.says = HubUnreachable("away")
        assert await desk.refusal() == (503, "hub_unreachable")
        assert await Desk(hub_url=None).refusal() == (503, "no_hub")

    async def test_where_none_is_required_a_given_one_still_counts(self) -> None:
        desk = Desk(server=ServerSettings(require_hmac=False))
        desk.hub.says = HmacRefused("wrong")
        assert await desk.refusal() == (401, "hmac_wrong")
        await desk.calls.admit(Call(PATH, BODY, ""))


class TestAnswers:
    async def test_events_pass_as_they_are(self) -> None:
        desk = Desk()
        status, headers, body = await desk.relay()
        assert (status, headers["content-type"], body) == (200, "text/event-stream", b"data: 1\n\ndata: [DONE]\n\n")
        assert headers["x-request-id"]
        assert desk.calls.outcomes == {"done": 1}

    async def test_a_whole_answer_passes_with_its_length(self) -> None:
        desk = Desk()
        desk.answer = ToldAnswer(b"{", b"}", content_type="application/json")
        status, headers, body = await desk.relay()
        assert (status, headers["content-type"], headers["content-length"], body) == (
            200,
            "application/json",
            "2",
            b"{}",
        )

    async def test_a_kind_that_is_no_header_is_not_passed_on(self) -> None:
        desk = Desk()
        desk.answer = ToldAnswer(b"x", content_type="text/plain\r\nx: y")
        assert (await desk.relay())[1]["content-type"] == "application/octet-stream"

    @pytest.mark.parametrize(
        ("trouble", "status", "code"),
        [
            (EngineRefused(Failure(422, "odd", "cannot do that")), 422, "odd"),
            (EngineFull("no memory"), 503, "gpu_memory"),
            (EngineDown("gone"), 503, "provider_busy"),
        ],
    )
    async def test_an_engine_that_does_not_begin_keeps_the_status_true(
        self, trouble: Exception, status: int, code: str
    ) -> None:
        desk = Desk()
        desk.refuses = trouble
        heard, headers, body = await desk.relay()
        assert (heard, code_of(body)) == (status, code)
        assert ("retry-after" in headers) == (status == 503)
        assert desk.calls.outcomes == {code: 1}
        assert desk.parts.engine.suspicions == isinstance(trouble, EngineDown)

    async def test_an_answer_without_a_word_is_an_error(self) -> None:
        desk = Desk()
        desk.answer = ToldAnswer()
        status, _, body = await desk.relay()
        assert (status, code_of(body)) == (502, "engine_empty_answer")

    async def test_one_that_breaks_off_ends_with_an_error_event(self) -> None:
        desk = Desk()
        desk.answer = ToldAnswer(b"data: 1\n\nda", then=EngineBroke(Failure(502, "engine_disconnected", "gone")))
        status, _, body = await desk.relay()
        assert status == 200
        first, cut, error, done, rest = body.split(b"\n\n")
        assert (first, cut, done, rest) == (b"data: 1", b"da", b"data: [DONE]", b"")
        assert code_of(error.removeprefix(b"data: ")) == "engine_disconnected"

    async def test_one_that_is_longer_than_allowed_is_refused(self) -> None:
        desk = Desk(max_answer_bytes=1024)
        desk.answer = ToldAnswer(b"x" * 1000, b"x" * 25, content_type="application/json")
        status, _, body = await desk.relay()
        assert (status, code_of(body)) == (502, "answer_too_large")

    @pytest.mark.parametrize("pieces", [(), (b"data: 1\n\n",)])
    async def test_an_engine_that_falls_silent_is_given_up(self, pieces: tuple[bytes, ...]) -> None:
        desk = Desk(first_token_timeout_s=0.05 if not pieces else 60, token_timeout_s=0.05)
        desk.answer = ToldAnswer(*pieces)
        desk.answer.hangs = True
        status, _, body = await desk.relay()
        assert status == (200 if pieces else 504)
        assert b'"engine_timeout"' in body


class TestEnds:
    async def test_a_slot_is_taken_while_it_runs(self) -> None:
        desk = Desk()
        desk.answer.hangs = True
        leave = asyncio.Event()
        call = asyncio.create_task(desk.relay(leave))
        await asyncio.wait_for(desk.answer.is_under_way.wait(), 5)
        assert (desk.parts.slots.taken, desk.open) == (1, 1)
        leave.set()
        await call
        assert sum(desk.calls.outcomes.values()) == 1
        assert "done" not in desk.calls.outcomes

    @pytest.mark.parametrize("comes", ["owner", "end of time"])
    async def test_when_the_owner_comes_or_time_is_up_the_caller_hears_why(self, comes: str) -> None:
        desk = Desk()
        desk.answer.hangs = True
        call = asyncio.create_task(desk.relay())
        await asyncio.wait_for(desk.answer.is_under_way.wait(), 5)
        desk.parts.gate.set(Reason.GPU_BUSY, holds=True)
        if comes == "owner":
            assert (desk.calls.end_all(), desk.calls.end_all()) == (1, 0)
        else:
            await desk.calls.drain(0.05)
        _, _, body = await call
        assert b'"provider_busy"' in body
        assert b"gpu-busy" in body
        assert body.endswith(b"data: [DONE]\n\n")

    async def test_a_drain_lets_a_call_end_that_can(self) -> None:
        desk = Desk()
        desk.answer.hangs = True
        leave = asyncio.Event()
        call = asyncio.create_task(desk.relay(leave))
        await asyncio.wait_for(desk.answer.is_under_way.wait(), 5)
        drain = asyncio.create_task(desk.calls.drain(3600))
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(drain), 0.05)
        assert not drain.done()
        leave.set()
        await call
        await asyncio.wait_for(drain, 5)

    async def test_what_became_busy_after_it_was_admitted_is_refused(self) -> None:
        """The hub may take its time to say yes."""
        desk = Desk()
        question = await desk.calls.admit(Call(PATH, BODY, "v1:a"))
        desk.parts.slots.others = 2
        with pytest.raises(CallRefused, match="no-free-slot"):
            async with desk.calls.ask(question):
                raise AssertionError("never asked")
        assert (desk.parts.slots.taken, desk.open) == (0, 0)
