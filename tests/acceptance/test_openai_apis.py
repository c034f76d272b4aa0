"""OpenAI's other APIs, asked for with the real openai-python against the real stack."""

import pytest

from tests.acceptance.conftest import RealGrid
from tests.support import late
from tests.support.llamacpp import MODEL
from tests.support.processes import until

pytestmark = pytest.mark.acceptance

QUESTION = "What is the capital of France?"


def test_a_response_comes_whole(client: "late.openai.OpenAI") -> None:
    response = client.responses.create(model=MODEL, input=QUESTION, max_output_tokens=16, temperature=0)
    assert response.output_text
    assert response.usage is not None
    assert response.usage.output_tokens_details.reasoning_tokens == 0
    assert (response.tools, response.error, response.parallel_tool_calls) == ([], None, True)


def test_a_response_streams_event_by_event(client: "late.openai.OpenAI") -> None:
    events = [*client.responses.create(model=MODEL, input=QUESTION, max_output_tokens=8, temperature=0, stream=True)]
    assert events[0].type == "response.created"
    assert events[0].response.model == MODEL
    assert events[0].response.output_text == ""
    assert [event.sequence_number for event in events] == [*range(len(events))]
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == said != ""


def test_the_sdk_s_own_reader_of_streams_does_not_trip(client: "late.openai.OpenAI") -> None:
    with client.responses.stream(model=MODEL, input=QUESTION, max_output_tokens=8, temperature=0) as stream:
        snapshots = [event.snapshot for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert len(snapshots) > 3
    assert snapshots[-1] == final.output_text
    assert final.usage is not None
    assert final.usage.output_tokens > 3


def test_a_conversation_is_sent_whole_since_none_is_kept(client: "late.openai.OpenAI") -> None:
    talk = client.responses.create(
        model=MODEL,
        input=[{"role": "user", "content": "My name is Ada."}, {"role": "user", "content": "What is my name?"}],
        instructions="Be brief.",
        max_output_tokens=8,
    )
    assert talk.output_text
    with pytest.raises(late.openai.BadRequestError) as caught:
        client.responses.create(model=MODEL, input=QUESTION, previous_response_id=talk.id)
    assert caught.value.param == "previous_response_id"
    with pytest.raises(late.openai.NotFoundError, match="keeps no responses"):
        client.responses.retrieve(talk.id)


def test_the_hub_knows_what_a_stream_took_though_its_client_did_not_ask(
    client: "late.openai.OpenAI", real_grid: RealGrid
) -> None:
    asked = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=[{"role": "user", "content": QUESTION}], max_tokens=6, stream=True
    )
    chunks = [*asked.parse()]
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    key = f"ghub:request:{asked.headers['x-request-id']}"
    with real_grid.broker.client() as broker:
        until(lambda: broker.hget(key, "ended_at") is not None, 5, f"{key} to be over")
        facts = dict(broker.hgetall(key))
    assert facts["completion_tokens"] == "6"
    assert int(facts["prompt_tokens"]) > 20


def test_what_the_engine_does_not_serve_is_a_not_found_error_that_says_so(client: "late.openai.OpenAI") -> None:
    """This llama.cpp runs without embeddings."""
    with pytest.raises(late.openai.NotFoundError) as caught:
        client.embeddings.create(model=MODEL, input="hi")
    assert caught.value.code == "endpoint_not_supported"


def test_what_no_grid_serves_is_a_not_found_error_too(client: "late.openai.OpenAI") -> None:
    with pytest.raises(late.openai.NotFoundError, match="does not serve POST /v1/moderations"):
        client.moderations.create(input="hi")
