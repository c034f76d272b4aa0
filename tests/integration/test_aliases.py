"""Names that the operator gives to models: clients that insist on one get another model, whose engine never knows."""

from collections.abc import Iterator

import pytest

from common.records.credentials import ClientKey, digest_of
from tests.doubles.process import EngineProcess
from tests.doubles.reading import numbered
from tests.support.call import get, post
from tests.support.grid import Grid, chat

ALIASES = "gpt-4o=llama3,claude-*=llama3,lost=nobody/has:this"
SECRET = "sk-ghub-" + "a" * 40


@pytest.fixture(scope="module")
def engine() -> Iterator[EngineProcess]:
    """One that refuses every name but its own."""
    with EngineProcess(kind="vllm", models=["llama3"]) as engine:
        yield engine


@pytest.fixture(scope="module")
def hub(module_grid: Grid, engine: EngineProcess) -> str:
    module_grid.provider(engine.url)
    url = module_grid.hub(GHUB_HUB_ALIASES=ALIASES)
    module_grid.wait_for_model(url, "llama3")
    return url


@pytest.fixture(scope="module")
def locked_hub(module_grid: Grid, hub: str) -> str:  # noqa: ARG001 - a node serves by then
    """One that asks for keys."""
    return module_grid.hub(GHUB_HUB_ALIASES=ALIASES, GHUB_HUB_AUTH="required")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("asked", ["gpt-4o", "GPT-4o", "gpt-4o:latest", "claude-3-5-haiku-latest", "LLAMA3:latest"])
def test_whatever_it_is_called_the_engine_hears_its_own_name(
    asked: str, stream: bool, hub: str, engine: EngineProcess
) -> None:
    engine.reset()
    assert post(hub, chat(model=asked, tokens=5, stream=stream)).said == numbered(0, 5)
    assert [one["model"] for one in engine.state()["requests"]] == ["llama3"]


def test_all_else_in_the_body_stays_as_it_was_written(hub: str) -> None:
    body = b'{"seed":123456789012345678901234567890,"model":"gpt-4o","messages":[{"role":"user","content":"\\u00e9"}]}'
    assert post(hub, body).status == 200


def test_an_alias_of_what_nobody_serves_is_told_with_both_names(hub: str) -> None:
    answer = post(hub, chat(model="lost"))
    assert (answer.status, answer.error["code"]) == (404, "model_not_found")
    assert "'lost'" in answer.error["message"]
    assert "'nobody/has:this'" in answer.error["message"]


def test_aliases_are_listed_and_described(hub: str) -> None:
    assert [model["id"] for model in get(hub, "/v1/models").json["data"]] == ["gpt-4o", "llama3"]
    assert get(hub, "/v1/models/gpt-4o").json["id"] == "gpt-4o"
    assert get(hub, "/v1/models/lost").status == 404


@pytest.mark.parametrize(
    ("allowed", "asked", "status"),
    [
        ("llama3", "llama3", 200),
        ("llama3", "gpt-4o", 200),
        ("gpt-4o", "gpt-4o", 200),
        ("gpt-4o", "llama3", 403),
        ("other", "gpt-4o", 403),
    ],
)
def test_a_key_may_use_a_model_by_the_name_it_has_or_the_one_it_is_called(
    allowed: str, asked: str, status: int, module_grid: Grid, locked_hub: str
) -> None:
    secret = f"{SECRET}{allowed}"
    key = ClientKey(digest_of(secret), f"key-{allowed}", 0, models=(allowed,))
    with module_grid.redis() as client:
        client.hset(f"ghub:key:{key.digest}", mapping=key.to_hash())
        client.sadd("ghub:keys", key.digest)
        client.incr("ghub:credentials")
    answer = post(locked_hub, chat(model=asked, tokens=2), headers={"authorization": f"Bearer {secret}"})
    assert answer.status == status, answer.text
