"""What README.md and the quickstart tell a reader to type is typed, in a copy of this checkout, with a home of its own.

Every block that names a language stands in the story of its page, in order; one that nobody declared fails the page.
"""

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from provider.config.reading import read_configuration
from tests.acceptance.stories import STORIES, SWAPS, UP, Step
from tests.support.blocks import Block, Terminals, blocks, commands, first_words
from tests.support.brokers import BrokerProcess
from tests.support.llamacpp import MODEL
from tests.support.ports import free_port
from tests.support.processes import PROJECT, until
from tests.support.tls import Authority
from tests.support.tools import tool

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.timeout(300)]

APPEARS_LIMIT_S = 15


@dataclass
class Reader:
    """Somebody who types what a page says, at two machines that share a checkout."""

    desk: Terminals
    tower: Terminals
    values: dict[str, str]

    def typed(self, text: str) -> str:
        """What is typed for it."""
        for shown, (instead, _) in SWAPS.items():
            if shown in text:
                text = text.replace(shown, re.sub(r"\{(\w+)\}", lambda name: self.values[name[1]], instead))
        return text

    def does(self, step: Step, block: Block) -> None:
        machine = self.tower if step.tower else self.desk
        if step.alone:
            self.leaves()
        if step.serves:
            said = machine.serve(self.typed(block.text), step.serves, step.env)
            if step.appears:
                until(
                    lambda: step.appears in self.desk.run("uv run ghub nodes", {}),
                    APPEARS_LIMIT_S,
                    "it does not appear",
                )
        else:
            said = machine.run(self.typed(block.text), step.env)
            assert re.search(step.says, said), f"{block.text}\nprinted {said[-4000:]}"
        if found := re.search(r"--token (ghubp-[\w-]+)", said):
            self.values["token"] = found[1]

    def leaves(self) -> None:
        """Ctrl-C wherever something runs."""
        for machine in (self.tower, self.desk):
            assert all(took_s < 5.5 for took_s in machine.interrupt())


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What git knows of this project, as somebody else has it, and a Python of its own that has pip."""
    folder = tmp_path_factory.mktemp("reader")
    known = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, known.split("\0")):
        if (PROJECT / name).exists():
            (folder / "ghubai" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, folder / "ghubai" / name)
    subprocess.run([sys.executable, "-m", "venv", str(folder / "python")], check=True, capture_output=True)
    return folder / "ghubai"


@pytest.fixture
def reader(checkout: Path, tmp_path: Path) -> Iterator[Reader]:
    ports = {name: str(free_port()) for name in ("hub", "broker", "provider", "engine", "other", "nobody")}
    desk = {
        **surroundings(checkout, tmp_path / "desk"),
        "GHUB_HUB_PORT": ports["hub"],
        "GHUB_HUB_URL": f"http://127.0.0.1:{ports['hub']}",
        "GHUB_HUB_NAME": "desk",
        "GHUB_PROVIDER_NAME": "desk",
        "GHUB_UP_BROKER_PORT": ports["broker"],
        "GHUB_UP_ENGINE_PORT": ports["engine"],
        "GHUB_UP_PROVIDER_PORT": ports["other"],
        "GHUB_UP_OLLAMA_URL": f"http://127.0.0.1:{ports['nobody']}",
    }
    tower = {
        **surroundings(checkout, tmp_path / "tower"),
        "GHUB_PROVIDER_NAME": "tower",
        "GHUB_PROVIDER_SERVER__PORT": ports["provider"],
        "GHUB_PROVIDER_ENGINE__URL": f"http://127.0.0.1:{ports['engine']}",
    }
    reader = Reader(Terminals(checkout, desk), Terminals(checkout, tower), ports)
    try:
        yield reader
    finally:
        reader.leaves()


def surroundings(checkout: Path, home: Path) -> dict[str, str]:
    """The variables of somebody who has nothing but a home, a Python with pip, and the caches of this machine."""
    home.mkdir()
    kept = ("PIP_", "UV_", "SSL_", "LANG", "HTTP_PROXY", "HTTPS_PROXY")
    own = {name: value for name, value in os.environ.items() if name.upper().startswith(kept)}
    own["NO_PROXY"] = own["no_proxy"] = "127.0.0.1"
    caches = {"UV_CACHE_DIR": ("uv", "cache", "dir"), "PIP_CACHE_DIR": (sys.executable, "-m", "pip", "cache", "dir")}
    for name, argv in caches.items():
        found = subprocess.run(argv, capture_output=True, text=True, check=False)
        if found.returncode == 0:
            own.setdefault(name, found.stdout.strip())
    if (settings := Path.home() / ".config/pip/pip.conf").is_file():
        own.setdefault("PIP_CONFIG_FILE", str(settings))
    return {**own, "HOME": str(home), "PATH": f"{checkout.parent}/python/bin:{os.environ['PATH']}"}


def story_of(page: str) -> list[tuple[Step, Block]]:
    """Its blocks, each with how it is run; fails where the two don't fit."""
    found, steps = blocks(PROJECT / page), STORIES[page]
    for block, step in zip(found, steps, strict=False):
        assert block.text.startswith(step.begins), f"{page}:{block.line}: expected {step.begins!r}"
    assert [f"{page}:{block.line}" for block in found[len(steps) :]] == [], "nobody declared how to run it"
    assert len(found) == len(steps)
    return list(zip(steps, found, strict=True))


