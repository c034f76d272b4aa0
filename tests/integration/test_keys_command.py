"""Keys and tokens, as an operator makes and revokes them: over HTTP, and by `ghub key` and `ghub token`."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from common.addresses import lan_address, with_host
from tests.support.call import Call, post
from tests.support.grid import Chain, Grid, chat
from tests.support.operator import ADMIN, ADMIN_TOKEN, ask, ghub, told
from tests.support.processes import until

DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def chain(module_grid: Grid) -> Chain:
    """A hub that asks for keys, and a node."""
    grid = module_grid
    engine = grid.engine()
    hub = grid.hub(GHUB_HUB_AUTH="required", GHUB_HEARTBEAT_S="0.3", **ADMIN)
    node = grid.provider(engine.url, GHUB_HEARTBEAT_S="0.3")
    until(lambda: "tiny:1b" in ask(hub, "GET", "/api/registry").text, 10, "the model is known")
    return Chain(hub, node, engine)


@pytest.fixture(scope="module")
def other_hub(module_grid: Grid, chain: Chain) -> str:  # noqa: ARG001 - the first one's place is the chain's
    """Another hub of the same grid."""
    return module_grid.hub(GHUB_HUB_AUTH="required", **ADMIN)


def status_with(hub: str, key: str) -> int:
    return post(hub, chat(tokens=2), headers={"authorization": f"Bearer {key}"}).status


def made_key(hub: str, name: str, **wish: Any) -> dict[str, Any]:
    return dict(told(hub, "POST", "/api/keys", {"name": name, **wish}, status=201))


class TestKeys:
    def test_a_key_works_at_once_everywhere_until_it_is_revoked(self, chain: Chain, other_hub: str) -> None:
        key = made_key(chain.hub, "everywhere")["key"]
        assert [status_with(hub, key) for hub in (chain.hub, other_hub)] == [200, 200]
        assert told(chain.hub, "DELETE", "/api/keys/everywhere")["revoked"] is True
        assert status_with(chain.hub, key) == 401
        until(lambda: status_with(other_hub, key) == 401, 5, "the other hub has heard of it")

    def test_a_key_is_listed_with_its_limits_and_never_with_its_secret(self, chain: Chain) -> None:
        limits = {"models": ["tiny*", "big"], "rpm": 60, "tpm": 9000, "concurrency": 2, "lane": "batch"}
        made = made_key(chain.hub, "limited", expires="30d", **limits)
        secret = made.pop("key")
        (listed,) = [one for one in told(chain.hub, "GET", "/api/keys")["keys"] if one["name"] == "limited"]
        assert listed == made == told(chain.hub, "GET", f"/api/keys/{made['id']}")
        assert limits.items() <= listed.items()
        assert abs(listed["expires_at"] - time.time() * 1000 - 30 * DAY_MS) < 60_000
        assert secret not in ask(chain.hub, "GET", "/api/keys").text

    def test_a_name_belongs_to_one_key(self, chain: Chain, other_hub: str) -> None:
        made_key(chain.hub, "mine")
        for hub in (chain.hub, other_hub):
            answer = ask(hub, "POST", "/api/keys", b'{"name": "mine"}')
            assert (answer.status, answer.error["code"]) == (409, "name_taken")
        told(chain.hub, "DELETE", "/api/keys/mine")
        made_key(other_hub, "mine")

    def test_two_hubs_asked_for_one_name_at_once_never_make_two_keys(self, chain: Chain, other_hub: str) -> None:
        hubs = [chain.hub, other_hub] * 4
        headers = {"authorization": f"Bearer {ADMIN_TOKEN}"}
        calls = [Call(hub, {"name": "wanted"}, path="/api/keys", headers=headers) for hub in hubs]
        answers = [call.finish() for call in calls]
        assert {answer.status for answer in answers} <= {201, 409}
        good = [answer for answer in answers if answer.status == 201]
        named = [one["id"] for one in told(chain.hub, "GET", "/api/keys")["keys"] if one["name"] == "wanted"]
        assert named == [answer.json["id"] for answer in good]
        assert len(good) <= 1

    @pytest.mark.parametrize(
        ("wish", "param"),
        [
            ({}, "name"),
            ({"name": ""}, "name"),
            ({"name": "a b"}, "name"),
            ({"name": "../x"}, "name"),
            ({"name": "0123456789abcdef"}, "name"),
            ({"name": "x", "rpm": 0}, "rpm"),
            ({"name": "x", "tpm": 1e300}, "tpm"),
            ({"name": "x", "concurrency": "many"}, "concurrency"),
            ({"name": "x", "lane": "retry"}, "lane"),
            ({"name": "x", "models": "tiny"}, "models"),
            ({"name": "x", "models": [""]}, "models.0"),
            ({"name": "x", "expires": "yesterday"}, "expires"),
            ({"name": "x", "expires": "2001-01-01"}, "expires"),
            ({"name": "x", "expire": "30d"}, "expire"),
        ],
    )
    def test_a_wish_that_makes_no_sense_is_400_and_names_its_field(
        self, chain: Chain, wish: dict[str, Any], param: str
    ) -> None:
        answer = ask(chain.hub, "POST", "/api/keys", wish)
        assert (answer.status, answer.error["param"]) == (400, param)

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 10_000, b'{"name": NaN}'])
    def test_garbage_is_400(self, chain: Chain, body: bytes) -> None:
        for path in ("/api/keys", "/api/tokens"):
            answer = ask(chain.hub, "POST", path, body)
            assert (answer.status, answer.error["type"]) == (400, "invalid_request_error")

    def test_what_is_not_there_is_404(self, chain: Chain) -> None:
        asked = [("GET", "/api/keys/x"), ("DELETE", "/api/keys/x"), ("GET", "/api/keys/x/usage")]
        for method, path in [*asked, ("DELETE", "/api/tokens/x")]:
            answer = ask(chain.hub, method, path)
            assert (answer.status, answer.error["code"][-10:]) == (404, "_not_found")

    def test_what_a_key_used_is_told_by_day_and_model(self, chain: Chain) -> None:
        key = made_key(chain.hub, "worker")["key"]
        assert told(chain.hub, "GET", "/api/keys/worker/usage")["days"] == []
        assert [status_with(chain.hub, key) for _ in range(2)] == [200, 200]

        def used() -> list[dict[str, Any]]:
            return list(told(chain.hub, "GET", "/api/keys/worker/usage?days=2")["days"])

        until(lambda: used() and used()[0]["models"][0]["requests"] == 2, 5, used)
        (day,) = used()
        (model,) = day["models"]
        assert (model["model"], model["completion_tokens"]) == ("tiny:1b", 4)
        assert ask(chain.hub, "GET", "/api/keys/worker/usage?days=0").error["param"] == "days"


class TestTokens:
    def test_a_token_lets_a_machine_in_until_it_is_revoked(self, chain: Chain) -> None:
        made = told(chain.hub, "POST", "/api/tokens", {"name": "gpu-room"}, status=201)
        report = {"node": "away", "version": "1", "state": "idle", "engine": {"kind": "x"}}
        headers = {"authorization": f"Bearer {made['token']}"}
        assert post(chain.hub, report, path="/api/provider/health", headers=headers).status == 204
        listed = told(chain.hub, "GET", "/api/tokens")["tokens"]
        assert [(one["name"], one["nodes"]) for one in listed] == [("gpu-room", [])]
        assert made["token"] not in json.dumps(listed)
        assert told(chain.hub, "DELETE", f"/api/tokens/{made['id']}")["nodes"] == []
        assert post(chain.hub, report, path="/api/provider/health", headers=headers).status == 401

    def joined(self, hub: str, name: str, token: str) -> dict[str, Any]:
        """Register a node, as a provider does."""
        wish = {"name": name, "models": ["tiny:1b"], "engine": {"kind": "x"}}
        answer = post(hub, wish, path="/api/provider/register", headers={"authorization": f"Bearer {token}"})
        assert answer.status == 200, answer.text
        return dict(answer.json)

    def test_the_nodes_of_a_token_are_shown_and_cut_off_one_by_one_or_all(self, chain: Chain) -> None:
        token = told(chain.hub, "POST", "/api/tokens", {"name": "cellar"}, status=201)["token"]
        users = [self.joined(chain.hub, f"cellar-{number}", token)["username"] for number in range(3)]
        (shown,) = told(chain.hub, "GET", "/api/tokens")["tokens"]
        assert shown["nodes"] == ["cellar-0", "cellar-1", "cellar-2"]
        cut = told(chain.hub, "DELETE", "/api/nodes/cellar-1")
        assert cut == {"node": "cellar-1", "cut_off": True, "cut_off_broker": True}
        assert ask(chain.hub, "DELETE", "/api/nodes/cellar-1").status == 404
        assert told(chain.hub, "DELETE", "/api/tokens/cellar")["nodes"] == ["cellar-0", "cellar-2"]
        assert len(set(users)) == 3
        assert told(chain.hub, "GET", "/api/tokens")["tokens"] == []

    def test_a_broker_s_operator_is_told_the_line_that_makes_a_node_s_user(self, module_grid: Grid) -> None:
        hub = module_grid.hub(GHUB_HUB_ACL="print", **ADMIN)
        token = told(hub, "POST", "/api/tokens", {"name": "by-hand"}, status=201)["token"]
        password = self.joined(hub, "by-hand-0", token)["password"]
        line = told(hub, "GET", "/api/nodes/by-hand-0/acl")["acl"]
        assert line.startswith("ACL SETUSER ")
        assert password not in line
        told(hub, "DELETE", "/api/tokens/by-hand")

    def test_the_line_to_join_with_names_the_hub_as_it_was_reached(self, chain: Chain) -> None:
        made = told(chain.hub, "POST", "/api/tokens", {"name": "line"}, status=201)
        line = f"uv run ghub provider --hub-url {chain.hub}"
        assert made["join"] == f"{line} --token {made['token']}"
        assert made["join_env"] == f"GHUB_PROVIDER_TOKEN={made['token']} {line}"
        assert not made["is_reachable"]
        told(chain.hub, "DELETE", "/api/tokens/line")

    def test_the_line_to_join_with_names_the_public_url_where_one_is_set(self, module_grid: Grid) -> None:
        hub = module_grid.hub(GHUB_HUB_PUBLIC_URL="https://hub.example.org/", **ADMIN)
        made = told(hub, "POST", "/api/tokens", {"name": "public"}, status=201)
        assert made["join"].startswith("uv run ghub provider --hub-url https://hub.example.org --token ghubp-")
        told(hub, "DELETE", "/api/tokens/public")

    def test_a_hub_that_is_open_to_others_and_asked_on_its_own_machine_names_that_as_others_do(
        self, module_grid: Grid
    ) -> None:
        address = lan_address()
        hub = module_grid.hub(GHUB_HUB_HOST="0.0.0.0", **ADMIN)
        made = told(hub, "POST", "/api/tokens", {"name": "wide"}, status=201)
        assert made["hub_url"] == (hub if address is None else with_host(hub, address))
        assert made["is_reachable"] == (address is not None)
        told(hub, "DELETE", "/api/tokens/wide")

    def test_a_token_of_the_environment_is_listed_and_cannot_be_revoked_here(self, module_grid: Grid) -> None:
        hub = module_grid.hub(GHUB_HUB_PROVIDER_TOKENS="a-token-of-the-environment", **ADMIN)
        (fixed,) = told(hub, "GET", "/api/tokens")["tokens"]
        assert (fixed["name"], fixed["created_at"]) == ("GHUB_HUB_PROVIDER_TOKENS", None)
        assert ask(hub, "DELETE", f"/api/tokens/{fixed['id']}").status == 409


class TestCommands:
    def run(self, chain: Chain, *words: str) -> str:
        """Standard output of a command that went well."""
        done = ghub(*words, GHUB_HUB_URL=chain.hub, GHUB_HUB_ADMIN_TOKEN=ADMIN_TOKEN)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def test_a_key_from_its_making_to_its_end(self, chain: Chain) -> None:
        limits = ["--models", "tiny*, other", "--rpm", "100", "--expires", "12h", "--lane", "batch"]
        key = self.run(chain, "key", "create", "--name", "shell", *limits).strip()
        assert status_with(chain.hub, key) == 200
        keys = json.loads(self.run(chain, "key", "list", "--json"))["keys"]
        (mine,) = [one for one in keys if one["name"] == "shell"]
        assert (mine["models"], mine["rpm"], mine["lane"]) == (["tiny*", "other"], 100, "batch")
        assert "shell" in self.run(chain, "key", "list")
        assert json.loads(self.run(chain, "key", "usage", "shell", "--json"))["name"] == "shell"
        assert self.run(chain, "key", "revoke", "shell") == "the key shell is let in no more\n"
        assert status_with(chain.hub, key) == 401

    def test_a_token_is_printed_as_the_line_that_another_machine_needs(self, chain: Chain) -> None:
        env = {"GHUB_HUB_URL": chain.hub, "GHUB_HUB_ADMIN_TOKEN": ADMIN_TOKEN}
        made = ghub("token", "create", "attic", **env)
        assert made.returncode == 0
        assert made.stdout.startswith("uv run ghub provider --hub-url http://")
        assert made.stdout.count("\n") == 1
        assert "GHUB_PROVIDER_TOKEN=ghubp-" in made.stderr
        assert "other machines cannot reach" in made.stderr
        assert "attic" in self.run(chain, "token", "list")
        assert self.run(chain, "token", "revoke", "attic") == "the token attic lets nobody in any more\n"

    def test_what_the_hub_refuses_is_told_in_one_line(self, chain: Chain) -> None:
        wrong = ghub("key", "list", "--hub-url", chain.hub, GHUB_HUB_ADMIN_TOKEN="not-the-admin-token")
        assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (1, "", 1)
        assert wrong.stderr.startswith(f"ghub: the hub at {chain.hub} refuses: ")
        assert "--admin-token-file" in wrong.stderr
        env = {"GHUB_HUB_URL": chain.hub, "GHUB_HUB_ADMIN_TOKEN": ADMIN_TOKEN}
        unknown = ghub("key", "revoke", "nobody/..", **env)
        assert (unknown.returncode, unknown.stderr.count("\n")) == (1, 1)

    def test_the_admin_token_is_taken_from_a_file_too(self, chain: Chain, tmp_path: Path) -> None:
        (tmp_path / "admin-token").write_text(f"{ADMIN_TOKEN}\n")
        named = ghub("key", "list", "--hub-url", chain.hub, "--admin-token-file", str(tmp_path / "admin-token"))
        assert named.returncode == 0, named.stderr
        found = ghub("key", "list", "--hub-url", chain.hub, GHUB_DATA_DIR=str(tmp_path))
        assert found.returncode == 0, found.stderr
        missing = ghub("key", "list", "--hub-url", chain.hub, "--admin-token-file", str(tmp_path / "none"))
        assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)

    @pytest.mark.parametrize("url", ["ftp://x", "nonsense", "http://", "http://[", "http://x:99999"])
    def test_a_url_that_is_none_is_told_in_one_line(self, url: str) -> None:
        done = ghub("key", "list", "--hub-url", url)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)

    def test_a_hub_that_is_not_there_is_told_in_one_line(self) -> None:
        done = ghub("key", "list", "--hub-url", "http://127.0.0.1:9")
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert done.stderr.startswith("ghub: no hub answers at http://127.0.0.1:9")
