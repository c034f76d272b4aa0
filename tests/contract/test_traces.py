"""One trace shows one request: its hub, each wait and attempt, the node, the engine; and no word of what was said."""

import asyncio

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from common.broker.broker import Broker
from common.wire import Failure, ReplyEntry, Start, Usage
from hub.app import Hub
from hub.requests.wishes import Wishes
from hub.settings import HubSettings
from provider.errors import EngineBroke
from provider.gate.gate import Reason
from tests.contract.stage import OTHER_NODE, Stage
from tests.contract.story import MODEL, NODE, eventually
from tests.contract.traced import (
    CALLER,
    PROMPT,
    SAID,
    TRACEPARENT,
    Client,
    Node,
    Spans,
    a_node,
    a_traced_hub,
    texts_of,
    told_by,
)

BROKE = EngineBroke(Failure(502, "engine_disconnected", "the engine broke off its answer", retryable=True))
CHAT = f"chat {MODEL}"


async def run_next(stage: Stage, node: Node) -> None:
    """The node takes the next job and runs it."""
    delivery, _ = await stage.take(node.name)
    await node.runner.accept(delivery)


async def ended(stage: Stage, spans: Spans, count: int) -> None:
    """Wait until so many spans are over."""
    await stage.hub.dispatcher.finish_closing(5)

    async def are_there() -> bool:
        return len(spans.all) >= count

    await eventually(are_there, f"{count} spans")
    assert len(spans.all) == count, [one.name for one in spans.all]


def is_under(child: ReadableSpan, parent: ReadableSpan) -> bool:
    assert child.parent is not None
    return (child.parent.trace_id, child.parent.span_id) == (parent.context.trace_id, parent.context.span_id)


def lasts_within(inner: ReadableSpan, outer: ReadableSpan) -> bool:
    return (outer.start_time or 0) <= (inner.start_time or 0) <= (inner.end_time or 0) <= (outer.end_time or 0)


def server_span(spans: Spans) -> ReadableSpan:
    (found,) = [one for one in spans.named(CHAT) if one.kind is SpanKind.SERVER]
    return found


def engine_spans(spans: Spans) -> list[ReadableSpan]:
    return [one for one in spans.named(CHAT) if one.kind is SpanKind.CLIENT]


async def test_one_trace_shows_every_hop_of_a_request(broker: Broker) -> None:
    spans = Spans()
    async with a_traced_hub(broker, spans) as stage, a_node(broker, spans, NODE) as node:
        client = Client(stage, {"traceparent": TRACEPARENT, "tracestate": "vendor=x"})
        await run_next(stage, node)
        await client.end()
        await ended(stage, spans, 5)
        assert client.heard.endswith(b"data: [DONE]\n\n")

    server, publish, wait = server_span(spans), spans.one("publish interactive"), spans.one("wait")
    process, (engine,) = spans.one("process interactive"), engine_spans(spans)
    assert {one.context.trace_id for one in spans.all} == {int(CALLER[0], 16)}
    assert server.parent is not None
    assert server.parent.span_id == int(CALLER[1], 16)
    assert dict(server.context.trace_state) == {"vendor": "x"}
    assert is_under(publish, server)
    assert is_under(wait, publish)
    assert is_under(process, publish)
    assert is_under(engine, process)
    kinds = [SpanKind.SERVER, SpanKind.PRODUCER, SpanKind.INTERNAL, SpanKind.CONSUMER, SpanKind.CLIENT]
    assert [one.kind for one in (server, publish, wait, process, engine)] == kinds
    assert [one.resource.attributes["service.name"] for one in (server, process)] == ["ghub-hub", "ghub-provider"]
    assert node.engine.traces == [f"00-{CALLER[0]}-{engine.context.span_id:016x}-01"]

    assert all(lasts_within(one, server) for one in (publish, wait, engine))
    assert (publish.end_time or 0) <= (wait.start_time or 0)
    assert (publish.start_time or 0) <= (process.start_time or 0) <= (engine.start_time or 0)
    assert lasts_within(engine, process)

    request = told_by(server)["ghub.request.id"]
    assert all(told_by(one)["ghub.request.id"] == request for one in (publish, process, engine))
    common = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": MODEL,
        "gen_ai.request.stream": True,
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 2,
    }
    of_hub = {
        "gen_ai.provider.name": "ghubai",
        "gen_ai.response.model": MODEL,
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "server.address": "127.0.0.1",
        "server.port": 8080,
        "ghub.node": NODE,
        "ghub.attempt": 1,
        "ghub.lane": "interactive",
    }
    assert told_by(server) | common | of_hub == told_by(server)
    assert 0 <= told_by(server)["ghub.queue_ms"] < 15_000
    of_engine = {"gen_ai.provider.name": "vllm", "server.address": "127.0.0.1", "server.port": 8000}
    assert told_by(engine) | common | of_engine == told_by(engine)
    of_process = {"messaging.operation.type": "process", "ghub.attempt": 1, "ghub.node": NODE, "ghub.outcome": "done"}
    assert told_by(process) | of_process == told_by(process)
    assert told_by(process)["messaging.message.id"] == told_by(publish)["messaging.message.id"]
    assert [event.name for one in (server, engine) for event in one.events] == ["first_data", "first_data"]
    assert all((one.start_time or 0) <= one.events[0].timestamp <= (one.end_time or 0) for one in (server, engine))
    assert told_by(engine)["gen_ai.response.time_to_first_chunk"] >= 0
    assert {one.status.status_code for one in spans.all} == {StatusCode.UNSET}

    assert all(word not in texts_of(spans.all) for word in (PROMPT, SAID, "secret"))


