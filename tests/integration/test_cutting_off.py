"""Nodes that are cut off, by their name or with their token: gone at once, and their jobs go on elsewhere."""

import time

import pytest

from tests.doubles.reading import numbered
from tests.integration.registering import (
    CUT_WITHIN_S,
    ENV,
    FIXED_TOKEN,
    admin,
    as_member,
    is_cut,
    joined,
    new_token,
    nodes_at,
    register,
    revoke,
    write_node,
)
from tests.support.call import Call
from tests.support.grid import Grid, chat
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


class TestCuttingOff:
    def test_a_revoked_token_s_nodes_are_cut_off_and_gone_at_every_hub(
        self, module_grid: Grid, hubs: list[str], token: str
    ) -> None:
        clients = [as_member(module_grid, register(hubs[0], token, name).json) for name in ("nora", "otto")]
        for name, client in zip(("nora", "otto"), clients, strict=True):
            write_node(client, name)
        until(lambda: all({"nora", "otto"} <= nodes_at(hub).keys() for hub in hubs), 5, "both hubs see both")
        began_at = time.monotonic()
        answer = revoke(hubs[0], token)
        assert (answer.status, sorted(answer.json["nodes"])) == (200, ["nora", "otto"])
        assert all(is_cut(client) for client in clients), "at once"
        left_s = began_at + CUT_WITHIN_S - time.monotonic()
        until(lambda: not any({"nora", "otto"} & nodes_at(hub).keys() for hub in hubs), left_s, "both are gone")
        until(lambda: all(register(hub, token, "nora").status == 401 for hub in hubs), left_s, "no hub takes the token")
        with module_grid.redis() as client:
            assert client.keys("ghub:*:nora") == ["ghub:{jobs}:near:nora"], "its lane, which is empty, ends by itself"
            assert not {user for user in client.acl_users() if user.endswith((":nora", ":otto"))}
        for client in clients:
            client.close()

    def test_its_running_job_goes_on_at_another_node(self, module_grid: Grid, hubs: list[str]) -> None:
        model = "moving:1b"
        engines = {name: module_grid.engine(model) for name in ("paula", "quentin")}
        tokens = {name: new_token(hubs[0]) for name in engines}
        for name, engine in engines.items():
            joined(module_grid, hubs[0], tokens[name], engine.url, name)
        until(lambda: all(engines.keys() <= nodes_at(hub).keys() for hub in hubs), 10, "both hubs see both")
        call = Call(hubs[0], chat(model=model, tokens=100, double={"delay_ms": 20}))
        until(lambda: any(engine.state()["running"] for engine in engines.values()), 5, "it runs")
        (first,) = [name for name, engine in engines.items() if engine.state()["open"]]
        (second,) = engines.keys() - {first}
        began_at = time.monotonic()
        assert revoke(hubs[1], tokens[first]).json["nodes"] == [first]
        until(lambda: engines[second].state()["started"] == 1, CUT_WITHIN_S, engines[second].state)
        print(f"figure: it runs elsewhere {time.monotonic() - began_at:.1f} s after its token was revoked")
        assert call.finish().said == numbered(0, 100)
        until(lambda: engines[first].state()["open"] == 0, 10, "nobody works for it any more")

    def test_a_node_that_was_cut_off_may_come_back_with_its_token(
        self, module_grid: Grid, hub: str, token: str
    ) -> None:
        with as_member(module_grid, register(hub, token, "rosa").json) as client:
            client.ping()
            answer = admin(hub, "DELETE", "/api/nodes/rosa")
            assert answer.json == {"node": "rosa", "cut_off": True, "cut_off_broker": True}
            assert is_cut(client)
        with as_member(module_grid, register(hub, token, "rosa").json) as client:
            write_node(client, "rosa")
            until(lambda: "rosa" in nodes_at(hub), 5, "it is back")

    def test_a_token_of_the_settings_can_only_be_taken_out_there(self, hub: str) -> None:
        assert register(hub, FIXED_TOKEN, "stefan").status == 200
        answer = revoke(hub, FIXED_TOKEN)
        assert answer.status == 409
        assert "GHUB_HUB_PROVIDER_TOKENS" in answer.error["message"]

    def test_nobody_is_cut_off_who_never_registered(self, hub: str) -> None:
        assert admin(hub, "DELETE", "/api/nodes/nobody").status == 404
