"""Providers join with a token: what they are given, and what stays theirs."""

from typing import Any

import pytest
import redis

from common.direct import DirectCall
from tests.doubles.reading import numbered
from tests.integration.registering import (
    ADMIN_TOKEN,
    ENV,
    FIXED_TOKEN,
    MODEL,
    REGISTER,
    admin,
    as_member,
    digest_of_claim,
    joined,
    new_token,
    nodes_at,
    register,
    revoke,
    send,
    until_later,
    wish,
    write_node,
)
from tests.integration.test_provider_api import CALL, HMAC_PATH, REPORT_PATH, fresh, question
from tests.support.call import post
from tests.support.grid import SIGNING_KEY, Grid, chat
from tests.support.processes import until


@pytest.fixture(scope="module")
def hubs(module_grid: Grid) -> list[str]:
    """Two hubs of one grid."""
    return [module_grid.hub(**ENV) for _ in range(2)]


@pytest.fixture
def hub(hubs: list[str]) -> str:
    return hubs[0]


@pytest.fixture
def token(hub: str) -> str:
    """A token of this test's own."""
    return new_token(hub)


class TestJoining:
    def test_a_node_is_given_all_that_it_works_with(self, module_grid: Grid, hub: str, token: str) -> None:
        answer = register(hub, token, "anna", "m:1", "m:2")
        assert answer.status == 200, answer.text
        assert answer.headers["cache-control"] == "no-store"
        given = answer.json
        assert given["node"] == "anna"
        assert given["prefix"] == "ghub:"
        assert given["heartbeat_s"] == 0.5
        assert given["models"] == ["m:1", "m:2"]
        assert given["signing_keys"] == [SIGNING_KEY]
        with as_member(module_grid, given) as client:
            streams = dict.fromkeys(
                [f"ghub:{{jobs}}:{lane}:{model}" for model in ("m:1", "m:2") for lane in ("retry", "batch")], ">"
            )
            assert client.xreadgroup("providers", "anna", streams) == []
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.xreadgroup("providers", "anna", {"ghub:{jobs}:batch:m:3": ">"})

    def test_no_secret_shows_anywhere_else(self, module_grid: Grid, hubs: list[str], token: str) -> None:
        given = register(hubs[0], token, "berta").json
        shown = [
            admin(hub, "GET", path).text for hub in hubs for path in ("/api/tokens", "/api/registry", "/api/nodes")
        ]
        shown += [process.log.read_text() for process in module_grid.hubs.values()]
        with module_grid.redis() as client:
            shown += [str(client.hgetall(key)) for key in client.keys("ghub:*") if client.type(key) == "hash"]
        for secret in (given["password"], token, ADMIN_TOKEN, FIXED_TOKEN, SIGNING_KEY.partition(":")[2]):
            assert [text for text in shown if secret in text] == []

    def test_every_hub_finds_it_though_it_may_not_write_the_index(
        self, module_grid: Grid, hubs: list[str], token: str
    ) -> None:
        with as_member(module_grid, register(hubs[0], token, "carl").json) as node, module_grid.redis() as client:
            write_node(node, "carl")
            until(lambda: all("carl" in nodes_at(hub) for hub in hubs), 5, "both hubs see it")
            client.zadd("ghub:nodes", {"carl": 1})  # as late as an entry can be that nobody renews
            until(lambda: (client.zscore("ghub:nodes", "carl") or 0) > 1, 10, "hubs renew its place")
            assert all("carl" in nodes_at(hub) for hub in hubs)

    @pytest.mark.parametrize("secret", [None, "", "not-a-token-of-this-grid"])
    def test_who_shows_no_token_of_ours_is_not_let_in(self, module_grid: Grid, hub: str, secret: str | None) -> None:
        answer = register(hub, secret, "stranger")
        assert (answer.status, answer.error["code"]) == (401, "invalid_token")
        with module_grid.redis() as client:
            assert client.exists("ghub:member:stranger") == 0
            assert "ghub:provider:stranger" not in client.acl_users()

    @pytest.mark.parametrize(
        ("wrong", "param"),
        [
            ({"name": "two words"}, "name"),
            ({"name": "*"}, "name"),
            ({"models": "m"}, "models"),
            ({"models": [""]}, "models.0"),
            ({"models": ["m" * 257]}, "models.0"),
            ({"slots": -1}, "slots"),
            ({"engine": "ollama"}, "engine"),
        ],
    )
    def test_nonsense_is_refused_by_name(self, hub: str, token: str, wrong: dict[str, Any], param: str) -> None:
        answer = send(hub, token, REGISTER, wish("sane") | wrong)
        assert (answer.status, answer.error["param"]) == (400, param)

    def test_models_that_no_rule_can_name_are_left_out_and_said_to_be(
        self, module_grid: Grid, hub: str, token: str
    ) -> None:
        given = register(hub, token, "dora", "good:1", "my model (q4)", "good:2").json
        assert given["models"] == ["good:1", "good:2"]
        assert "my model (q4)" in module_grid.hubs[hub].tail()

    def test_its_rules_follow_its_models_and_its_connections_stay(
        self, module_grid: Grid, hubs: list[str], token: str
    ) -> None:
        with as_member(module_grid, register(hubs[0], token, "emil", "old:1").json) as client:
            client.xreadgroup("providers", "emil", {"ghub:{jobs}:retry:old:1": ">"})
            second = register(hubs[1], token, "emil", "new:1").json
            assert client.xreadgroup("providers", "emil", {"ghub:{jobs}:retry:new:1": ">"}) == []
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.xreadgroup("providers", "emil", {"ghub:{jobs}:retry:old:1": ">"})
        with as_member(module_grid, second) as client:
            assert client.ping()

    def test_a_password_stays_good_until_the_renewal_after_next(self, module_grid: Grid, hub: str, token: str) -> None:
        """A connection may be opened with it while its successor is under way."""
        given = [register(hub, token, "frida").json for _ in range(3)]
        for one in given[1:]:
            with as_member(module_grid, one) as client:
                assert client.ping()
        with pytest.raises(redis.AuthenticationError), as_member(module_grid, given[0]) as client:
            client.ping()

    @pytest.mark.parametrize("lost", ["its user", "everything"])
    def test_what_the_broker_forgot_comes_back_with_the_next_registration(
        self, module_grid: Grid, hub: str, token: str, lost: str
    ) -> None:
        given = register(hub, token, "gustav").json
        with module_grid.redis() as client:
            if lost == "its user":
                client.acl_deluser(given["username"])
            else:
                client.flushall()
                client.script_flush()
        given = register(hub, token, "gustav").json
        with as_member(module_grid, given) as client:
            lane = f"ghub:{{jobs}}:retry:{MODEL}"
            assert client.evalsha(digest_of_claim(), 1, lane, "providers", "gustav", 1) == []

    def test_a_name_is_the_token_s_that_registered_it_first(self, hubs: list[str], token: str) -> None:
        assert register(hubs[0], token, "hanna").status == 200
        other = new_token(hubs[0])
        answer = register(hubs[1], other, "hanna")
        assert (answer.status, answer.error["code"]) == (409, "node_taken")
        assert revoke(hubs[0], token).json["nodes"] == ["hanna"]
        assert register(hubs[1], other, "hanna").status == 200

    def test_a_name_is_the_process_s_that_lives_under_it(self, module_grid: Grid, hub: str, token: str) -> None:
        with as_member(module_grid, register(hub, token, "ida", instance="first").json) as client:
            write_node(client, "ida", instance="first")
            answer = register(hub, token, "ida", instance="second")
            assert (answer.status, answer.error["code"]) == (409, "name_taken")
            assert int(answer.headers["retry-after"]) >= 1
            assert register(hub, token, "ida", instance="first").status == 200
            client.delete("ghub:node:ida")
        until(lambda: register(hub, token, "ida", instance="second").status == 200, 5, "the name is free")

    def test_a_node_that_never_registered_keeps_its_name_while_it_lives(
        self, module_grid: Grid, hub: str, token: str
    ) -> None:
        with module_grid.redis() as client:
            write_node(client, "jakob", instance="of the lan")
            assert register(hub, token, "jakob").error["code"] == "name_taken"
            client.delete("ghub:node:jakob")
        assert register(hub, token, "jakob").status == 200

    def test_an_entry_that_speaks_for_another_node_is_not_believed(
        self, module_grid: Grid, hub: str, token: str
    ) -> None:
        with as_member(module_grid, register(hub, token, "karla").json) as client, module_grid.redis() as looker:
            write_node(looker, "victim", "victims:1b")
            looker.zadd("ghub:nodes", {"victim": 2**52})
            write_node(client, "victim", "lies:1b", key="ghub:node:karla")
            until(lambda: "victim" in nodes_at(hub), 5, lambda: nodes_at(hub))
            until_later(1.5)
            assert nodes_at(hub)["victim"]["models"] == ["victims:1b"]
            looker.delete("ghub:node:victim")

    def test_a_token_speaks_for_its_own_nodes_only(self, hub: str, token: str) -> None:
        assert register(hub, token, "ludwig").status == 200
        other = new_token(hub)
        report = {"node": "ludwig", "version": "", "state": "idle", "engine": {"kind": "x"}}
        assert send(hub, token, REPORT_PATH, report).status == 204
        assert send(hub, other, REPORT_PATH, report | {"node": "unregistered"}).status == 204
        call = DirectCall("ludwig", CALL.endpoint, CALL.body_sha256)
        asked = question(fresh(call), call)
        for path, body in ((REPORT_PATH, report), (HMAC_PATH, asked)):
            answer = send(hub, other, path, body)
            assert (answer.status, answer.error["code"]) == (403, "node_of_another_token"), path
        assert send(hub, token, HMAC_PATH, asked).json == {"valid": True}, "the other one has not used it up"

    def test_a_broker_that_needs_no_password_is_warned_of(self, module_grid: Grid, hub: str, token: str) -> None:
        register(hub, token, "moritz")
        assert module_grid.hubs[hub].log.read_text().count("broker_open_to_all") == 1


def test_a_provider_that_knows_only_hub_and_token_answers_on_each_kind_of_broker(grid_on_any: Grid) -> None:
    hub = grid_on_any.hub(**ENV)
    engine = grid_on_any.engine(MODEL)
    joined(grid_on_any, hub, FIXED_TOKEN, engine.url, "zoe")
    grid_on_any.wait_for_model(hub, MODEL)
    with grid_on_any.redis() as client:
        client.execute_command("ACL", "LOG", "RESET")
        assert post(hub, chat(model=MODEL, tokens=20, stream=True)).said == numbered(0, 20)
        assert grid_on_any.providers["zoe"].stop() == 0
        assert client.execute_command("ACL", "LOG") == [], "it asked for nothing that it may not"
    assert admin(hub, "DELETE", "/api/nodes/zoe").json["cut_off_broker"]
