"""The acceptance suite on each kind of broker: all that clients see is the same on all of them."""

import sys
from pathlib import Path
from subprocess import run

import pytest

from tests.support.broker_kinds import BROKER_KINDS
from tests.support.openai_schema import VARIABLE
from tests.support.processes import PROJECT

OTHERS = [kind for kind in BROKER_KINDS if kind not in ("valkey", "redis")]
"""The suite itself runs on Valkey, and the broker with TLS is a Redis."""
SUITE = (
    "test_openai_sdk.py",
    "test_openai_apis.py",
    "test_anthropic_sdk.py",
    "test_ollama_client.py",
    "test_langchain.py",
)
"""What needs a broker of its own choice; README's commands start their own."""
WITHIN_S = 300

pytestmark = [pytest.mark.slow, pytest.mark.timeout(WITHIN_S + 20)]


@pytest.mark.parametrize("kind", OTHERS)
def test_clients_are_served_alike(kind: str, tmp_path: Path) -> None:
    files = [str(Path(__file__).with_name(name)) for name in SUITE]
    options = ["-q", "-n", "0", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'runs'}", "--broker", kind]
    argv = [sys.executable, "-m", "pytest", *options, *files]
    done = run(argv, cwd=PROJECT, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    skipped = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED")]
    assert [line for line in skipped if VARIABLE not in line] == []  # OpenAI's schema is not part of this project
