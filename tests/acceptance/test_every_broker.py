"""What clients see on the other kinds of broker: each way of answering and of leaving, told once for all in its file.

The whole suite on one of them: `pytest tests/acceptance --broker cluster`.
"""

from collections.abc import Iterator

import pytest

from tests.acceptance.conftest import RealGrid, grid_on
from tests.acceptance.test_anthropic_sdk import test_a_message_streams_piece_by_piece
from tests.acceptance.test_ollama_client import (
    test_a_chat_streams_what_it_would_say_whole,
    test_a_client_that_waits_in_line_is_none_the_worse,
)
from tests.acceptance.test_openai_apis import (
    test_a_response_streams_event_by_event,
    test_the_hub_knows_what_a_stream_took_though_its_client_did_not_ask,
)
from tests.acceptance.test_openai_sdk import (
    test_a_chat_streams_token_by_token,
    test_an_unknown_model_is_the_sdk_s_not_found_error,
    test_closing_a_stream_frees_the_slot_within_a_second,
    test_giving_up_on_a_whole_answer_frees_the_slot_within_a_second,
    test_headers_tell_the_request_its_node_and_its_attempt,
    test_models_are_listed_and_described,
)
from tests.support.broker_kinds import BROKER_KINDS

pytestmark = pytest.mark.acceptance

OTHERS = [kind for kind in BROKER_KINDS if kind not in ("valkey", "redis")]
"""The suite itself runs on Valkey, and the broker with TLS is a Redis."""
TESTS = (
    test_a_chat_streams_token_by_token,
    test_a_chat_streams_what_it_would_say_whole,
    test_a_client_that_waits_in_line_is_none_the_worse,
    test_a_message_streams_piece_by_piece,
    test_a_response_streams_event_by_event,
    test_an_unknown_model_is_the_sdk_s_not_found_error,
    test_closing_a_stream_frees_the_slot_within_a_second,
    test_giving_up_on_a_whole_answer_frees_the_slot_within_a_second,
    test_headers_tell_the_request_its_node_and_its_attempt,
    test_models_are_listed_and_described,
    test_the_hub_knows_what_a_stream_took_though_its_client_did_not_ask,
)
"""Collected here too, since this module has them, with the grid below."""


@pytest.fixture(scope="module", params=OTHERS)
def real_grid(
    request: pytest.FixtureRequest, real_engine: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RealGrid]:
    with grid_on(request.param, real_engine, tmp_path_factory.mktemp(request.param)) as grid:
        yield grid
