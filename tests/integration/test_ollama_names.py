"""Ollama's names: without a tag a model is its latest, and it is one model, not two."""

from collections.abc import AsyncIterator, Iterator

import orjson
import pytest

from common.types import ModelId
from provider.engines.detect import open_engine
from provider.protocol.engine import Engine, EngineStatus
from provider.settings import EngineSettings
from tests.doubles.cases import question, said
from tests.doubles.models import Model
from tests.doubles.process import EngineProcess

NAMES = ("llama3:latest", "llama3:8b", "example/own-model", "host.example:5000/team/model:v2")
SHOWN = ("llama3", "llama3:8b", "example/own-model", "host.example:5000/team/model:v2")


@pytest.fixture(scope="module")
def ollama() -> Iterator[EngineProcess]:
    with EngineProcess(kind="ollama", models=[Model(name) for name in NAMES]) as ollama:
        yield ollama


@pytest.fixture
async def engine(ollama: EngineProcess) -> AsyncIterator[Engine]:
    engine = await open_engine(EngineSettings(url=ollama.url))
    yield engine
    await engine.aclose()


async def _ask(engine: Engine, model: str, endpoint: str = "/api/generate", **fields: object) -> bytes:
    return await said(engine, question(endpoint, model=model, **fields))


def _gpu_bytes(status: EngineStatus) -> dict[ModelId, int | None]:
    return {model.id: model.gpu_bytes for model in status.models if model.is_loaded}


async def test_a_model_without_a_tag_is_listed_by_its_bare_name_once(engine: Engine) -> None:
    assert tuple(model.id for model in (await engine.status()).models) == SHOWN


@pytest.mark.parametrize("endpoint", ["/v1/chat/completions", "/api/chat"])
@pytest.mark.parametrize("name", ["llama3", "llama3:latest"])
async def test_both_names_of_it_are_answered_and_heard_back(name: str, endpoint: str, engine: Engine) -> None:
    answer = orjson.loads(await _ask(engine, name, endpoint))
    assert answer["model"] == name
    assert ModelId("llama3") in (await engine.status()).loaded


async def test_what_is_in_memory_comes_and_goes_with_the_questions(engine: Engine) -> None:
    sizes = {model.id: model.size_bytes for model in (await engine.status()).models}
    for name in SHOWN[:3]:  # two have room
        await _ask(engine, name)
    assert _gpu_bytes(await engine.status()) == {name: sizes[ModelId(name)] for name in SHOWN[1:3]}
    await _ask(engine, SHOWN[1], prompt="", keep_alive=0)
    assert (await engine.status()).loaded == (SHOWN[2],)
