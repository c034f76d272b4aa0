"""`--watch`, `ghub why`, `ghub usage`, completion, and how commands bear pipes and odd terminals."""

import json
import os
import signal
import subprocess
import time

import pytest

from tests.support.call import Call, post
from tests.support.grid import Chain, Grid, chat
from tests.support.operator import ADMIN, ADMIN_TOKEN, ghub, surroundings, told
from tests.support.processes import PROJECT, python, until
from tests.support.terminal import Terminal

GHUB = python("-m", "ghub")


@pytest.fixture(scope="module")
def chain(module_grid: Grid) -> Chain:
    return module_grid.chain(slots=1, GHUB_HEARTBEAT_S="0.3", **ADMIN)


def env(hub: str) -> dict[str, str]:
    return {"GHUB_HUB_URL": hub, "GHUB_HUB_ADMIN_TOKEN": ADMIN_TOKEN}


def run(chain: Chain, *words: str) -> str:
    """What a command prints that goes well."""
    done = ghub(*words, **env(chain.hub))
    assert done.returncode == 0, done.stderr
    return done.stdout


class TestWatch:
    def test_a_pipe_gets_a_line_of_json_each_time_until_ctrl_c(self, chain: Chain) -> None:
        with subprocess.Popen(
            [*GHUB, "nodes", "--watch", "0.1", "--json"],
            cwd=PROJECT,
            env=surroundings(**env(chain.hub)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as watching:
            assert watching.stdout is not None
            assert watching.stderr is not None
            for _ in range(3):
                (node,) = json.loads(watching.stdout.readline())["nodes"]
                assert node["node"] == chain.node
            watching.send_signal(signal.SIGINT)
            assert watching.wait(10) == 0
            assert watching.stderr.read() == b""

    def test_a_terminal_shows_what_changes(self, chain: Chain) -> None:
        words = [*GHUB, "nodes", "--watch", "0.2"]
        with Terminal(words, surroundings(**env(chain.hub), TERM="xterm")) as terminal:
            terminal.until("idle")
            run(chain, "nodes", "drain", chain.node)
            terminal.until("draining")
            run(chain, "nodes", "resume", chain.node)
            terminal.until("idle")
            assert terminal.interrupt_until_end() == 0
            assert "Abort" not in terminal.text

    def test_a_hub_that_is_gone_for_a_while_ends_no_watch(self, module_grid: Grid) -> None:
        hub = module_grid.hub(**ADMIN)
        words = [*GHUB, "models", "--watch", "0.2"]
        with Terminal(words, surroundings(**env(hub), TERM="xterm")) as terminal:
            terminal.until("tiny:1b")
            module_grid.hubs[hub].kill()
            terminal.until("no hub answers")
            module_grid.hub(url=hub, **ADMIN)
            terminal.until("tiny:1b")
            assert terminal.interrupt_until_end() == 0

    @pytest.mark.parametrize(
        ("before", "order"),
        [
            ("nodes --watch 1", "drain x"),
            ("requests --watch", "dead"),
            ("requests --status queued", "cancel x"),
            ("requests --limit 100", "dead"),
        ],
    )
    def test_no_option_goes_before_an_order(self, before: str, order: str) -> None:
        done = ghub(*before.split(), *order.split())
        said = f"ghub: options stand behind {order.split(maxsplit=1)[0]!r}\n"
        assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


def test_what_waits_and_runs_is_told_with_its_age_place_and_pace(chain: Chain) -> None:
    body = chat(tokens=5000, stream=True, double={"delay_ms": 20})
    with Call(chain.hub, body) as first, Call(chain.hub, body) as second:
        first.wait_for("t9 ")
        until(lambda: told(chain.hub, "GET", "/api/queues")["queues"][1]["waiting"] == 1, 5, "the second one waits")
        rows = [line.split() for line in run(chain, "queues").splitlines()]
        (waiting,) = [row for row in rows if row[:3] == ["tiny:1b", "interactive", "1"]]
        assert waiting[-1] in ("s", "min")
        head, *rows = [line.split() for line in run(chain, "requests").splitlines()]
        assert {"PLACE", "AGE", "TOKENS", "TOKENS/S"} <= {*head}
        assert sorted(row[1] for row in rows) == ["queued", "streaming"]
        second.close()
    until(lambda: not told(chain.hub, "GET", "/api/requests")["requests"], 5, "both are gone")


def test_why_tells_of_nodes_models_and_what_is_not_there(chain: Chain) -> None:
    assert chain.node in run(chain, "why", chain.node)
    assert "tiny:1b" in run(chain, "why", "tiny:1b")
    nobody = run(chain, "why", "no/such:1b")
    assert "(no-such-model)" in nobody
    assert "-> " in nobody
    assert json.loads(run(chain, "why", "no/such:1b", "--json"))["reasons"][0]["code"] == "no-such-model"


def test_usage_is_told_by_key_with_the_sum(chain: Chain) -> None:
    for name, calls in (("heavy", 2), ("light", 1)):
        key = told(chain.hub, "POST", "/api/keys", {"name": name}, status=201)["key"]
        for _ in range(calls):
            assert post(chain.hub, chat(tokens=3), headers={"authorization": f"Bearer {key}"}).status == 200
    until(lambda: len(told(chain.hub, "GET", "/api/usage")["usage"]) == 2, 5, "both are counted")
    rows = [line.split() for line in run(chain, "usage").splitlines()]
    assert [row[:3] for row in rows[1:]] == [["heavy", "tiny:1b", "2"], ["light", "tiny:1b", "1"], ["all", "-", "3"]]
    assert rows[1][4] == "6"
    told_json = json.loads(run(chain, "usage", "--key", "light", "--json"))
    assert [row["name"] for row in told_json["usage"]] == ["light"]
    assert told_json["totals"]["completion_tokens"] == 3
    assert run(chain, "usage", "--by-day").splitlines()[0].split()[0] == "DAY"
    done = ghub("usage", "--key", "nobody", **env(chain.hub))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)


class TestCompletion:
    def complete(self, hub: str, line: str) -> list[str]:
        words = line.split(" ")
        done = ghub(
            **env(hub),
            _GHUB_COMPLETE="complete_bash",
            COMP_WORDS=line,
            COMP_CWORD=str(len(words) - 1),
            GHUB_API_KEY="x",
        )
        assert done.stderr == ""
        return done.stdout.split()

    def test_names_come_from_the_hub(self, chain: Chain) -> None:
        assert self.complete(chain.hub, "ghub nodes drain ") == [chain.node]
        assert self.complete(chain.hub, "ghub chat ti") == ["tiny:1b"]
        assert self.complete(chain.hub, "ghub requests --model ti") == ["tiny:1b"]
        assert self.complete(chain.hub, "ghub why ") == [chain.node, "tiny:1b"]
        assert self.complete(chain.hub, "ghub nodes drain zz") == []
        assert "doctor" in self.complete(chain.hub, "ghub do")

    def test_without_a_hub_there_is_silence_and_soon(self) -> None:
        began = time.monotonic()
        assert self.complete("http://127.0.0.1:1", "ghub nodes drain ") == []
        assert time.monotonic() - began < 5

    def test_a_shell_is_told_how(self) -> None:
        done = ghub("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
        assert "_GHUB_COMPLETE=complete_bash" in done.stdout


class TestPipesAndTerminals:
    def test_a_reader_that_leaves_ends_a_command_without_a_word(self, chain: Chain) -> None:
        line = f"{' '.join(GHUB)} nodes --watch 0.1 | head -n 1"
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=PROJECT,
            env=surroundings(**env(chain.hub)),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert (done.stdout.split()[:1], done.stderr) == (["NODE"], "")

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is none here")  # noqa: PTH110
    def test_a_full_disk_is_told_in_a_line(self, chain: Chain) -> None:
        with open("/dev/full", "w") as full:  # noqa: PTH123
            done = subprocess.run(
                [*GHUB, "nodes", "--json"],
                cwd=PROJECT,
                env=surroundings(**env(chain.hub)),
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                timeout=30,
                check=False,
            )
        assert (done.returncode, done.stderr) == (1, "ghub: No space left on device\n")

    def test_a_poor_terminal_can_show_it_and_json_stays_json(self, chain: Chain) -> None:
        poor = {**env(chain.hub), "PYTHONIOENCODING": "latin-1", "LC_ALL": "C"}
        assert chain.node in ghub("top", "--once", **poor).stdout
        assert "There is no model '??:1b'" in ghub("why", "模型:1b", **poor).stdout
        assert json.loads(ghub("why", "模型:1b", "--json", **poor).stdout)["name"] == "模型:1b"

    def test_colours_are_for_terminals_that_want_them(self, chain: Chain) -> None:
        for more, has_colors in (({"TERM": "xterm-256color"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False)):
            words = [*GHUB, "top", "--once"]
            with Terminal(words, surroundings(**env(chain.hub), **more)) as terminal:
                assert terminal.ends() == 0
                assert ("\x1b[32m" in terminal.raw) is has_colors

    def test_an_unknown_host_and_a_wrong_token_are_told_in_a_line(self, chain: Chain) -> None:
        unknown, wrong = {"GHUB_HUB_URL": "http://nobody.invalid"}, {"GHUB_HUB_ADMIN_TOKEN": "a-wrong-token"}
        for more, words in ((unknown, ["nodes"]), (unknown, ["top", "--once"]), (wrong, ["why", "x"])):
            done = ghub(*words, **{**env(chain.hub), **more})
            assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
