"""What providers ask of hubs: who may ask, HMACs of direct calls that are good once, and a broker that is away."""

import hashlib
import json
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from common.direct import DirectCall, sign_direct
from common.signing import SigningKeys
from tests.support.call import Answer, get, post
from tests.support.grid import Grid
from tests.support.processes import PROJECT, Process, python, until

TOKEN, OTHER_TOKEN = "token-0123456789abcdef", "other-0123456789abcdef"
DIRECT_KEY = "alice:direct-0123456789"
KEYS = SigningKeys.parse(SecretStr(DIRECT_KEY))
REPORT_PATH, HMAC_PATH = "/api/provider/health", "/api/provider/validate_hmac"
LIMIT_BYTES = 20_000
ENV = {
    "GHUB_HEARTBEAT_S": "0.3",
    "GHUB_HUB_PROVIDER_TOKENS": f"{TOKEN},{OTHER_TOKEN}",
    "GHUB_HUB_DIRECT_KEYS": f"{DIRECT_KEY},bob:another-secret-of-it",
    "GHUB_HUB_MAX_REPORT_BYTES": str(LIMIT_BYTES),
}
BODY = b'{"model": "tiny:1b", "prompt": "hi"}'
CALL = DirectCall("gpu-1", "/v1/completions", hashlib.sha256(BODY).hexdigest())


@pytest.fixture(scope="module")
def hubs(module_grid: Grid) -> list[str]:
    """Two hubs of one grid."""
    return [module_grid.hub(**ENV) for _ in range(2)]


@pytest.fixture
def hub(hubs: list[str]) -> str:
    return hubs[0]


def documented_hmac(node: str, endpoint: str, body: bytes) -> str:
    """What the function that docs/api.md shows to callers makes of a call."""
    text = (PROJECT / "docs" / "api.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    return str(names["direct_hmac"](DIRECT_KEY, node, endpoint, body))


def report(node: str = "gpu-1", /, **fields: Any) -> dict[str, Any]:
    return {
        "node": node,
        "version": "0.1.0",
        "state": "paused",
        "reasons": ["gpu-busy"],
        "gpu_count": 1,
        "gpus": [{"name": "H100", "memory_used_mib": 5, "memory_total_mib": 80_000, "utilization_pct": 85}],
        "models": [{"id": "tiny:1b", "size_bytes": 1000, "digest": "sha256:0", "loaded": True}],
        "engine": {"kind": "ollama", "version": "1", "url": "http://127.0.0.1:11434"},
        "public_url": "https://node.example.org",
        "slots": 4,
        "running": 0,
        "in_grid": True,
        **fields,
    }


def send(hub: str, path: str, body: Any, token: str = TOKEN) -> Answer:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return post(hub, sent, path=path, headers={"authorization": f"Bearer {token}"} if token else {})


def question(hmac: str, call: DirectCall = CALL) -> dict[str, str]:
    return {"hmac": hmac, "node": call.node, "endpoint": call.endpoint, "body_sha256": call.body_sha256}


def fresh(call: DirectCall = CALL, age_s: int = 0, keys: SigningKeys = KEYS) -> str:
    return sign_direct(keys, call, int(time.time()) - age_s)


def verdict(hub: str, hmac: str, call: DirectCall = CALL) -> str:
    """`valid`, or the code of the refusal."""
    answer = send(hub, HMAC_PATH, question(hmac, call))
    if answer.status == 200:
        assert answer.json == {"valid": True}
        return "valid"
    assert (answer.status, answer.json["valid"]) == (401, False)
    assert answer.json["message"]
    assert "direct-0123456789" not in answer.text
    return str(answer.json["code"])


class TestTokens:
    @pytest.mark.parametrize("token", [TOKEN, OTHER_TOKEN])
    def test_each_of_the_tokens_is_believed(self, hub: str, token: str) -> None:
        assert send(hub, REPORT_PATH, report(), token).status == 204
        assert send(hub, HMAC_PATH, question(fresh()), token).json == {"valid": True}

    @pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], f"{TOKEN},{OTHER_TOKEN}", "\xe9" * 20])
    def test_who_has_none_of_them_is_refused_before_its_body_is_read(self, hub: str, token: str) -> None:
        answer = send(hub, REPORT_PATH, b"x" * (LIMIT_BYTES + 1), token)
        assert (answer.status, answer.error["code"]) == (401, "invalid_token")
        assert answer.headers["www-authenticate"] == "Bearer"
        answer = send(hub, HMAC_PATH, b"nonsense", token)
        assert (answer.status, answer.json["valid"], answer.json["code"]) == (401, False, "invalid_token")
        assert answer.headers["www-authenticate"] == "Bearer"

    def test_a_refused_question_uses_up_no_nonce(self, hub: str) -> None:
        hmac = fresh()
        assert send(hub, HMAC_PATH, question(hmac), "wrong").status == 401
        assert verdict(hub, hmac) == "valid"

    @pytest.mark.parametrize(
        ("variable", "setting"),
        [
            ("GHUB_HUB_PROVIDER_TOKENS", f"{TOKEN},hidden"),
            ("GHUB_HUB_DIRECT_KEYS", "alice:hidden"),
        ],
    )
    def test_a_hub_with_a_weak_secret_does_not_start(self, tmp_path: Path, variable: str, setting: str) -> None:
        env = {"GHUB_HUB_PORT": "0", "GHUB_REDIS_URL": "redis://127.0.0.1:1", variable: setting}
        process = Process("hub", python("-m", "hub"), tmp_path / "hub.log", env)
        try:
            assert process.wait(20) == 2
        finally:
            process.kill()
        told = process.tail().splitlines()[-1]
        assert told.startswith(f"ghub hub: {variable}: ")
        assert "hidden" not in process.tail()


