"""The real `ollama` client against the real stack, with nothing changed but the URL; the model is llama.cpp's."""

from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import SLOTS, RealGrid
from tests.support import late
from tests.support.grid import Grid
from tests.support.llamacpp import MODEL

pytestmark = pytest.mark.acceptance

QUESTION: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
LONG = "word " * 20
"""Gone on with, it is said again and again."""
SURE: dict[str, Any] = {"temperature": 0, "num_predict": 24}
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@pytest.fixture
async def async_client(real_grid: RealGrid) -> AsyncIterator["late.ollama.AsyncClient"]:
    async with late.ollama.AsyncClient(real_grid.hub_url, timeout=60) as client:
        yield client


def test_a_chat_streams_what_it_would_say_whole(ollama_client: "late.ollama.Client") -> None:
    parts = [*ollama_client.chat(MODEL, QUESTION, stream=True, options=SURE)]
    whole = ollama_client.chat(MODEL, QUESTION, options=SURE)
    assert len(parts) > 10
    assert "".join(part.message.content or "" for part in parts) == whole.message.content
    assert whole.message.content
    for last in (parts[-1], whole):
        assert (last.done, last.model) == (True, MODEL)
        assert last.done_reason in ("stop", "length")
        assert last.eval_count
        assert last.prompt_eval_count
        assert last.total_duration
        assert last.eval_duration
        assert last.created_at


def test_a_prompt_is_answered_with_a_system_s_words_before_it(ollama_client: "late.ollama.Client") -> None:
    parts = [*ollama_client.generate(MODEL, "Say hello.", system="You are brief.", stream=True, options=SURE)]
    whole = ollama_client.generate(MODEL, "Say hello.", system="You are brief.", options=SURE)
    assert "".join(part.response for part in parts) == whole.response
    assert whole.response
    assert whole.eval_count == parts[-1].eval_count


def test_a_raw_prompt_is_gone_on_with(ollama_client: "late.ollama.Client") -> None:
    said = ollama_client.generate(MODEL, "One, two, three,", raw=True, options=SURE).response
    assert "four" in said


@pytest.mark.parametrize("form", ["json", CITY], ids=["json", "schema"])
def test_an_answer_takes_the_form_that_was_asked_for(ollama_client: "late.ollama.Client", form: Any) -> None:
    said = ollama_client.chat(MODEL, QUESTION, format=form, options={"num_predict": 64}).message.content
    assert said is not None
    assert said.lstrip().startswith("{")
    assert form == "json" or '"city"' in said


def test_a_chat_with_tools_and_their_results_goes_on(ollama_client: "late.ollama.Client") -> None:
    def get_weather(city: str) -> str:
        """Tell the weather.

        Args:
            city: where
        """
        return f"sunny in {city}"

    called = {"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}
    told = [
        *QUESTION,
        {"role": "assistant", "content": "", "tool_calls": [called]},
        {"role": "tool", "tool_name": "get_weather", "content": "sunny"},
    ]
    answer = ollama_client.chat(MODEL, told, tools=[get_weather], options=SURE)
    assert answer.done


def test_a_model_can_be_loaded_ahead(ollama_client: "late.ollama.Client") -> None:
    loaded = ollama_client.generate(MODEL, "", keep_alive="5m")
    assert (loaded.response, loaded.done, loaded.done_reason) == ("", True, "load")


def test_the_models_of_the_grid_are_listed_and_shown(ollama_client: "late.ollama.Client") -> None:
    (listed,) = ollama_client.list().models
    assert listed.model == MODEL
    (running,) = ollama_client.ps().models
    assert running.model == MODEL
    assert ollama_client.show(MODEL).capabilities == ["completion"]


@pytest.mark.parametrize("stream", [False, True])
def test_an_unknown_model_is_an_error_of_the_client_s_own(ollama_client: "late.ollama.Client", stream: bool) -> None:
    with pytest.raises(late.ollama.ResponseError, match="nobody:7b") as caught:
        for _ in ollama_client.chat("nobody:7b", QUESTION, stream=stream):
            pass
    assert caught.value.status_code == 404


def test_what_the_engine_cannot_do_is_an_error_with_words(ollama_client: "late.ollama.Client") -> None:
    with pytest.raises(late.ollama.ResponseError) as caught:
        ollama_client.embed(MODEL, "hello")
    assert caught.value.status_code in (404, 501)
    assert caught.value.error


@pytest.mark.parametrize("change", ["pull", "delete", "create"])
def test_models_are_not_a_client_s_to_change(ollama_client: "late.ollama.Client", change: str) -> None:
    with pytest.raises(late.ollama.ResponseError, match="does not let clients change") as caught:
        getattr(ollama_client, change)(MODEL)
    assert caught.value.status_code == 403


async def test_the_other_client_streams_too(async_client: "late.ollama.AsyncClient") -> None:
    parts = [part async for part in await async_client.chat(MODEL, QUESTION, stream=True, options=SURE)]
    assert len(parts) > 10
    assert parts[-1].done


def test_a_client_that_waits_in_line_is_none_the_worse(real_grid: RealGrid, tmp_path: Path) -> None:
    """Meanwhile it hears lines without a word, which are part of its answer."""
    with closing(Grid(real_grid.broker, tmp_path)) as grid:
        hub = grid.hub(GHUB_HUB_FIRST_COMMENT_S="0.2")
        grid.wait_for_model(hub, MODEL)
        with late.ollama.Client(hub, timeout=60) as client:
            endless = {"num_predict": 2000}
            long = [client.generate(MODEL, LONG, raw=True, stream=True, options=endless) for _ in range(SLOTS)]
            for answer in long:
                next(part for part in answer if part.response)
            parts = client.chat(MODEL, QUESTION, stream=True, options=SURE)
            waiting = next(parts)
            assert (waiting.message.content, waiting.done, waiting.model) == ("", False, MODEL)
            for answer in long:
                answer.close()
            rest = [*parts]
    assert "".join(part.message.content or "" for part in rest)
    assert rest[-1].done