async def test_contents_are_told_where_a_provider_was_told_to_tell_them(broker: Broker) -> None:
    spans = Spans()
    async with a_traced_hub(broker, spans) as stage, a_node(broker, spans, NODE, traces_content=True) as node:
        client = Client(stage)
        await run_next(stage, node)
        await client.end()
        await ended(stage, spans, 5)
    told = told_by(engine_spans(spans)[0])
    assert told["gen_ai.input.messages"] == f'[{{"role":"user","parts":[{{"type":"text","content":"{PROMPT}"}}]}}]'
    assert told["gen_ai.output.messages"] == f'[{{"role":"assistant","parts":[{{"type":"text","content":"{SAID}"}}]}}]'
    assert "secret" not in texts_of([one for one in spans.all if one.kind is not SpanKind.CLIENT])


async def test_a_failover_is_two_attempts_in_one_trace(broker: Broker) -> None:
    spans = Spans()
    async with (
        a_traced_hub(broker, spans) as stage,
        a_node(broker, spans, NODE) as first,
        a_node(broker, spans, OTHER_NODE) as second,
    ):
        first.engine.refuses = BROKE
        client = Client(stage)
        await run_next(stage, first)
        await run_next(stage, second)
        await client.end()
        await ended(stage, spans, 9)
        assert client.status == 200

    server, failed, done = server_span(spans), spans.one("process interactive"), spans.one("process retry")
    publish, again = spans.one("publish interactive"), spans.one("publish retry")
    assert len({one.context.trace_id for one in spans.all}) == 1
    assert is_under(failed, publish)
    assert is_under(done, again)
    assert is_under(publish, server)
    assert is_under(again, server)
    assert [one.context.span_id for one in again.links] == [publish.context.span_id]
    assert [is_under(one, other) for one, other in zip(spans.named("wait"), (publish, again), strict=True)] == [
        True
    ] * 2
    assert [is_under(one, other) for one, other in zip(engine_spans(spans), (failed, done), strict=True)] == [True] * 2
    (requeued,) = [event for event in server.events if event.name == "requeued"]
    assert dict(requeued.attributes or {}) == {"error.type": "engine_disconnected", "ghub.attempt": 2}
    assert [told_by(one)["ghub.attempt"] for one in (failed, done, server)] == [1, 2, 2]
    assert [told_by(one)["ghub.node"] for one in (failed, done, server)] == [NODE, OTHER_NODE, OTHER_NODE]
    for one in (failed, engine_spans(spans)[0]):
        assert (one.status.status_code, told_by(one)["error.type"]) == (StatusCode.ERROR, "engine_disconnected")
    assert {one.status.status_code for one in (server, done, publish, again)} == {StatusCode.UNSET}


async def test_a_job_given_back_says_why(broker: Broker) -> None:
    spans = Spans()
    async with a_traced_hub(broker, spans) as stage, a_node(broker, spans, NODE) as node:
        client = Client(stage)
        delivery, _ = await stage.take(NODE)
        await node.runner.give_back(delivery, Reason.GPU_BUSY)
        await run_next(stage, node)
        await client.end()
        await ended(stage, spans, 8)
    released = spans.one("process interactive")
    told = told_by(released)
    assert (told["error.type"], told["ghub.release.reason"]) == ("released", "gpu-busy")
    assert [event.name for event in server_span(spans).events] == ["requeued", "first_data"]


