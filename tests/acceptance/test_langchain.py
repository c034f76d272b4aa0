"""LangChain's ChatOpenAI against the real stack, with nothing changed but the URL."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from tests.acceptance.conftest import RealGrid
from tests.support import late
from tests.support.llamacpp import MODEL

if TYPE_CHECKING:  # each process that collects this would take half a second to import it
    from langchain_openai import ChatOpenAI

pytestmark = pytest.mark.acceptance

QUESTION = "What is the capital of France?"


@pytest.fixture(scope="module")  # LangChain shares one connection pool among all of an address
def chat(real_grid: RealGrid) -> Iterator["ChatOpenAI"]:
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(
        model=MODEL,
        base_url=f"{real_grid.hub_url}/v1",
        api_key=SecretStr("unused"),
        max_retries=0,
        timeout=60,
        temperature=0,
        max_completion_tokens=12,
    )
    yield model
    model.root_client.close()


def test_a_chat_is_invoked_and_tells_its_usage(chat: "ChatOpenAI") -> None:
    answer = chat.invoke(QUESTION)
    assert answer.content
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] > 0


def test_a_chat_streams(chat: "ChatOpenAI") -> None:
    chunks = [*chat.stream(QUESTION)]
    assert {type(chunk).__name__ for chunk in chunks} == {"AIMessageChunk"}
    assert sum(bool(chunk.content) for chunk in chunks) > 5


def test_the_responses_api_is_spoken_too(chat: "ChatOpenAI") -> None:
    speaker = chat.model_copy(update={"use_responses_api": True})
    assert speaker.invoke(QUESTION).text
    assert "".join(chunk.text for chunk in speaker.stream(QUESTION))


def test_embeddings_that_the_engine_lacks_are_refused_in_words(real_grid: RealGrid) -> None:
    from langchain_openai import OpenAIEmbeddings

    embeddings = OpenAIEmbeddings(
        model=MODEL,
        base_url=f"{real_grid.hub_url}/v1",
        api_key=SecretStr("unused"),
        max_retries=0,
        check_embedding_ctx_length=False,
    )
    with pytest.raises(late.openai.NotFoundError, match="embeddings"):
        embeddings.embed_query("hi")
