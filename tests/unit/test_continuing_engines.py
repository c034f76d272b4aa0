"""What each engine is asked when it is to go on with an answer, and what is made of the way it does."""

from typing import Any

import orjson
import pytest

from common.types import ModelId
from provider.errors import EngineError, EngineFailed
from provider.protocol.engine import Question, Said
from provider.protocol.failures import engine_error, read_failure
from tests.doubles.cases import said
from tests.unit.continued import view_of
from tests.unit.engine_words import CHAT, COMPLETIONS, GENERATE, NATIVE_CHAT, SpokenAnswer, WordsOf, engine_of

USER = {"role": "user", "content": "count"}
BEGUN = Said("t0 t1 \n", 2)


def a_question(endpoint: str, begun: Said | None = BEGUN, **fields: Any) -> Question:
    body = {"model": "m", "stream": True, "max_tokens": 2, **fields}
    return Question("r", endpoint, ModelId("m"), True, orjson.dumps(body), said=begun)


async def asked(kind: str, question: Question) -> tuple[str, dict[str, Any]]:
    """The path and the body with which the engine itself is asked."""
    words = WordsOf(kind)
    await said(engine_of(words), question)
    (own,) = words.asked
    return own.endpoint, orjson.loads(own.body)


class Refusing(WordsOf):
    """Refuses each question of which the body lacks a word, until it has it."""

    def _answer(self, question: Question) -> SpokenAnswer:
        if b'"enable_thinking":false' not in question.body:
            error = {"error": {"message": "Assistant response prefill is incompatible with enable_thinking."}}
            raise engine_error(read_failure(400, orjson.dumps(error)))
        return super()._answer(question)


@pytest.mark.parametrize("kind", ["llamacpp", "vllm", "openai", "lmstudio"])
async def test_completions_have_the_text_behind_their_prompt(kind: str) -> None:
    for prompt in ("count: ", ["count: "]):
        path, body = await asked(kind, a_question(COMPLETIONS, prompt=prompt))
        assert (path, body["prompt"]) == (COMPLETIONS, "count: t0 t1 \n")


async def test_llama_cpp_has_the_text_to_the_letter() -> None:
    _, body = await asked("llamacpp", a_question(CHAT, messages=[USER]))
    assert body["messages"] == [USER, {"role": "assistant", "content": "t0 t1 \n"}]
    assert "chat_template_kwargs" not in body


async def test_llama_cpp_has_the_text_behind_what_the_client_let_it_say() -> None:
    for own, joined in (
        ("Well: ", "Well: t0 t1 \n"),
        (None, "t0 t1 \n"),
        ([{"type": "text", "text": "Well: "}], [{"type": "text", "text": "Well: t0 t1 \n"}]),
    ):
        talk = [USER, {"role": "assistant", "content": own, "name": "a"}]
        _, body = await asked("llamacpp", a_question(CHAT, messages=talk))
        assert body["messages"] == [USER, {"role": "assistant", "content": joined, "name": "a"}]


async def test_llama_cpp_of_old_is_told_not_to_think_where_it_would_not_go_on() -> None:
    words = Refusing("llamacpp")
    question = a_question(CHAT, messages=[USER], chat_template_kwargs={"enable_thinking": True, "x": 1})
    answer = await said(engine_of(words), question)
    assert view_of(answer).ends == 1
    assert [orjson.loads(one.body)["chat_template_kwargs"] for one in words.asked] == [
        {"enable_thinking": True, "x": 1},
        {"enable_thinking": False, "x": 1},
    ]


async def test_llama_cpp_s_other_refusals_are_heard() -> None:
    with pytest.raises(EngineError, match="token limit"):
        await said(engine_of(WordsOf("llamacpp")), a_question(CHAT, messages=[USER], max_tokens="many"))


async def test_vllm_is_told_to_go_on_and_shown_no_blanks_at_the_end() -> None:
    _, body = await asked("vllm", a_question(CHAT, messages=[USER]))
    assert body["messages"] == [USER, {"role": "assistant", "content": "t0 t1"}]
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)


async def test_vllm_began_another_message_where_it_was_not_told_to_go_on_with_the_client_s() -> None:
    talk = [USER, {"role": "assistant", "content": "Well: "}]
    _, anew = await asked("vllm", a_question(CHAT, messages=talk))
    assert anew["messages"] == [*talk, {"role": "assistant", "content": "t0 t1"}]
    told = {"continue_final_message": True, "add_generation_prompt": False}
    _, joined = await asked("vllm", a_question(CHAT, messages=talk, **told))
    assert joined["messages"] == [USER, {"role": "assistant", "content": "Well: t0 t1"}]


@pytest.mark.parametrize(
    ("begun", "rest"),
    [("t0 t1 ", "t2 t3 "), ("t0 t1", " t2 t3 "), ("t0 t1 \n", "t2 t3 "), ("t0 t1\n", " t2 t3 "), ("  ", "t0 t1 ")],
)
@pytest.mark.parametrize("kind", ["vllm", "ollama"])
async def test_blanks_that_an_engine_says_again_are_left_out_as_far_as_they_are_the_same(
    kind: str, begun: str, rest: str
) -> None:
    answer = await said(engine_of(WordsOf(kind)), a_question(CHAT, Said(begun, 2), messages=[USER]))
    assert view_of(answer).text == rest


