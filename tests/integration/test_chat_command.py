"""`ghub chat`, through pipes and on a terminal, beside a real hub, broker and provider."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.reading import numbered
from tests.support.call import Call
from tests.support.grid import Chain, Grid, chat
from tests.support.operator import ADMIN, ghub, surroundings, told
from tests.support.processes import PROJECT, python, until
from tests.support.terminal import Terminal

CTRL_C, CTRL_D = "\x03", "\x04"
SLOW_MS = 30


@pytest.fixture(scope="module")
def _chain(module_grid: Grid) -> Chain:
    """A node with one slot, whose engine can go on with an answer that another began."""
    return module_grid.chain(
        slots=1, kind="vllm", GHUB_HUB_FIRST_COMMENT_S="0.2", GHUB_HUB_COMMENT_INTERVAL_S="0.5", **ADMIN
    )


@pytest.fixture
def chain(_chain: Chain) -> Iterator[Chain]:
    yield _chain
    _chain.engine.configure()


@pytest.fixture(scope="module")
def guarded(module_grid: Grid, _chain: Chain) -> str:
    """Another hub of the same grid, which asks clients for a key."""
    hub = module_grid.hub(GHUB_HUB_AUTH="required", **ADMIN)
    until(lambda: told(hub, "GET", "/api/nodes")["nodes"], 10, "the hub knows the node")
    return hub


def on_terminal(hub: str, *words: str) -> Terminal:
    return Terminal(python("-m", "ghub", "chat", *words), surroundings(GHUB_HUB_URL=hub, TERM="xterm"))


class TestPipe:
    def test_the_answer_and_nothing_else_is_on_standard_output(self, chain: Chain) -> None:
        done = ghub("chat", "tiny:1b", "--max-tokens", "4", said="hi\nthere\n", GHUB_HUB_URL=chain.hub)
        assert (done.returncode, done.stdout) == (0, numbered(0, 4) + "\n")

    def test_which_model_is_asked_is_told_beside_it(self, chain: Chain) -> None:
        done = ghub("chat", "--max-tokens", "2", "--system", "be brief", said="hi", GHUB_HUB_URL=chain.hub)
        assert (done.returncode, done.stdout) == (0, numbered(0, 2) + "\n")
        assert done.stderr.splitlines()[0] == "asking tiny:1b, the only model"

    def test_an_answer_that_went_on_after_a_failure_is_whole_and_says_so(self, chain: Chain) -> None:
        chain.engine.configure(cut_after=3)
        done = ghub("chat", "tiny:1b", "--max-tokens", "5", said="hi", GHUB_HUB_URL=chain.hub)
        assert (done.returncode, done.stdout) == (0, numbered(0, 5) + "\n")
        assert f"(a node was lost; {chain.node} goes on)" in done.stderr

    @pytest.mark.parametrize(
        ("words", "said", "code"),
        [
            (["nobody:1b"], "hi", 1),
            (["tiny:1b"], " \n", 2),
            (["tiny:1b", "--api-key-file", "/nowhere"], "hi", 2),
            (["tiny:1b", "--hub-url", "http://127.0.0.1:1"], "hi", 1),
            (["tiny:1b", "--hub-url", "ftp://x"], "hi", 2),
        ],
    )
    def test_what_cannot_be_is_told_in_a_line(self, chain: Chain, words: list[str], said: str, code: int) -> None:
        done = ghub("chat", *words, said=said, GHUB_HUB_URL=chain.hub)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1), done.stderr
        assert done.stderr.startswith("ghub: ")

    @pytest.mark.parametrize("stdin", [b"gr\xfc\xdfe", None])
    def test_a_question_that_is_no_text_or_is_not_there_is_refused(self, chain: Chain, stdin: bytes | None) -> None:
        command = [*python("-m", "ghub"), "chat", "tiny:1b"]
        if stdin is None:
            command = ["sh", "-c", 'exec "$@" <&-', "sh", *command]
        done = subprocess.run(
            command,
            input=stdin,
            env=surroundings(GHUB_HUB_URL=chain.hub, LC_ALL="C"),
            cwd=PROJECT,
            capture_output=True,
            timeout=30,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1), done.stderr

    def test_a_hub_that_dies_leaves_what_came_and_a_line(self, chain: Chain, module_grid: Grid) -> None:
        hub = module_grid.hub()
        until(lambda: module_grid.status(hub, "/v1/models/tiny:1b") == 200, 10, "the hub knows the model")
        chain.engine.configure(delay_ms=SLOW_MS)
        with subprocess.Popen(
            [*python("-m", "ghub"), "chat", "tiny:1b", "--max-tokens", "2000"],
            env=surroundings(GHUB_HUB_URL=hub),
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as talk:
            assert talk.stdin is not None
            assert talk.stdout is not None
            assert talk.stderr is not None
            talk.stdin.write(b"hi")
            talk.stdin.close()
            assert os.read(talk.stdout.fileno(), 3) == b"t0 "
            module_grid.hubs[hub].kill()
            assert talk.wait(10) == 1
            assert talk.stdout.read().endswith(b"\n")
            assert talk.stderr.read().decode().count("\n") == 1

    def test_the_key_comes_from_the_environment_or_a_file(self, guarded: str, tmp_path: Path) -> None:
        key = told(guarded, "POST", "/api/keys", {"name": "talker"}, status=201)["key"]
        (tmp_path / "key").write_text(key + "\n")
        words = ("chat", "tiny:1b", "--max-tokens", "2")
        refused = ghub(*words, said="hi", GHUB_HUB_URL=guarded)
        assert (refused.returncode, refused.stdout, "GHUB_API_KEY" in refused.stderr) == (1, "", True)
        wrong = ghub(*words, said="hi", GHUB_HUB_URL=guarded, OPENAI_API_KEY="sk-wrong")
        assert (wrong.returncode, "sk-wrong" in wrong.stderr) == (1, False)
        assert ghub(*words, said="hi", GHUB_HUB_URL=guarded, GHUB_API_KEY=key, OPENAI_API_KEY="x").returncode == 0
        assert ghub(*words, "--api-key-file", str(tmp_path / "key"), said="hi", GHUB_HUB_URL=guarded).returncode == 0


class TestTerminal:
    def test_an_answer_that_is_stopped_ends_at_the_engine_and_the_conversation_goes_on(self, chain: Chain) -> None:
        chain.engine.configure(delay_ms=SLOW_MS)
        with on_terminal(chain.hub, "--max-tokens", "5000") as terminal:
            terminal.until("tiny:1b at ")
            terminal.until("> ")
            terminal.type("hi\n")
            terminal.until("t3 ")
            assert chain.engine.state()["open"] == 1
            terminal.type(CTRL_C)
            terminal.until("stopped")
            until(lambda: chain.engine.state()["open"] == 0, 5, chain.engine.state)
            terminal.until("> ")
            chain.engine.configure()
            terminal.type("/models\n")
            terminal.until("* tiny:1b")
            terminal.until("> ")
            terminal.type("/nope\n")
            terminal.until("there is no /nope")
            terminal.until("> ")
            assert terminal.interrupt_until_end() == 0
            assert "Traceback" not in terminal.text

    def test_it_says_how_it_stands_while_one_waits(self, chain: Chain) -> None:
        chain.engine.configure(delay_ms=SLOW_MS)
        with Call(chain.hub, chat(tokens=5000, stream=True)) as other, on_terminal(chain.hub) as terminal:
            other.wait_for("t1 ")
            terminal.until("> ")
            terminal.type("hi\n")
            terminal.until("queued, 0 ahead")
            chain.engine.configure()
            other.close()
            terminal.until(numbered(0, 4))
            terminal.until("(16 tokens in ")
            terminal.until("> ")
            terminal.type(CTRL_D)
            assert terminal.ends() == 0

    def test_what_was_said_is_known_until_it_is_cleared(self, chain: Chain) -> None:
        with on_terminal(chain.hub, "tiny:1b", "--max-tokens", "2") as terminal:
            first = [
                ("one\n", f"at {chain.node}"),
                ("/clear\n", "forgotten"),
                ("/system be brief\n", "told that first"),
            ]
            for typed, said in first:
                terminal.until("> ")
                terminal.type(typed)
                terminal.until(said)
            terminal.until("> ")
            terminal.type("/model nobody:1b\n")
            terminal.until("asking nobody:1b")
            terminal.until("> ")
            terminal.type("two\n")
            terminal.until("refuses: The model 'nobody:1b' does not exist")
            terminal.until("> ")
            terminal.type("/quit\n")
            assert terminal.ends() == 0
