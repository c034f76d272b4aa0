"""The operations API over HTTP: what an operator sees and changes, and that nobody else does."""

import json
from collections.abc import Iterator

import pytest

from tests.support.call import Call, get, post
from tests.support.client_keys import TestKey
from tests.support.grid import Chain, Grid, chat
from tests.support.operator import ADMIN, ADMIN_TOKEN, ask, told
from tests.support.processes import until

SLOW = {"delay_ms": 20}
ROUTES = [
    ("GET", "/api/queues"),
    ("GET", "/api/nodes"),
    ("GET", "/api/nodes/node-0"),
    ("GET", "/api/nodes/node-0/acl"),
    ("POST", "/api/nodes/node-0/drain"),
    ("POST", "/api/nodes/node-0/pause"),
    ("POST", "/api/nodes/node-0/resume"),
    ("DELETE", "/api/nodes/node-0"),
    ("GET", "/api/overview"),
    ("GET", "/api/overview/stream"),
    ("GET", "/api/why/x"),
    ("GET", "/api/usage"),
    ("GET", "/api/requests"),
    ("GET", "/api/requests/x"),
    ("DELETE", "/api/requests/x"),
    ("GET", "/api/dead"),
    ("POST", "/api/dead/1-1/retry"),
    ("DELETE", "/api/dead/1-1"),
    ("DELETE", "/api/dead"),
    ("GET", "/api/keys"),
    ("POST", "/api/keys"),
    ("GET", "/api/keys/me"),
    ("DELETE", "/api/keys/me"),
    ("GET", "/api/keys/me/usage"),
    ("GET", "/api/tokens"),
    ("POST", "/api/tokens"),
    ("DELETE", "/api/tokens/me"),
]


@pytest.fixture(scope="module")
def _chain(module_grid: Grid) -> Chain:
    return module_grid.chain(slots=2, GHUB_HEARTBEAT_S="0.3", GHUB_HUB_MAX_ATTEMPTS="2", **ADMIN)


@pytest.fixture
def chain(_chain: Chain) -> Iterator[Chain]:
    """A hub with an operator, and a node that takes work again after each test."""
    _chain.engine.reset()
    yield _chain
    told(_chain.hub, "DELETE", "/api/dead")


@pytest.fixture(scope="module")
def other_hub(module_grid: Grid, _chain: Chain) -> str:
    """Another hub of the same grid."""
    return module_grid.hub(GHUB_HEARTBEAT_S="0.3", GHUB_HUB_MAX_ATTEMPTS="2", **ADMIN)


def state_of(chain: Chain) -> tuple[str, list[str]]:
    node = told(chain.hub, "GET", f"/api/nodes/{chain.node}")
    return node["state"], node["reasons"]


class TestTheDoor:
    @pytest.mark.parametrize(("method", "path"), ROUTES)
    def test_nobody_without_the_admin_token_gets_in(self, chain: Chain, method: str, path: str) -> None:
        for token in (None, "", "wrong-token-of-the-tests", f"{ADMIN_TOKEN}x"):
            answer = ask(chain.hub, method, path, b"{", token=token)
            assert (answer.status, answer.error["code"]) == (401, "invalid_token")

    def test_a_hub_without_an_admin_token_lets_nobody_in(self, module_grid: Grid) -> None:
        hub = module_grid.hub(GHUB_HUB_ADMIN_LOOPBACK="off")
        for token in ("", ADMIN_TOKEN):
            answer = ask(hub, "GET", "/api/nodes", token=token)
            assert (answer.status, answer.error["code"]) == (401, "admin_token_not_set")

    def test_every_route_of_the_door_is_described_and_listed_here(self, chain: Chain) -> None:
        paths = get(chain.hub, "/openapi.json").json["paths"]
        open_to_others = ("/api/registry", "/api/provider/", "/api/chat", "/api/generate", "/api/embed", "/api/tags")
        open_to_others += ("/api/ps", "/api/show", "/api/version", "/api/hubs")
        ours = {path for path in paths if path.startswith("/api/") and not path.startswith(open_to_others)}
        asked = {path.rstrip("/") for _, path in ROUTES}
        for path in ours:
            shape = path.replace("{node}", "node-0").replace("{entry}", "1-1")
            assert shape.replace("{name}", "x") in asked or shape.replace("{name}", "me") in asked, path

    def test_clients_learn_where_hubs_are_and_no_more(self, module_grid: Grid, chain: Chain) -> None:
        url = "https://hub.example.org"
        hub = module_grid.hub(GHUB_HUB_AUTH="required", GHUB_HUB_PUBLIC_URL=f"{url}/", **ADMIN)
        with module_grid.redis() as client:
            key = TestKey(client)
        for token in (None, "wrong-token-of-the-tests"):
            assert ask(hub, "GET", "/api/hubs", token=token).status == 401
        shown = ask(hub, "GET", "/api/hubs", token=key.secret).json["hubs"]
        assert {url, None} <= {one["url"] for one in shown}
        assert all("address" not in one for one in shown)
        assert all("address" in one for one in told(hub, "GET", "/api/hubs")["hubs"])
        assert all("address" not in one for one in ask(chain.hub, "GET", "/api/hubs", token=None).json["hubs"])
        module_grid.hubs[hub].stop()

    def test_the_registry_is_closed_where_clients_need_keys(self, module_grid: Grid, chain: Chain) -> None:
        hub = module_grid.hub(GHUB_HUB_AUTH="required", **ADMIN)
        assert get(chain.hub, "/api/registry").status == 200
        assert ask(hub, "GET", "/api/registry", token=None).status == 401
        assert ask(hub, "GET", "/api/registry").status == 200