class Blanks(WordsOf):
    """Says the blanks one by one, in a chat of either API."""

    def _answer(self, question: Question) -> SpokenAnswer:
        texts = ["\n", "\n", "\n t2", " t3"]
        if question.endpoint == CHAT:
            chunks = [{"choices": [{"delta": {"content": text}, "finish_reason": None}]} for text in texts]
            return SpokenAnswer([b"data: %b\n\n" % orjson.dumps(one) for one in chunks], "text/event-stream", None)
        lines = [{"model": "m", "message": {"role": "assistant", "content": text}, "done": False} for text in texts]
        return SpokenAnswer([orjson.dumps(one) + b"\n" for one in lines], "application/x-ndjson", None)


@pytest.mark.parametrize("endpoint", [CHAT, NATIVE_CHAT])
@pytest.mark.parametrize(
    ("begun", "rest"), [("x\n", "\n\n t2 t3"), ("x\n\n\n", " t2 t3"), ("x\n\n\n ", "t2 t3"), ("x ", "\n\n\n t2 t3")]
)
async def test_blanks_are_left_out_in_however_many_pieces_they_come(endpoint: str, begun: str, rest: str) -> None:
    answer = await said(engine_of(Blanks("ollama")), a_question(endpoint, Said(begun, 2), messages=[USER]))
    assert view_of(answer).text == rest


async def test_ollama_goes_on_with_a_last_message_in_either_api() -> None:
    for path in (CHAT, NATIVE_CHAT):
        own, body = await asked("ollama", a_question(path, messages=[USER]))
        assert (own, body["messages"]) == (path, [USER, {"role": "assistant", "content": "t0 t1"}])


async def test_ollama_s_prompts_that_have_begun_are_asked_as_the_chats_that_they_are() -> None:
    fields = {"prompt": "count", "system": "Be brief.", "images": ["aGk="], "keep_alive": "5m", "options": {"seed": 1}}
    path, body = await asked("ollama", a_question(GENERATE, **fields))
    assert path == NATIVE_CHAT
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "count", "images": ["aGk="]},
        {"role": "assistant", "content": "t0 t1"},
    ]
    assert (body["keep_alive"], body["options"], body["model"]) == ("5m", {"seed": 1}, "m")
    assert not {"prompt", "system", "images"} & {*body}
    path, body = await asked("ollama", a_question(COMPLETIONS, prompt="count", seed=1))
    assert (path, body["seed"], body["messages"][0], "prompt" in body) == (CHAT, 1, USER, False)


async def test_ollama_s_chats_are_put_back_into_the_form_that_was_asked_for() -> None:
    lines = await said(engine_of(WordsOf("ollama")), a_question(GENERATE, prompt="count", options={"num_predict": 2}))
    told = [orjson.loads(line) for line in lines.splitlines()]
    assert [line["response"] for line in told] == ["t2 ", "t3 ", ""]
    assert not any("message" in line for line in told)
    assert (told[-1]["done"], told[-1]["eval_count"]) == (True, 2)
    events = await said(engine_of(WordsOf("ollama")), a_question(COMPLETIONS, prompt="count"))
    assert view_of(events).text == "t2 t3 "
    assert {one[1] for one in view_of(events).ids} == {"text_completion"}
    assert b'"delta"' not in events


async def test_ollama_s_raw_prompts_have_the_text_behind_them() -> None:
    path, body = await asked("ollama", a_question(GENERATE, prompt="count: ", raw=True))
    assert (path, body["prompt"], body["raw"]) == (GENERATE, "count: t0 t1 \n", True)


async def test_ollama_s_questions_pass_on_to_others_with_their_beginning() -> None:
    path, body = await asked("llamacpp", a_question(GENERATE, prompt="count", system="Be brief."))
    assert (path, body["messages"][-1]) == (CHAT, {"role": "assistant", "content": "t0 t1 \n"})
    path, body = await asked("vllm", a_question(GENERATE, prompt="count: ", raw=True))
    assert (path, body["prompt"]) == (COMPLETIONS, "count: t0 t1 \n")


@pytest.mark.parametrize("kind", ["llamacpp", "vllm", "ollama", "openai", "lmstudio"])
async def test_what_has_not_begun_is_asked_in_the_client_s_own_bytes(kind: str) -> None:
    question = a_question(COMPLETIONS, None, prompt="count", stream_options={"include_usage": True})
    words = WordsOf(kind)
    await said(engine_of(words), question)
    assert [one.body for one in words.asked] == [question.body]


async def test_a_body_without_what_is_to_be_gone_on_with_is_no_question() -> None:
    for kind, endpoint in (("llamacpp", CHAT), ("vllm", CHAT), ("ollama", NATIVE_CHAT), ("openai", COMPLETIONS)):
        with pytest.raises(EngineFailed) as caught:
            await said(engine_of(WordsOf(kind)), a_question(endpoint))
        assert caught.value.failure.code == "cannot_continue"
