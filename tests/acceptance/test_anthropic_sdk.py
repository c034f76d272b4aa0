"""The real anthropic SDK against the real stack, with nothing changed but the URL."""

from typing import Any

import pytest

from tests.acceptance.conftest import RealGrid
from tests.support import late
from tests.support.llamacpp import MODEL

pytestmark = pytest.mark.acceptance

QUESTION: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
SURE: dict[str, Any] = {"temperature": 0}
"""Else an answer may be as short as it likes."""


def test_a_message_comes_whole(anthropic_client: "late.anthropic.Anthropic") -> None:
    message = anthropic_client.messages.create(model=MODEL, max_tokens=16, messages=QUESTION)
    (block,) = message.content
    assert block.type == "text"
    assert block.text
    assert message.usage.output_tokens > 0
    assert message.stop_reason in ("end_turn", "max_tokens")
    assert message._request_id is not None


def test_a_message_streams_piece_by_piece(anthropic_client: "late.anthropic.Anthropic") -> None:
    with anthropic_client.messages.stream(model=MODEL, max_tokens=16, messages=QUESTION, extra_body=SURE) as stream:
        pieces = [*stream.text_stream]
        final = stream.get_final_message()
    assert len(pieces) > 5
    assert final.content[0].type == "text"
    assert "".join(pieces) == final.content[0].text
    assert final.usage.output_tokens > 5


def test_raw_events_come_in_their_order(anthropic_client: "late.anthropic.Anthropic") -> None:
    events = anthropic_client.messages.create(
        model=MODEL, max_tokens=4, messages=QUESTION, extra_body=SURE, stream=True
    )
    kinds = [event.type for event in events]
    assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")
    assert kinds.count("content_block_delta") >= 2


def test_a_system_prompt_and_the_key_in_another_place_do_too(real_grid: RealGrid) -> None:
    with late.anthropic.Anthropic(base_url=real_grid.hub_url, auth_token="unused", max_retries=0) as client:
        message = client.messages.create(model=MODEL, max_tokens=4, messages=QUESTION, system="Be brief.")
    assert message.role == "assistant"


def test_tokens_are_counted(anthropic_client: "late.anthropic.Anthropic") -> None:
    told = anthropic_client.messages.create(model=MODEL, max_tokens=1, messages=QUESTION).usage
    counted = anthropic_client.messages.count_tokens(model=MODEL, messages=QUESTION).input_tokens
    assert counted == told.input_tokens + (told.cache_read_input_tokens or 0)


def test_models_are_listed_and_described(anthropic_client: "late.anthropic.Anthropic") -> None:
    assert [model.id for model in anthropic_client.models.list()] == [MODEL]
    assert anthropic_client.models.retrieve(MODEL).created_at.year > 2025
    with pytest.raises(late.anthropic.NotFoundError, match="nobody/has:this"):
        anthropic_client.models.retrieve("nobody/has:this")


def test_an_unknown_model_is_the_sdk_s_not_found_error(anthropic_client: "late.anthropic.Anthropic") -> None:
    with pytest.raises(late.anthropic.NotFoundError, match="nobody/has:this") as caught:
        anthropic_client.messages.create(model="nobody/has:this", max_tokens=4, messages=QUESTION)
    assert caught.value.type == "not_found_error"
    assert caught.value.request_id is not None


def test_a_wrong_type_is_the_sdk_s_bad_request_error(anthropic_client: "late.anthropic.Anthropic") -> None:
    with pytest.raises(late.anthropic.BadRequestError, match="messages"):
        anthropic_client.messages.create(model=MODEL, max_tokens=4, messages=[])


@pytest.mark.parametrize("is_stream", [True, False])
def test_a_prompt_longer_than_the_context_is_the_sdk_s_error(
    is_stream: bool, anthropic_client: late.anthropic.Anthropic
) -> None:
    long: list[Any] = [{"role": "user", "content": "word " * 20_000}]
    with pytest.raises(late.anthropic.BadRequestError):
        anthropic_client.messages.create(model=MODEL, max_tokens=4, messages=long, stream=is_stream)