class TestNodes:
    def test_all_hubs_and_nodes_are_shown(self, chain: Chain, other_hub: str) -> None:
        for hub in (chain.hub, other_hub):
            shown = told(hub, "GET", "/api/hubs")["hubs"]
            addresses = {one["address"] for one in shown}
            assert {chain.hub.removeprefix("http://"), other_hub.removeprefix("http://")} <= addresses
            assert all(one["heartbeat_at"] >= one["started_at"] > 0 for one in shown)
            assert [node["node"] for node in told(hub, "GET", "/api/nodes")["nodes"]] == [chain.node]

    @pytest.mark.parametrize(("word", "reason"), [("drain", "draining"), ("pause", "paused")])
    def test_an_order_is_followed_until_it_is_taken_back(self, chain: Chain, word: str, reason: str) -> None:
        answer = told(chain.hub, "POST", f"/api/nodes/{chain.node}/{word}", status=202)
        assert (answer["node"], answer["ordered"]) == (chain.node, word)
        until(lambda: state_of(chain)[1] == [reason], 5, lambda: state_of(chain))
        told(chain.hub, "POST", f"/api/nodes/{chain.node}/resume", status=202)
        until(lambda: state_of(chain) == ("idle", []), 5, lambda: state_of(chain))

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/api/nodes/nobody"),
            ("POST", "/api/nodes/nobody/drain"),
            ("POST", "/api/nodes/%00%0d%0a/pause"),
            ("POST", "/api/nodes/nobody/resume"),
        ],
    )
    def test_a_node_that_is_not_there_is_404(self, chain: Chain, method: str, path: str) -> None:
        answer = ask(chain.hub, method, path)
        assert (answer.status, answer.error["code"]) == (404, "node_not_found")

    def test_a_node_that_nobody_registered_cannot_be_cut_off(self, chain: Chain) -> None:
        assert ask(chain.hub, "DELETE", f"/api/nodes/{chain.node}").status == 404
        assert state_of(chain) == ("idle", [])

    def test_queues_show_what_waits_and_runs_in_each_lane(self, chain: Chain) -> None:
        def lanes() -> dict[str, tuple[int, int]]:
            shown = told(chain.hub, "GET", "/api/queues")["queues"]
            return {one["lane"]: (one["waiting"], one["running"]) for one in shown if one["model"] == "tiny:1b"}

        calls = [Call(chain.hub, chat(tokens=1000, stream=True, double=SLOW)) for _ in range(3)]
        until(lambda: lanes() == {"retry": (0, 0), "interactive": (1, 2), "batch": (0, 0)}, 5, lanes)
        for call in calls:
            call.drop()
        until(lambda: set(lanes().values()) == {(0, 0)}, 5, lanes)


