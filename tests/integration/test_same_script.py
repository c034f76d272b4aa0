"""One script of openai-python, unchanged, against llama.cpp, Ollama and vLLM behind one hub."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.doubles.models import Model
from tests.doubles.process import EngineProcess
from tests.support import late
from tests.support.grid import Grid
from tests.support.llamacpp import MODEL, real_llamacpp
from tests.support.processes import until

LLAMA_SLOTS = 2
MODELS = {"llama.cpp": MODEL, "ollama": "llama3", "vllm": "org/big-7b"}
QUESTION: list[Any] = [{"role": "user", "content": "Count from 1 to 1000, one number a line."}]


class Parts:
    """The hub, and the engines behind it."""

    def __init__(self, grid: Grid, llama_url: str) -> None:
        self.hub = grid.hub()
        self.llama_url = llama_url
        models = {"ollama": Model("llama3:latest", is_loaded=True), "vllm": Model(MODELS["vllm"])}
        self.doubles: dict[str, EngineProcess] = {kind: grid.engine(model, kind=kind) for kind, model in models.items()}
        urls = {"llama.cpp": llama_url, **{kind: double.url for kind, double in self.doubles.items()}}
        for kind, url in urls.items():
            grid.provider(url, f"node-of-{kind}", wait=False)
        for model in MODELS.values():
            grid.wait_for_model(self.hub, model, within_s=30)

    def busy(self, engine: str) -> int:
        """How many generations an engine works on."""
        if engine in self.doubles:
            return int(self.doubles[engine].state()["open"])
        slots = httpx2.get(f"{self.llama_url}/slots", timeout=10, trust_env=False).json()
        return sum(slot["is_processing"] for slot in slots)


@pytest.fixture(scope="module")
def parts(module_grid: Grid, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    with real_llamacpp(tmp_path_factory.mktemp("llamacpp"), LLAMA_SLOTS) as url:
        yield Parts(module_grid, url)


@pytest.mark.parametrize("engine", MODELS)
def test_one_script_runs_unchanged_whatever_engine_answers(engine: str, parts: Parts) -> None:
    with late.openai.OpenAI(base_url=f"{parts.hub}/v1", api_key="unused", max_retries=0, timeout=30) as client:
        _script(client, MODELS[engine])
    until(lambda: parts.busy(engine) == 0, 3, f"{engine} still generates for nobody")


def test_no_job_ever_reached_what_changes_an_engine(parts: Parts) -> None:
    for path in ("delete", "pull", "create", "copy", "push"):
        body = {"model": MODELS["ollama"], "messages": QUESTION}
        answer = httpx2.post(f"{parts.hub}/api/{path}", json=body, timeout=10, trust_env=False)
        assert answer.status_code == 403
    paths = {request["path"] for request in parts.doubles["ollama"].state()["requests"]}
    assert paths <= {"/v1/chat/completions", "/v1/completions"}


def _script(client: "late.openai.OpenAI", model: str) -> None:
    """What a user's program does."""
    assert model in [one.id for one in client.models.list()]
    assert client.models.retrieve(model).id == model

    whole = client.chat.completions.create(model=model, messages=QUESTION, max_tokens=6, temperature=0)
    assert whole.choices[0].message.role == "assistant"
    assert whole.choices[0].message.content
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 6

    options: dict[str, Any] = {"stream_options": {"include_usage": True}}
    chunks = [
        *client.chat.completions.create(
            model=model, messages=QUESTION, max_tokens=6, temperature=0, stream=True, **options
        )
    ]
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == whole.choices[0].message.content
    assert len([piece for piece in pieces if piece]) > 2
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 6
    assert {chunk.id for chunk in chunks} == {chunks[0].id}

    completion = client.completions.create(model=model, prompt="1 2 3", max_tokens=4, temperature=0)
    streamed = client.completions.create(model=model, prompt="1 2 3", max_tokens=4, temperature=0, stream=True)
    assert completion.choices[0].text
    assert "".join(chunk.choices[0].text for chunk in streamed if chunk.choices) == completion.choices[0].text

    with pytest.raises(late.openai.BadRequestError) as bad:
        client.chat.completions.create(model=model, messages=QUESTION, max_tokens="many")  # type: ignore[call-overload]
    assert isinstance(bad.value.code, str)
    with pytest.raises(late.openai.NotFoundError):
        client.chat.completions.create(model="nobody/has:this", messages=QUESTION)

    slowly: dict[str, Any] = {"ignore_eos": True, "double": {"delay_ms": 20}}
    stream = client.chat.completions.create(
        model=model, messages=QUESTION, max_tokens=2000, stream=True, extra_body=slowly
    )
    next(iter(stream))
    stream.close()