class TestHmacs:
    def test_one_made_as_the_documentation_shows_is_good_once(self, hub: str) -> None:
        hmac = documented_hmac(CALL.node, CALL.endpoint, BODY)
        assert [verdict(hub, hmac), verdict(hub, hmac)] == ["valid", "replayed"]
        assert verdict(hub, documented_hmac(CALL.node, CALL.endpoint, BODY)) == "valid"

    def test_one_that_was_used_at_a_hub_is_a_replay_at_any_other(self, hubs: list[str]) -> None:
        hmac = fresh()
        assert [verdict(hub, hmac) for hub in hubs] == ["valid", "replayed"]

    def test_any_of_the_direct_keys_will_do(self, hub: str) -> None:
        assert verdict(hub, fresh(keys=SigningKeys.parse(SecretStr("bob:another-secret-of-it")))) == "valid"

    @pytest.mark.parametrize(
        ("hmac", "code"),
        [
            (lambda: "", "malformed"),
            (lambda: "x" * 5000, "malformed"),
            (lambda: fresh().upper(), "malformed"),
            (lambda: fresh(keys=SigningKeys.parse(SecretStr("eve:direct-0123456789"))), "unknown_key"),
            (lambda: fresh(keys=SigningKeys.parse(SecretStr("alice:another-0123456789"))), "wrong"),
            (lambda: fresh(DirectCall("gpu-2", CALL.endpoint, CALL.body_sha256)), "wrong"),
            (lambda: fresh(age_s=320), "expired"),
            (lambda: fresh(age_s=-60), "expired"),
        ],
    )
    def test_what_is_not_good_is_refused_with_its_reason(self, hub: str, hmac: Callable[[], str], code: str) -> None:
        assert verdict(hub, hmac()) == code

    def test_an_attempt_for_another_call_uses_up_no_nonce(self, hub: str) -> None:
        hmac = fresh()
        assert verdict(hub, hmac, DirectCall("gpu-2", CALL.endpoint, CALL.body_sha256)) == "wrong"
        assert verdict(hub, hmac) == "valid"

    @pytest.mark.parametrize(
        ("wrong", "param"),
        [
            ({"hmac": 5}, "hmac"),
            ({"node": ""}, "node"),
            ({"endpoint": ""}, "endpoint"),
            ({"endpoint": "/" * 1025}, "endpoint"),
            ({"body_sha256": "0"}, "body_sha256"),
            ({"body_sha256": "G" * 64}, "body_sha256"),
        ],
    )
    def test_a_wrong_field_of_the_question_is_named(self, hub: str, wrong: dict[str, Any], param: str) -> None:
        answer = send(hub, HMAC_PATH, {**question(fresh()), **wrong})
        assert (answer.status, answer.error["param"]) == (400, param)

    def test_a_question_without_end_is_refused(self, hub: str) -> None:
        assert send(hub, HMAC_PATH, question("x" * 20_000)).status == 413


def test_a_hub_without_tokens_and_keys_says_what_to_set(module_grid: Grid) -> None:
    hub = module_grid.hub()
    refused = send(hub, REPORT_PATH, report())
    assert (refused.status, refused.error["code"]) == (401, "provider_tokens_not_set")
    assert "GHUB_HUB_PROVIDER_TOKENS" in refused.error["message"]
    assert verdict(hub, fresh()) == "provider_tokens_not_set"
    only_tokens = module_grid.hub(GHUB_HUB_PROVIDER_TOKENS=TOKEN)
    answer = send(only_tokens, HMAC_PATH, question(fresh()))
    assert (answer.status, answer.json["code"]) == (401, "direct_keys_not_set")
    assert "GHUB_HUB_DIRECT_KEYS" in answer.json["message"]


def test_without_the_broker_nothing_is_believed_and_nothing_is_lost(mortal_grid: Grid) -> None:
    hub = mortal_grid.hub(**ENV)
    mortal_grid.broker.kill()
    for path, body in ((REPORT_PATH, report()), (HMAC_PATH, question(fresh()))):
        answer = send(hub, path, body)
        assert (answer.status, answer.error["code"]) == (503, "broker_unavailable")
        assert answer.headers["retry-after"]
    assert verdict(hub, "nonsense") == "malformed"  # what needs no broker is still told
    mortal_grid.broker.start()
    until(lambda: send(hub, REPORT_PATH, report()).status == 204, 10, mortal_grid.hubs[hub].tail)
    assert verdict(hub, fresh()) == "valid"


def test_a_broker_that_hangs_is_waited_for_no_longer_than_a_command_may_take(mortal_grid: Grid) -> None:
    hub = mortal_grid.hub(**ENV)
    mortal_grid.broker.process.signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        answer = send(hub, HMAC_PATH, question(fresh()))
        took_s = time.monotonic() - began
    finally:
        mortal_grid.broker.process.signal(signal.SIGCONT)
    assert (answer.status, answer.error["code"]) == (503, "broker_unavailable")
    assert took_s < 7


def test_the_description_of_the_api_refers_to_nothing_that_is_not_there(hub: str) -> None:
    described = get(hub, "/openapi.json").json
    assert {REPORT_PATH, HMAC_PATH} <= set(described["paths"])
    for reference in re.findall(r'"\$ref":\s*"#/([^"]+)"', json.dumps(described)):
        place = described
        for step in reference.split("/"):
            place = place[step.replace("~1", "/").replace("~0", "~")]