@pytest.mark.parametrize("page", STORIES)
def test_every_block_is_declared(page: str) -> None:
    assert story_of(page)


def test_nothing_is_swapped_that_stands_nowhere() -> None:
    text = "".join(block.text for page in STORIES for block in blocks(PROJECT / page))
    assert [shown for shown in SWAPS if shown not in text] == []


@pytest.mark.parametrize("page", STORIES)
def test_what_a_page_says_works(page: str, reader: Reader, tmp_path: Path) -> None:
    tool("curl", "curl")
    with broker_with_tls(tmp_path) as url:
        reader.values["rediss"] = url
        for step, block in story_of(page):
            if block.language == "yaml":
                (tmp_path / "provider.yaml").write_text(block.text)
                assert read_configuration(tmp_path / "provider.yaml").settings.name == "tower"
            elif block.language == "python":
                script = f"uv run python - <<'END'\n{block.text}END\n"
                reader.does(step, Block("bash", script, block.line))
            elif block.language == "console":
                reader.leaves()
                reader.does(UP, Block("bash", UP.begins, block.line))
                look_inside(reader, block)
            else:
                reader.does(step, block)


@contextmanager
def broker_with_tls(folder: Path) -> Iterator[str]:
    """Its URL, as hubs take it: with a user, a password, and what vouches for it."""
    authority, port = Authority(folder), free_port()
    server = authority.issue("127.0.0.1")
    options = ["--tls-port", str(port), "--tls-cert-file", str(server.cert), "--tls-key-file", str(server.key)]
    options += ["--tls-ca-cert-file", str(authority.ca), "--tls-auth-clients", "no"]
    options += ["--user", "hub", "on", ">password", "~*", "&*", "+@all"]
    broker = BrokerProcess("redis", folder, *options)
    try:
        yield f"'rediss://hub:password@127.0.0.1:{port}/0?ssl_ca_certs={authority.ca}'"
    finally:
        broker.stop()


def look_inside(reader: Reader, block: Block) -> None:
    """Type what a page shows of a console while an answer streams, all in one terminal, and compare what comes."""
    tool("redis-cli", "redis-tools")
    with an_answer(reader.values):
        typed = [reader.typed(command.line) for command in commands(block)]
        script = "\n".join(f"{line}\necho '=== end'" for line in typed)
        said = reader.desk.run(script, {}).split("=== end\n")
    for command, answer in zip(commands(block), said, strict=False):
        there = set(answer.split())
        for shown in command.shown:
            for word in map(reader.typed, first_words(shown)):
                assert any(re.fullmatch(r"\d+" if word.isdigit() else re.escape(word), one) for one in there), (
                    f"{command.line}\nshows {word!r} in the page, and said\n{answer}"
                )


@contextmanager
def an_answer(values: dict[str, str]) -> Iterator[None]:
    """While it streams; notes which request it is, and which hub has it."""
    url = f"http://127.0.0.1:{values['hub']}"
    body = {"model": MODEL, "stream": True, "max_tokens": 100_000, "ignore_eos": True}
    body["messages"] = [{"role": "user", "content": "Tell me a story."}]
    is_over = threading.Event()
    begun = threading.Event()

    def listen() -> None:
        with httpx2.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60, trust_env=False) as answer:
            values["request"] = answer.headers["x-request-id"]
            for line in answer.iter_lines():
                if line.startswith("data:"):
                    begun.set()
                if is_over.is_set():
                    return

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        assert begun.wait(30)
        asked = f"{url}/v1/requests/{values['request']}"
        until(
            lambda: httpx2.get(asked, trust_env=False).json()["status"] == "streaming",  # told behind the first data
            10,
            lambda: httpx2.get(asked, trust_env=False).text,
        )
        hubs = subprocess.run(
            ["redis-cli", "-p", values["broker"], "--scan", "--pattern", "ghub:hub:*"],
            capture_output=True,
            text=True,
            check=True,
        )
        values["hub_id"] = hubs.stdout.split()[0].removeprefix("ghub:hub:")
        yield
    finally:
        is_over.set()
        listener.join(30)
        until(lambda: not listener.is_alive(), 1, "the listener did not end")
