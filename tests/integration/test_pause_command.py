"""`ghub pause` and `ghub resume`, as the owner types them."""

import os
import subprocess
from collections.abc import Callable

from tests.support.pair import Pair
from tests.support.processes import python, run_to_end, until


def ghub(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return run_to_end(python("-m", "ghub", *words), {**os.environ, "GHUB_PROVIDER_CONFIG": "", **env})


def test_the_owner_s_word_pauses_and_resumes_the_machine(make_pair: Callable[..., Pair]) -> None:
    pair = make_pair()
    port = pair.grid.provider_urls[pair.first_node].rpartition(":")[2]
    paused = ghub("pause", GHUB_PROVIDER_SERVER__PORT=port)
    assert (paused.returncode, paused.stdout) == (0, "the provider takes no work: paused\n")
    until(lambda: pair.reasons() == ["paused"], 5, pair.reasons)
    resumed = ghub("resume", GHUB_PROVIDER_SERVER__PORT=port)
    assert (resumed.returncode, resumed.stdout) == (0, "the provider takes work\n")
    until(lambda: pair.reasons() == [], 5, pair.reasons)


def test_the_control_token_is_taken_from_the_settings(make_pair: Callable[..., Pair]) -> None:
    token = {"GHUB_PROVIDER_SERVER__CONTROL_TOKEN": "a-control-token-of-the-tests"}
    pair = make_pair(**token)
    url = pair.grid.provider_urls[pair.first_node]
    assert ghub("pause", "--url", url).returncode == 1
    assert ghub("pause", "--url", url, **token).returncode == 0


def test_a_provider_that_is_not_there_is_told_in_one_line() -> None:
    told = ghub("pause", "--url", "http://127.0.0.1:9")
    assert told.returncode == 1
    assert told.stderr.startswith("ghub: no provider answers at http://127.0.0.1:9")
    assert told.stderr.count("\n") == 1
