"""Brokers whose users are not the hub's to make, and what providers are told of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.registering import ENV, FIXED_TOKEN, MODEL, admin, as_member, register, rules_in
from tests.support.brokers import BrokerProcess
from tests.support.grid import Grid


class TestPrintedRules:
    @pytest.fixture
    def printing(self, module_grid: Grid) -> str:
        return module_grid.hub(**ENV, GHUB_HUB_ACL="print")

    def test_the_operator_makes_the_user_that_the_node_was_told_of(self, module_grid: Grid, printing: str) -> None:
        given = register(printing, FIXED_TOKEN, "tilda").json
        with module_grid.redis() as client:
            assert given["username"] not in client.acl_users()
            line = admin(printing, "GET", "/api/nodes/tilda/acl").text
            rules = rules_in(line)
            assert client.execute_command(*rules.split()) in ("OK", True)
        with as_member(module_grid, given) as node:
            assert node.xreadgroup("providers", "tilda", {f"ghub:{{jobs}}:retry:{MODEL}": ">"}) == []
        again = register(printing, FIXED_TOKEN, "tilda").json
        assert again["password"] == given["password"], "nobody has to run the line again"
        log = module_grid.hubs[printing].log.read_text()
        assert log.count("acl_rules") == 1
        assert given["password"] not in log

    def test_without_an_admin_token_nobody_can_join(self, module_grid: Grid) -> None:
        hub = module_grid.hub(GHUB_HUB_PROVIDER_TOKENS=FIXED_TOKEN, GHUB_HUB_ACL="print")
        answer = register(hub, FIXED_TOKEN, "ulla")
        assert (answer.status, answer.error["code"]) == (503, "admin_token_not_set")
        assert "GHUB_HUB_ADMIN_TOKEN" in answer.error["message"]


class TestSharedUrl:
    def test_all_get_the_same_url_with_all_that_is_in_it(self, module_grid: Grid) -> None:
        url = "redis://shared:secret@broker.example.org:6380/2"
        hub = module_grid.hub(**ENV, GHUB_HUB_ACL="off", GHUB_HUB_PROVIDER_REDIS_URL=url)
        given = register(hub, FIXED_TOKEN, "viktor", "any name (goes)").json
        assert (given["redis_url"], given["username"], given["password"]) == (url, None, None)
        assert given["models"] == ["any name (goes)"]
        answer = admin(hub, "DELETE", "/api/nodes/viktor")
        assert answer.json == {"node": "viktor", "cut_off": True, "cut_off_broker": False}
        assert "broker_access_stays" in module_grid.hubs[hub].tail()


class TestBrokersWithUsers:
    @pytest.fixture
    def guarded(self, tmp_path: Path) -> Iterator[Grid]:
        """A grid whose broker asks everybody for a password."""
        broker = BrokerProcess("valkey", tmp_path)
        grid = Grid(broker, tmp_path)
        yield grid
        grid.close()
        broker.kill()

    def test_a_hub_that_may_make_no_users_says_which_setting_helps(self, guarded: Grid) -> None:
        with guarded.redis() as client:
            client.execute_command("ACL", "SETUSER", "hub", "on", ">hub-password", "+@all", "-@admin", "~*", "&*")
        url = guarded.broker.url.replace("redis://", "redis://hub:hub-password@")
        hub = guarded.hub(**ENV, GHUB_REDIS_URL=url)
        answer = register(hub, FIXED_TOKEN, "wanda")
        assert answer.status == 503
        assert "GHUB_HUB_ACL=print" in answer.error["message"]
        assert "hub-password" not in guarded.hubs[hub].log.read_text()

    def test_the_hub_s_own_password_is_not_told(self, guarded: Grid) -> None:
        with guarded.redis() as client:
            client.execute_command("ACL", "SETUSER", "hub", "on", ">hub-password", "+@all", "~*", "&*")
        url = guarded.broker.url.replace("redis://", "redis://hub:hub-password@")
        hub = guarded.hub(**ENV, GHUB_REDIS_URL=url)
        answer = register(hub, FIXED_TOKEN, "xaver")
        assert "hub-password" not in answer.text
        assert answer.json["redis_url"] == guarded.broker.url
