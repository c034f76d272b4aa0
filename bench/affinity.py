"""What it is worth that a conversation goes to the node that knows it, and what it costs where none does.

    uv run python -m bench.affinity                     # the real llama.cpp: first-token time of follow-up turns
    uv run python -m bench.affinity --talks 6 --turns 5
    uv run python -m bench.affinity cost                # hub and nodes with test engines: what it costs

Two hubs share the same nodes, one with affinity and one without, and take turns: what else the machine does hits both.
"""

import argparse
import http.client
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from bench.ending import end_when_told
from bench.ground import empty_grid
from common.signing import SigningKeys
from common.types import ModelId, RequestId
from common.wire import Job
from hub.affinity.opening import opening_of
from tests.doubles.process import EngineProcess
from tests.support.figures import figures, total
from tests.support.grid import SIGNING_KEY
from tests.support.llamacpp import MODEL, real_llamacpp
from tests.support.pair import QUICK
from tests.support.processes import until

WORDS = (
    "river",
    "stone",
    "lamp",
    "window",
    "garden",
    "market",
    "paper",
    "engine",
    "winter",
    "silver",
    "bridge",
    "forest",
)
ANSWER_TOKENS = 8
DRAWS = random.Random(1)


class Turn(NamedTuple):
    """What one turn took until the first piece of its answer, and who gave it."""

    first_s: float
    node: str
    said: str


class Talk:
    """A conversation about a long text of its own."""

    def __init__(self, words: int) -> None:
        text = " ".join(DRAWS.choice(WORDS) for _ in range(words))
        self.messages = [{"role": "system", "content": f"Answer questions about this text: {text}"}]

    def ask(self, hub: str, model: str) -> Turn:
        """The next turn."""
        self.messages.append({"role": "user", "content": f"What comes after {DRAWS.choice(WORDS)}?"})
        turn = stream(hub, {"model": model, "messages": self.messages, "max_tokens": ANSWER_TOKENS, "stream": True})
        self.messages.append({"role": "assistant", "content": turn.said})
        return turn


def stream(hub: str, body: dict[str, Any]) -> Turn:
    """Read a stream to its end."""
    address = urlsplit(hub)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=300)
    began, first_s, said = time.perf_counter(), 0.0, ""
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    if answer.status != 200:
        raise SystemExit(answer.read().decode())
    for line in answer:
        if line.startswith(b"data: {") and (choices := json.loads(line[6:])["choices"]):
            piece = choices[0]["delta"].get("content") or ""
            if piece and not first_s:
                first_s = time.perf_counter() - began
            said += piece
    connection.close()
    return Turn(first_s, answer.headers["x-ghub-node"], said)


@contextmanager
def two_hubs(engines: Sequence[str], model: str, slots: int) -> Iterator[dict[str, str]]:
    """One hub that sets jobs aside and one that doesn't, over a node for each engine."""
    with empty_grid() as grid:
        hubs = {"with": grid.hub(), "without": grid.hub(GHUB_HUB_AFFINITY_WAIT_MS="0")}
        for engine in engines:
            grid.provider(engine, **QUICK, GHUB_PROVIDER_SLOTS=str(slots))
        for hub in hubs.values():
            until(lambda hub=hub: total(figures(hub), "ghub_model_nodes", model=model) == len(engines), 30, "nodes")
        yield hubs


def talk(nodes: int, talks: int, turns: int, words: int, slots: int) -> None:
    """Print the first-token times of follow-up turns, with and without."""
    with ExitStack() as stack:
        folders = [Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(nodes)]
        engines = [stack.enter_context(real_llamacpp(folder, slots)) for folder in folders]
        hubs = stack.enter_context(two_hubs(engines, MODEL, slots))
        begun = {way: [(Talk(words)) for _ in range(talks)] for way in hubs}
        firsts: dict[str, list[float]] = {way: [] for way in hubs}
        later: dict[str, list[float]] = {way: [] for way in hubs}
        stayed: dict[str, list[bool]] = {way: [] for way in hubs}
        last: dict[Talk, str] = {}
        for number in range(turns):
            for which in range(talks):
                for way, hub in hubs.items():
                    one = begun[way][which]
                    turn = one.ask(hub, MODEL)
                    (later if number else firsts)[way].append(turn.first_s)
                    if number:
                        stayed[way].append(last[one] == turn.node)
                    last[one] = turn.node
        about = f"{nodes} nodes, {talks} conversations of {turns} turns, prompts of about {words * 1.2:.0f} tokens"
        print(f"\n{about}; seconds to the first token\n")
        print("| | first turn, median | follow-up, median | follow-up, mean | worst | at the same node |")
        print("|---|---|---|---|---|---|")
        for way in hubs:
            share = sum(stayed[way]) / len(stayed[way])
            times = later[way]
            row = [statistics.median(firsts[way]), statistics.median(times), statistics.mean(times), max(times)]
            print(f"| {way} affinity | {' | '.join(f'{one:.2f}' for one in row)} | {share:.0%} |")
        medians = [statistics.median(later[way]) for way in ("without", "with")]
        means = [statistics.mean(later[way]) for way in ("without", "with")]
        print(f"\nwithout / with: median {medians[0] / medians[1]:.1f}, mean {means[0] / means[1]:.1f}")


def cost(rounds: int) -> None:
    """Print what a request takes that no node is near to, at each hub, and what digests of long bodies take."""
    print("| body | digests of its beginnings |\n|---|---|")
    for size in (2, 16, 64, 256, 1024, 16_384):
        job = a_job(b'{"model":"m","messages":[{"role":"user","content":"' + b"x" * size * 1024 + b'"}]}')
        signing = SigningKeys((("test", SIGNING_KEY.encode()),))
        times = []
        for _ in range(200):
            began = time.perf_counter()
            opening_of(job, None, signing, 2048)
            times.append(time.perf_counter() - began)
        print(f"| {size} KiB | {statistics.median(times) * 1e6:.0f} µs |")
    with ExitStack() as stack:
        engines = [stack.enter_context(EngineProcess(models=("tiny:1b",), slots=4)) for _ in range(3)]
        hubs = stack.enter_context(two_hubs([engine.url for engine in engines], "tiny:1b", 4))
        print("\n| new conversation of | with, ms | without, ms | with / without |\n|---|---|---|---|")
        for words in (4, 600, 10_000):
            times_of: dict[str, list[float]] = {way: [] for way in hubs}
            for _ in range(rounds):
                for way, hub in hubs.items():
                    times_of[way].append(Talk(words).ask(hub, "tiny:1b").first_s)
            row = [statistics.median(times_of[way]) * 1000 for way in ("with", "without")]
            print(f"| {words} words | {row[0]:.2f} | {row[1]:.2f} | {row[0] / row[1]:.2f} |")


def a_job(body: bytes) -> Job:
    """A job with this body."""
    return Job(RequestId("0" * 32), 1, ModelId("m"), "/v1/chat/completions", True, body, "ghub:reply:{h}:r", 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["talk", "cost"], default="talk")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--talks", type=int, default=4)
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--words", type=int, default=500)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args()
    if options.what == "cost":
        cost(options.rounds)
    else:
        talk(options.nodes, options.talks, options.turns, options.words, options.slots)


if __name__ == "__main__":
    end_when_told()
    main()
