"""`ghub nodes`, `requests`, `models` and `queues`, as an operator types them."""

import json
import subprocess
from pathlib import Path

import pytest

from ghub.admin.hub import AdminHub
from tests.support.call import Call
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


def test_models_and_queues_are_shown(chain: Chain) -> None:
    # the node may still be ending what was cancelled
    until(lambda: run(chain, "models").splitlines()[1].split() == ["tiny:1b", "1", "1", "0", "0"], 10, "an idle node")
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