class TestRequests:
    def ids(self, hub: str, query: str = "") -> list[str]:
        return [one["id"] for one in told(hub, "GET", f"/api/requests{query}")["requests"]]

    def test_any_hub_shows_and_cancels_any_request(self, chain: Chain, other_hub: str) -> None:
        with Call(chain.hub, chat(tokens=10_000, stream=True, double=SLOW)) as call:
            call.wait_for("t3 ")
            until(lambda: len(self.ids(other_hub, "?status=streaming")) == 1, 5, "the request is listed")
            (request,) = self.ids(other_hub, "?status=streaming&model=tiny:1b&limit=5")
            shown = told(other_hub, "GET", f"/api/requests/{request}")
            assert (shown["status"], shown["model"], shown["node"]) == ("streaming", "tiny:1b", chain.node)
            assert isinstance(shown["queued_at"], int)
            answer = told(other_hub, "DELETE", f"/api/requests/{request}", status=202)
            assert answer == {"id": request, "status": "cancelling"}
            ended = call.finish()
        assert ended.error["code"] == "cancelled_by_operator"
        assert ended.is_ended_once
        until(lambda: chain.engine.state()["open"] == 0, 5, chain.engine.state)
        until(lambda: told(other_hub, "GET", f"/api/requests/{request}")["ended_at"], 5, "it is over")
        again = ask(other_hub, "DELETE", f"/api/requests/{request}")
        assert (again.status, again.error["code"]) == (409, "request_is_over")
        assert self.ids(other_hub) == []

    @pytest.mark.parametrize("at_its_own_hub", [True, False])
    def test_a_request_that_waits_in_a_lane_is_cancelled_with_a_true_status(
        self, chain: Chain, other_hub: str, *, at_its_own_hub: bool
    ) -> None:
        with (
            Call(chain.hub, chat(tokens=10_000, stream=True, double=SLOW)) as first,
            Call(chain.hub, chat(tokens=10_000, stream=True, double=SLOW)) as second,
        ):
            first.wait_for("t3 ")
            second.wait_for("t3 ")
            with Call(chain.hub, chat()) as waiting:
                until(lambda: len(self.ids(other_hub, "?status=queued")) == 1, 5, "the request waits")
                (request,) = self.ids(other_hub, "?status=queued")
                told(chain.hub if at_its_own_hub else other_hub, "DELETE", f"/api/requests/{request}", status=202)
                answer = waiting.finish()
                assert (answer.status, answer.error["code"]) == (410, "cancelled_by_operator")
                until(lambda: self.ids(other_hub, "?status=queued") == [], 5, "nothing waits")
        assert chain.engine.state()["started"] == 2

    @pytest.mark.parametrize("at_its_own_hub", [True, False])
    def test_a_request_that_waits_for_its_key_s_turn_is_cancelled_too(
        self, chain: Chain, other_hub: str, *, at_its_own_hub: bool
    ) -> None:
        wish = {"name": f"one-at-a-time-{at_its_own_hub}", "concurrency": 1}
        headers = {"authorization": f"Bearer {told(chain.hub, 'POST', '/api/keys', wish, status=201)['key']}"}
        with Call(chain.hub, chat(tokens=10_000, stream=True, double=SLOW), headers=headers) as first:
            first.wait_for("t3 ")
            with Call(chain.hub, chat(), headers=headers) as waiting:
                until(lambda: len(self.ids(chain.hub, "?status=queued")) == 1, 5, "the request waits")
                (request,) = self.ids(chain.hub, "?status=queued")
                told(chain.hub if at_its_own_hub else other_hub, "DELETE", f"/api/requests/{request}", status=202)
                answer = waiting.finish()
                assert (answer.status, answer.error["code"]) == (410, "cancelled_by_operator")
            status = told(chain.hub, "GET", f"/api/requests/{request}")["status"]
            until(lambda: told(chain.hub, "GET", f"/api/requests/{request}")["status"] == "cancelled", 5, status)
        assert chain.engine.state()["started"] == 1

    @pytest.mark.parametrize("name", ["0" * 32, "nonsense", "%2e%2e", "*", "a" * 300, "%ff"])
    def test_a_request_that_nobody_knows_is_404(self, chain: Chain, name: str) -> None:
        for method in ("GET", "DELETE"):
            answer = ask(chain.hub, method, f"/api/requests/{name}")
            assert (answer.status, answer.error["code"]) == (404, "request_not_found")

    @pytest.mark.parametrize("query", ["status=done", "status=", "limit=0", "limit=1001", "limit=x", "limit=%c2%b2"])
    def test_a_query_that_makes_no_sense_is_400_and_names_its_parameter(self, chain: Chain, query: str) -> None:
        answer = ask(chain.hub, "GET", f"/api/requests?{query}")
        assert (answer.status, answer.error["param"]) == (400, query.partition("=")[0])