async def test_a_client_that_leaves_and_one_that_is_refused_are_told_so(broker: Broker) -> None:
    spans = Spans()
    async with a_traced_hub(broker, spans) as stage, a_node(broker, spans, NODE):
        leaver = Client(stage)
        await stage.claim()
        leaver.leave()
        await leaver.end()
        await ended(stage, spans, 3)
        assert told_by(server_span(spans))["error.type"] == "client_gone"
        refused = Client(stage, {"x-ghub-lane": "fast"})
        await refused.end()
        unknown = Client(stage, model="no:1b")
        await unknown.end()
    lane, model = spans.one("POST /v1/chat/completions"), spans.one("chat no:1b")
    assert [told_by(one)["http.response.status_code"] for one in (lane, model)] == [refused.status, unknown.status]
    assert [told_by(one)["error.type"] for one in (lane, model)] == ["invalid_header", "model_not_found"]


async def test_a_request_that_another_hub_takes_over_goes_on_in_its_trace(broker: Broker) -> None:
    spans = Spans()
    async with a_traced_hub(broker, spans) as stage, a_node(broker, spans, NODE):
        client = Client(stage, {"x-ghub-resumable": "1"}, stream=False)
        delivery, job = await stage.claim()
        await stage.hub.dispatcher.drain(0)
        await client.end()
        await ended(stage, spans, 3)
        handed_on = server_span(spans)
        other = Hub(HubSettings(name="other"), broker, spans.of("ghub-hub"))
        other.start()
        try:
            adopted = other.dispatcher.adopt(
                job, delivery.ticket, wishes=Wishes(is_resumable=True), key=None, gives_up_at_ms=None
            )
            start = Start(200, "application/json", NODE)
            await stage.say(job, 1, ReplyEntry(start=start, data=b"{}", end=Usage(1, 1)))
            assert await Stage(broker, other).end_of(adopted) is None
            await ended(Stage(broker, other), spans, 4)
        finally:
            await other.stop()
    adoption = spans.one(f"adopt {MODEL}")
    assert told_by(handed_on)["error.type"] == "handed_on"
    assert is_under(adoption, spans.one("publish interactive"))
    assert (adoption.status.status_code, told_by(adoption)["ghub.request.id"]) == (StatusCode.UNSET, job.id)


async def test_one_that_reads_along_under_a_key_says_with_what(broker: Broker) -> None:
    spans = Spans()
    async with a_traced_hub(broker, spans) as stage, a_node(broker, spans, NODE) as node:
        clients = [Client(stage, {"idempotency-key": "k"})]
        delivery, job = await stage.take()
        clients.append(Client(stage, {"idempotency-key": "k"}))
        await node.runner.accept(delivery)
        for client in clients:
            await client.end()
        await ended(stage, spans, 6)
        assert clients[0].heard == clients[1].heard
    (replayed,) = [one for one in spans.named(CHAT) if told_by(one).get("ghub.replayed")]
    assert (told_by(replayed)["ghub.request.id"], replayed.status.status_code) == (job.id, StatusCode.UNSET)


async def test_a_trace_that_is_not_sampled_is_passed_on_and_leaves_nothing(broker: Broker) -> None:
    spans = Spans(ratio=0)
    async with a_traced_hub(broker, spans) as stage, a_node(broker, spans, NODE) as node:
        for headers in ({}, {"traceparent": TRACEPARENT[:-1] + "0"}):
            client = Client(stage, headers)
            await run_next(stage, node)
            await client.end()
        assert [int(one[-2:], 16) & 1 for one in node.engine.traces] == [0, 0]
        assert node.engine.traces[1][3:35] == CALLER[0]
        client = Client(stage, {"traceparent": TRACEPARENT})
        await run_next(stage, node)
        await client.end()
        await ended(stage, spans, 5)
    assert {one.context.trace_id for one in spans.all} == {int(CALLER[0], 16)}, "its caller's word counts"


async def test_two_that_are_told_at_once_keep_their_traces_apart(broker: Broker) -> None:
    spans = Spans()
    async with a_traced_hub(broker, spans) as stage, a_node(broker, spans, NODE) as node:
        clients = [Client(stage), Client(stage)]
        for _ in clients:
            await run_next(stage, node)
        await asyncio.gather(*(one.end() for one in clients))
        await ended(stage, spans, 10)
    assert len({one.context.trace_id for one in spans.all}) == 2
    assert all(told_by(one).get("error.type") is None for one in spans.all)
    assert not trace.get_current_span().get_span_context().is_valid


@pytest.mark.parametrize("sent", ["", "00-1-1-01", "x" * 10_000, "ff-" + "0" * 60])
async def test_what_is_no_trace_of_a_caller_begins_one(broker: Broker, sent: str) -> None:
    spans = Spans()
    async with a_traced_hub(broker, spans) as stage, a_node(broker, spans, NODE) as node:
        client = Client(stage, {"traceparent": sent, "tracestate": sent})
        await run_next(stage, node)
        await client.end()
        await ended(stage, spans, 5)
    assert server_span(spans).parent is None
