"""`ghub top` on a terminal of its own and through pipes, beside a real hub, broker and provider."""

import json
import re
import signal

import pytest

from tests.support.call import Call
from tests.support.grid import Chain, Grid, chat
from tests.support.operator import ADMIN, ADMIN_TOKEN, ghub, surroundings
from tests.support.processes import python
from tests.support.terminal import Terminal

INTO, OUT_OF = "\x1b[?1049h", "\x1b[?1049l"
"""The terminal's other screen: https://invisible-island.net/xterm/ctlseqs/ctlseqs.html."""


@pytest.fixture(scope="module")
def chain(module_grid: Grid) -> Chain:
    return module_grid.chain(slots=4, GHUB_HEARTBEAT_S="0.3", **ADMIN)


def env(hub: str) -> dict[str, str]:
    return {"GHUB_HUB_URL": hub, "GHUB_HUB_ADMIN_TOKEN": ADMIN_TOKEN}


def test_one_frame_and_one_snapshot_go_through_pipes(chain: Chain) -> None:
    done = ghub("top", "--once", **env(chain.hub), COLUMNS="80")
    assert done.returncode == 0, done.stderr
    assert re.search(rf"^{chain.node} +idle +0/4", done.stdout, re.MULTILINE)
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "\x1b" not in done.stdout
    assert chain.node in json.loads(ghub("top", "--json", **env(chain.hub)).stdout)["nodes"]


def test_where_there_is_no_terminal_or_no_hub_it_says_so_in_a_line(chain: Chain) -> None:
    for words, hub, code in ((["top"], chain.hub, 2), (["top", "--once"], "http://127.0.0.1:1", 1)):
        done = ghub(*words, **env(hub))
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1)


def test_what_runs_is_seen_while_it_runs_and_q_gives_the_screen_back(chain: Chain) -> None:
    with Terminal(python("-m", "ghub", "top"), {**surroundings(**env(chain.hub)), "TERM": "xterm"}) as terminal:
        terminal.until("0 of 4 slots run")
        with Call(chain.hub, chat(tokens=5000, stream=True, double={"delay_ms": 20})) as call:
            call.wait_for("t3 ")
            terminal.until("1 of 4 slots run")
            terminal.until("TOKENS/S")
        terminal.until("nothing waits or runs")
        terminal.resize(140, 50)
        terminal.until("POWER")
        terminal.type("q")
        assert terminal.ends() == 0
        assert terminal.raw.index(INTO) < terminal.raw.rindex(OUT_OF)


def test_ctrl_c_leaves_quietly(chain: Chain) -> None:
    with Terminal(python("-m", "ghub", "top"), {**surroundings(**env(chain.hub)), "TERM": "xterm"}) as terminal:
        terminal.until(chain.node)
        assert terminal.interrupt_until_end() == 0
        assert "Abort" not in terminal.text


def test_a_screen_is_given_back_when_the_command_is_ended_from_outside(chain: Chain) -> None:
    with Terminal(python("-m", "ghub", "top"), {**surroundings(**env(chain.hub)), "TERM": "xterm"}) as terminal:
        terminal.until(chain.node)
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.ends() == 128 + signal.SIGTERM
        assert OUT_OF in terminal.raw
        assert "Traceback" not in terminal.text


def test_a_terminal_that_cannot_be_painted_is_told_of(chain: Chain) -> None:
    with Terminal(python("-m", "ghub", "top"), {**surroundings(**env(chain.hub)), "TERM": "dumb"}) as terminal:
        assert terminal.ends() == 2
        assert "--once" in terminal.text


def test_a_hub_that_goes_and_comes_back_is_followed_again(chain: Chain, module_grid: Grid) -> None:
    hub = module_grid.hub(GHUB_HUB_NAME="first", **ADMIN)
    with Terminal(python("-m", "ghub", "top"), {**surroundings(**env(hub)), "TERM": "xterm"}) as terminal:
        terminal.until("hub first-")
        module_grid.hubs[hub].kill()
        terminal.until("Connection refused")
        assert chain.node in terminal.text
        module_grid.hub(url=hub, GHUB_HUB_NAME="second", **ADMIN)
        terminal.until("hub second-", 15)
        terminal.type("q")
        assert terminal.ends() == 0