class TestDeadJobs:
    FAILS = chat(tokens=3, double={"status": 500, "error_body": "broken"})

    def dead(self, hub: str) -> list[dict[str, object]]:
        return list(told(hub, "GET", "/api/dead")["dead"])

    def test_a_job_that_fails_on_every_attempt_is_kept_and_can_be_tried_again(
        self, chain: Chain, other_hub: str
    ) -> None:
        assert post(chain.hub, self.FAILS).status >= 500
        until(lambda: len(self.dead(chain.hub)) == 1, 5, "the job is buried")
        (letter,) = self.dead(other_hub)
        assert (letter["model"], letter["attempt"], letter["is_retryable"]) == ("tiny:1b", 2, True)
        assert "broken" in str(letter["reason"])
        assert "body" not in letter
        started = chain.engine.state()["started"]
        retried = told(other_hub, "POST", f"/api/dead/{letter['id']}/retry", status=202)
        assert retried["request"] != letter["request"]
        until(lambda: told(chain.hub, "GET", f"/api/requests/{retried['request']}")["ended_at"], 5, "it ends")
        assert chain.engine.state()["started"] == started + 2
        until(lambda: [one["request"] for one in self.dead(chain.hub)] == [retried["request"]], 5, "it is buried anew")
        (again,) = self.dead(chain.hub)
        told(chain.hub, "DELETE", f"/api/dead/{again['id']}")
        assert self.dead(chain.hub) == []

    def test_what_somebody_else_wrote_there_is_shown_and_never_run(self, chain: Chain, module_grid: Grid) -> None:
        """Providers may write dead letters: one must not become a job because an operator means well."""
        body = json.dumps(chat("forged")).encode()
        with module_grid.redis() as client:
            job = {"v": "1", "id": "f" * 32, "attempt": "1", "model": "tiny:1b", "endpoint": "/v1/chat/completions"}
            job |= {"stream": "0", "reply": "ghub:reply:{h}:x", "deadline": "9", "trace": "", "reason": "forged"}
            entry = client.xadd("ghub:dead", {**job, "body": body, "sig": f"operator:{'0' * 64}"})
            odd = client.xadd("ghub:dead", {b"\xff": b"\xff", b"attempt": "²"})
        assert [one["is_retryable"] for one in self.dead(chain.hub)] == [False, False]
        for one in (entry, odd):
            answer = ask(chain.hub, "POST", f"/api/dead/{one}/retry")
            assert (answer.status, answer.error["code"]) == (409, "not_retryable")
        assert chain.engine.state()["started"] == 0
        assert told(chain.hub, "DELETE", "/api/dead") == {"dropped": 2}

    def test_many_are_listed_from_the_newest_on(self, chain: Chain, module_grid: Grid) -> None:
        with module_grid.redis() as client:
            for number in range(25):
                client.xadd("ghub:dead", {"id": str(number)})
        assert [one["request"] for one in self.dead(chain.hub)] == [str(number) for number in range(24, -1, -1)]
        newest = told(chain.hub, "GET", "/api/dead?limit=12")["dead"]
        assert [one["request"] for one in newest] == [str(number) for number in range(24, 12, -1)]

    @pytest.mark.usefixtures("chain")
    def test_a_retry_that_is_not_admitted_leaves_the_letter(self, module_grid: Grid) -> None:
        hub = module_grid.hub(GHUB_HUB_MAX_ATTEMPTS="1", GHUB_HUB_MAX_OPEN_REQUESTS="1", **ADMIN)
        assert post(hub, self.FAILS).status >= 500
        until(lambda: len(self.dead(hub)) == 1, 5, "the job is buried")
        with Call(hub, chat(tokens=10_000, stream=True, double=SLOW)) as call:
            call.wait_for("t3 ")
            answer = ask(hub, "POST", f"/api/dead/{self.dead(hub)[0]['id']}/retry")
            assert (answer.status, answer.error["code"]) == (503, "hub_full")
        assert [one["is_retryable"] for one in self.dead(hub)] == [True]

    @pytest.mark.usefixtures("chain")
    def test_bodies_are_not_kept_where_that_is_turned_off(self, module_grid: Grid) -> None:
        hub = module_grid.hub(GHUB_HUB_MAX_ATTEMPTS="1", GHUB_HUB_KEEP_DEAD_BODIES="false", **ADMIN)
        assert post(hub, self.FAILS).status >= 500
        until(lambda: len(self.dead(hub)) == 1, 5, "the job is buried")
        (letter,) = self.dead(hub)
        assert (letter["is_retryable"], letter["body_bytes"]) == (False, 0)
        assert ask(hub, "POST", f"/api/dead/{letter['id']}/retry").status == 409

    @pytest.mark.parametrize("entry", ["1-1", "nonsense", "-", "+", "99999999999999999999-1", "1-²", "1-1-1", "%ff-1"])
    def test_a_letter_that_is_not_there_is_404(self, chain: Chain, entry: str) -> None:
        for method, path in (("POST", f"/api/dead/{entry}/retry"), ("DELETE", f"/api/dead/{entry}")):
            answer = ask(chain.hub, method, path.replace("²", "%c2%b2"))
            assert (answer.status, answer.error["code"]) == (404, "dead_job_not_found")


def test_without_a_broker_the_operator_hears_so(mortal_grid: Grid) -> None:
    hub = mortal_grid.chain(**ADMIN).hub
    mortal_grid.broker.kill()
    for method, path in ROUTES:
        answer = ask(hub, method, path, b'{"name": "me"}' if method == "POST" else None)
        assert answer.status in (503, 404), f"{method} {path}: {answer.text}"
        if answer.status == 503:
            assert answer.error["code"] == "broker_unavailable"
            assert int(answer.headers["retry-after"]) >= 1
