"""How the blocks of README.md and of the quickstart are run: what is typed otherwise, and what must come."""

from dataclasses import dataclass, field

from tests.support.llamacpp import MODEL

SWAPS = {
    "127.0.0.1:8080": ("127.0.0.1:{hub}", "other stacks may run beside the test"),
    "127.0.0.1:8081": ("127.0.0.1:{provider}", "likewise"),
    "-p 6399": ("-p {broker}", "likewise"),
    "--host 0.0.0.0": (
        "--host 127.0.0.1",
        "nobody else shall reach a test; keys are asked for by variable",
    ),
    "HUB:8080": ("127.0.0.1:{hub}", "the reader's own address"),
    "ghubp-…": ("{token}", "what `ghub token create` printed"),
    "rediss://hub:password@broker:6379/0": ("{rediss}", "a Redis with TLS, started for it: the address is an example"),
    "--workers 4": ("--workers 2", "the machine that tests has two cores"),
    "service install --user": (
        "service print --user",
        "there is no service manager; test_service has a false one",
    ),
    "desk-7166962d": ("{hub_id}", "made anew at each start"),
    "2695771f2de94850b34b500284a80c43": ("{request}", "likewise"),
}
"""All that is not typed as it stands: what, what instead, and why. Each must be used."""

KEYS_ASKED = {"GHUB_HUB_AUTH": "required"}


@dataclass(frozen=True)
class Step:
    """How one block is run; it is known by its beginning."""

    begins: str
    says: str = ""
    """A pattern that what it prints must hold."""
    serves: str = ""
    """It runs for ever, and is ready when it has said this."""
    appears: str = ""
    """A node that is then to stand in the list, within seconds."""
    alone: bool = False
    """First Ctrl-C in every terminal."""
    tower: bool = False
    """On the second machine."""
    env: dict[str, str] = field(default_factory=dict)


UP = Step("pip install uv && uv run ghub up\n", serves="ready http://127.0.0.1:")
OPEN_UP = Step("uv run ghub up --host 0.0.0.0\n", serves="ready http://", alone=True, env=KEYS_ASKED)
JOIN = Step(
    "uv run ghub provider --hub-url http://HUB:8080 --token ghubp-…\n",
    serves="provider_started",
    appears="tower",
    tower=True,
)
STORIES = {
    "README.md": (
        UP,
        Step('echo "Tell me a story." | uv run ghub chat', says=r"\w+ \w+"),
        Step("curl -N http://127.0.0.1:8080/v1/chat/completions", says=r"data: \[DONE\]"),
        Step("from openai import OpenAI\n", says=r"\w+ \w+"),
        Step(
            "pip install uv && uv run pytest\n",
            says=r"\d+ passed",
            env={"PYTEST_ADDOPTS": "-n 0 tests/unit/test_wire.py"},  # all of it runs already
        ),
        OPEN_UP,
        Step("uv run ghub key create --name me ", says=r"(?m)^ghub-\S+$(.|\n)*--token ghubp-"),
        Step("uv run ghub provider --hub-url http://HUB:8080 --token ghubp-… --check\n", says="tower", tower=True),
        JOIN,
        Step("uv run ghub nodes\nuv run ghub nodes drain", says=r"tower(.|\n)*drain"),
        Step("uv run ghub pause ", says=r'"busy":true,"reasons":\["paused"\]', tower=True),
        Step("export GHUB_REDIS_URL=rediss://", serves="hub_started", alone=True),
        Step("provider: {name: tower"),
        Step("uv run ghub service install --user ", says=r"\[Service\]"),
        Step("$ redis-cli -p 6399 --scan", alone=True),
    ),
    "docs/quickstart.md": (
        UP,
        Step('echo "Say hello." | uv run ghub chat', says=r"\w+"),
        Step("curl http://127.0.0.1:8080/v1/models\n", says=MODEL),
        Step("curl http://127.0.0.1:8080/v1/chat/completions", says=r'"content":\s*"\S'),
        Step("curl http://127.0.0.1:8080/api/chat", says=r'"done":\s*true'),
        Step("uv run ghub nodes\nuv run ghub models", says=rf"desk(.|\n)*{MODEL}"),
        OPEN_UP,
        Step("KEY=$(uv run ghub key create", says=MODEL),
        Step("uv run ghub token create tower\n", says="--token ghubp-"),
        JOIN,
        Step("uv run ghub nodes\n", says="tower"),
        Step("uv run ghub nodes drain tower\n", says="draining"),
        Step("uv run ghub pause\n", tower=True),
    ),
}
