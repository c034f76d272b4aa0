"""`ghub nodes`, `requests`, `models` and `queues`, as an operator types them."""

import json
import subprocess
from pathlib import Path

import pytest

from ghub.client.hub import AdminHub
from tests.support.call import Call, post
from tests.support.grid import Chain, Grid, chat
from tests.support.operator import ADMIN, ADMIN_TOKEN, ghub
from tests.support.processes import python, until

SLOW = {"delay_ms": 20}


@pytest.fixture(scope="module")
def chain(module_grid: Grid) -> Chain:
    return module_grid.chain(slots=1, GHUB_HEARTBEAT_S="0.3", **ADMIN)


def run(chain: Chain, *words: str) -> str:
    """Standard output of a command that went well."""
    done = ghub(*words, GHUB_HUB_URL=chain.hub, GHUB_HUB_ADMIN_TOKEN=ADMIN_TOKEN)
    assert done.returncode == 0, done.stderr
    return done.stdout


def state(chain: Chain) -> str:
    (node,) = json.loads(run(chain, "nodes", "--json"))["nodes"]
    return str(node["state"])


def test_nodes_are_listed_drained_and_resumed(chain: Chain) -> None:
    head, row = run(chain, "nodes").splitlines()
    assert head.split()[:2] == ["NODE", "STATE"]
    assert row.split()[:2] == [chain.node, "idle"]
    assert run(chain, "nodes", "drain", chain.node) == f"drain is ordered; {chain.node} was idle\n"
    until(lambda: state(chain) == "draining", 10, "the node drains")
    assert json.loads(run(chain, "nodes", "resume", chain.node, "--json"))["ordered"] == "resume"
    until(lambda: state(chain) == "idle", 10, "the node takes work again")


def test_requests_are_listed_and_cancelled(chain: Chain) -> None:
    with Call(chain.hub, chat(tokens=10_000, stream=True, double=SLOW)) as call:
        call.wait_for("t3 ")
        (request,) = json.loads(run(chain, "requests", "--status", "streaming", "--json"))["requests"]
        assert request["id"] in run(chain, "requests", "--model", "tiny:1b")
        assert run(chain, "requests", "cancel", request["id"]) == f"{request['id']} is being cancelled\n"
        assert call.finish().error["code"] == "cancelled_by_operator"


FAILS = chat(tokens=3, double={"status": 500, "error_body": "broken"})


def dead(chain: Chain) -> list[dict[str, object]]:
    return list(json.loads(run(chain, "requests", "dead", "--json"))["dead"])


def test_jobs_that_failed_for_good_are_listed_retried_and_dropped(chain: Chain) -> None:
    assert run(chain, "requests", "dead").split() == ["ID", "WHEN", "REQUEST", "MODEL", "ATTEMPTS", "CODE", "REASON"]
    assert post(chain.hub, FAILS).status >= 500
    until(lambda: len(dead(chain)) == 1, 5, "the job is buried")
    (letter,) = dead(chain)
    _, row = run(chain, "requests", "dead", "--limit", "5").splitlines()
    assert row.split()[0] == letter["id"]
    assert row.split()[3:6] == [letter["request"], "tiny:1b", "3"]
    assert "broken" in row
    said = run(chain, "requests", "retry", str(letter["id"]))
    request = said.split()[-1]
    assert said == f"{letter['id']} runs again as the request {request}\n"
    until(
        lambda: [one["request"] for one in dead(chain)] == [request], 5, "it failed again, and has a letter of its own"
    )
    assert run(chain, "requests", "drop", str(dead(chain)[0]["id"])).endswith(" is dropped\n")
    assert dead(chain) == []


def test_all_jobs_that_failed_for_good_can_be_retried_or_dropped_at_once(chain: Chain, module_grid: Grid) -> None:
    for _ in range(2):
        assert post(chain.hub, FAILS).status >= 500
    with module_grid.redis() as client:
        client.xadd("ghub:dead", {"id": "x", "reason": "refused by a provider, so nobody can run it"})
    until(lambda: len(dead(chain)) == 3, 5, "both are buried")
    were = {one["request"] for one in dead(chain)}
    assert run(chain, "requests", "retry", "--all") == "2 run again\n"
    until(lambda: len({one["request"] for one in dead(chain)} & were) == 1, 10, "both failed again")
    assert run(chain, "requests", "drop", "--all") == "3 dropped\n"
    assert json.loads(run(chain, "requests", "retry", "--all", "--json")) == {"retried": []}
    assert json.loads(run(chain, "requests", "drop", "--all", "--json")) == {"dropped": 0}


@pytest.mark.parametrize("order", ["retry", "drop"])
def test_an_order_for_dead_jobs_says_which_ones(chain: Chain, order: str) -> None:
    env = {"GHUB_HUB_URL": chain.hub, "GHUB_HUB_ADMIN_TOKEN": ADMIN_TOKEN}
    for words in ([], ["1-1", "--all"]):
        done = ghub("requests", order, *words, **env)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    done = ghub("requests", order, "1-1", **env)
    assert (done.returncode, done.stdout) == (1, "")
    assert "There is no dead job '1-1'" in done.stderr


def test_models_and_queues_are_shown(chain: Chain) -> None:
    # the node may still be ending what was cancelled
    until(
        lambda: run(chain, "models").splitlines()[1].split() == ["tiny:1b", "1", "1", "0", "0", chain.node],
        10,
        "an idle node",
    )
    assert json.loads(run(chain, "models", "--json"))["models"][0]["id"] == "tiny:1b"
    assert [row.split()[1] for row in run(chain, "queues").splitlines()[1:]] == ["retry", "interactive", "batch"]
    assert len(json.loads(run(chain, "queues", "--json"))["queues"]) == 3


def test_what_is_not_there_or_makes_no_sense_is_told_in_one_line(chain: Chain) -> None:
    env = {"GHUB_HUB_URL": chain.hub, "GHUB_HUB_ADMIN_TOKEN": ADMIN_TOKEN}
    for words in (["nodes", "drain", "nobody"], ["requests", "cancel", "x"], ["requests", "--status", "done"]):
        done = ghub(*words, **env)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)


def test_a_hub_named_before_the_order_is_not_passed_over_in_silence(chain: Chain) -> None:
    done = ghub("nodes", "--hub-url", chain.hub, "drain", chain.node)
    assert (done.returncode, done.stderr) == (2, "ghub: options stand behind 'drain'\n")


def test_the_admin_token_of_this_machine_s_stack_is_shown_to_no_other_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "admin-token").write_text(ADMIN_TOKEN)
    monkeypatch.setenv("GHUB_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("GHUB_HUB_ADMIN_TOKEN", raising=False)
    hubs = ["http://127.0.0.1:8080", "http://localhost", "http://[::1]:1", "https://hub.example.org"]
    assert [ADMIN_TOKEN in str(vars(AdminHub.open(hub, None))) for hub in hubs] == [True, True, True, False]


def test_help_waits_for_nothing_that_only_the_commands_need() -> None:
    code = (
        "import sys, ghub.cli; print([n for n in ('httpx2', 'rich.console', 'fastapi', 'redis') if n in sys.modules])"
    )
    done = subprocess.run(python("-c", code), capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "[]\n"
