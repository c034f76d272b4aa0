"""A whole grid that works, refuses, joins, revokes and loses its broker: no secret is anywhere but where it must be."""

import base64
import json
import secrets as randomness
from collections.abc import Iterable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest
import redis

from tests.support.brokers import BrokerProcess
from tests.support.call import CHAT, Answer, Call
from tests.support.grid import Grid, chat
from tests.support.processes import until

CLUE = 12
"""So many characters of a secret in a row are too many."""
HUB_RULES = (
    "resetchannels ~ghub:* -@all +@read +@write +@connection -@dangerous -@admin +evalsha +script|load +time +info"
)


def new(head: str = "") -> str:
    return head + randomness.token_urlsafe(24)


class Secrets:
    """All that nobody may see, by what it is."""

    def __init__(self) -> None:
        self.admin, self.token, self.signing, self.direct = new(), new("ghubp-"), new(), new()
        self.broker, self.engine = new(), new()
        self.wrong_key, self.wrong_token, self.wrong_admin = new("ghub-"), new("ghubp-"), new()
        self.prompt = new("the prompt ")
        self.made: dict[str, str] = {}
        """What the grid itself made: keys, tokens, passwords."""

    def all(self) -> dict[str, str]:
        own = {name: value for name, value in vars(self).items() if isinstance(value, str)}
        return own | self.made


def leaks(places: Mapping[str, str], secrets: Mapping[str, str]) -> list[str]:
    """`secret in place` for each secret that stands in a place: plain, as a URL or base64 has it, or a good part."""
    found = []
    for name, secret in secrets.items():
        at = (len(secret) - CLUE) // 2
        forms = {secret[at : at + CLUE], quote(secret), *_in_base64(secret)}
        found += [f"{name} in {place}" for place, text in places.items() if any(form in text for form in forms)]
    return sorted(found)


def _in_base64(secret: str) -> list[str]:
    """The inner letters of a secret's base64 at each of the three places where it can begin."""
    coded = [base64.b64encode(b"x" * shift + secret.encode()).decode() for shift in range(3)]
    return [text[4:-4] for text in coded]


class Scene:
    """A grid with every kind of secret, and all that it ever said."""

    def __init__(self, folder: Path) -> None:
        self.secrets = Secrets()
        acl = folder / "users.acl"
        digest = sha256(self.secrets.broker.encode()).hexdigest()
        acl.write_text(f"user default on nopass ~* &* +@all\nuser hub on #{digest} {HUB_RULES} +acl +config|get\n")
        self.broker = BrokerProcess("valkey", folder, "--aclfile", str(acl), "--loglevel", "debug")
        self.grid = Grid(self.broker, folder, afresh=True)
        self.folder = folder
        self.answers: dict[str, str] = {}
        self.kept: dict[str, str] = {}
        self.commands: dict[str, str] = {}
        self.hub = ""

    def start(self) -> None:
        """Start an engine, a hub and a provider."""
        engine = self.grid.engine("tiny:1b", api_key=self.secrets.engine)
        self.hub = self.grid.hub(
            GHUB_REDIS_URL=f"redis://hub:{self.secrets.broker}@127.0.0.1:{self.broker.port}/0",
            GHUB_SIGNING_KEY=f"k1:{self.secrets.signing}",
            GHUB_HUB_DIRECT_KEYS=f"d1:{self.secrets.direct}",
            GHUB_HUB_ADMIN_TOKEN=self.secrets.admin,
            GHUB_HUB_PROVIDER_TOKENS=self.secrets.token,
            GHUB_HUB_AUTH="required",
            GHUB_HUB_MODEL_WAIT_S="0.2",
            GHUB_HUB_MAX_ATTEMPTS="1",
            GHUB_LOG_LEVEL="DEBUG",
        )
        self.join("first", self.secrets.token, engine.url)

    def join(self, name: str, token: str, engine_url: str, *, wait: bool = True, **env: str) -> None:
        """Start a provider that knows the hub, a token and an engine."""
        told = {
            "GHUB_REDIS_URL": "",
            "GHUB_SIGNING_KEY": "",
            "GHUB_PROVIDER_HUB_URL": self.hub,
            "GHUB_PROVIDER_TOKEN": token,
            "GHUB_PROVIDER_ENGINE__API_KEY": self.secrets.engine,
            "GHUB_LOG_LEVEL": "DEBUG",
        }
        self.grid.provider(engine_url, name, wait=wait, **{**told, **env})

    def ask(
        self, method: str, path: str, body: Any = None, *, shown: str = "", but: Iterable[str] = (), **headers: str
    ) -> Answer:
        """Call the hub and keep what it said; `but` names the fields that must tell a secret."""
        sent = {**({"authorization": f"Bearer {shown}"} if shown else {}), **headers}
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        answer = Call(self.hub, raw, path=path, method=method, headers=sent).finish()
        text = answer.text
        for field in but:
            self.secrets.made[f"{path} {field}"] = value = answer.json[field]
            text = text.replace(value, "")
            with suppress(ValueError):  # the line to paste tells it too
                text = json.dumps({key: said for key, said in json.loads(text).items() if key not in ("join", "env")})
        self.answers[f"answer {len(self.answers)} ({method} {path} {answer.status})"] = f"{answer.headers}\n{text}"
        return answer

    def look(self, when: str) -> None:
        """Keep what the broker and the list of processes hold now."""
        with self.grid.redis() as client:
            for key in client.scan_iter(count=1000):
                self.kept[f"key {key} {when}"] = f"{key} {_content(client, str(key))}"
        processes = [self.broker.process, *self.grid.hubs.values(), *self.grid.providers.values()]
        for process in processes:
            if process.is_running:
                self.commands[f"command line of {process.name}"] = " ".join(psutil.Process(process.pid).cmdline())

    def logs(self) -> dict[str, str]:
        return {f"log {path.name}": path.read_text(errors="replace") for path in self.folder.glob("*.log")}


def _content(client: redis.Redis, key: str) -> str:
    match client.type(key):
        case "hash":
            return repr(client.hgetall(key))
        case "stream":
            return repr(client.xrange(key))
        case "set":
            return repr(client.smembers(key))
        case "zset":
            return repr(client.zrange(key, 0, -1))
        case "string":
            return repr(client.get(key))
        case "none":  # it expired, or was taken out, since it was listed
            return ""
        case kind:
            raise AssertionError(f"a key of an unknown kind: {key} {kind}")


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_no_secret_is_anywhere_but_where_it_must_be(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    try:
        scene.start()
        _live(scene)
    finally:
        scene.grid.close()
        scene.broker.kill()
    secrets = scene.secrets.all()
    assert len(set(secrets.values())) == len(secrets) >= 13
    places = {**scene.answers, **scene.kept, **scene.commands, **scene.logs()}
    prompt = {"prompt": secrets.pop("prompt")}
    assert leaks(places, secrets) == []
    assert leaks({**scene.logs(), **scene.commands, **scene.answers}, prompt) == []

    # The search would have found them: each kind of place holds what it should hold, and a secret put there is found.
    assert leaks(scene.kept, prompt)  # a job that failed is kept with what the client sent
    for kind, expected in (
        ("answer", "tiny:1b"),
        ("key ghub:key:", sha256(scene.secrets.made["/api/keys key"].encode()).hexdigest()),
        ("key ghub:node:first", "tiny:1b"),
        ("key ghub:member:", "first"),
        ("command line of hub", "hub"),
        ("command line of provider first", "provider"),
        ("log hub", "request_ended"),
        ("log provider-first", "job_claimed"),
        ("log valkey", "Ready to accept connections"),
    ):
        assert any(name.startswith(kind) and expected in text for name, text in places.items()), (kind, expected)


def _live(scene: Scene) -> None:
    secrets = scene.secrets
    admin, body = secrets.admin, chat(secrets.prompt, tokens=3)
    key = scene.ask("POST", "/api/keys", {"name": "desk", "rpm": 1000}, shown=admin, but=["key"]).json["key"]
    token = scene.ask("POST", "/api/tokens", {"name": "next"}, shown=admin, but=["token"]).json["token"]
    until(lambda: scene.ask("POST", CHAT, body, shown=key).status == 200, 20, "the grid serves")
    scene.join("second", token, scene.grid.engines[0].url)
    scene.look("while all is well")

    for stream in (False, True):
        assert scene.ask("POST", CHAT, {**body, "stream": stream}, shown=key).status == 200
    scene.ask("POST", "/v1/completions", {"model": "tiny:1b", "prompt": secrets.prompt}, **{"x-api-key": key})
    for bad in (
        {**body, "model": "unknown:1b"},
        {**body, "messages": secrets.prompt},
        {**body, "double": {"error_body": "<html>no</html>", "status": 500}},
        {**body, "double": {"cut_after": 1}, "stream": True},
        json.dumps(body).encode()[:-5],
    ):
        scene.ask("POST", CHAT, bad, shown=key)
    for path in ("/v1/models", "/api/tags", "/v1/messages", "/api/registry", "/api/keys", "/api/provider/health"):
        for shown in ("", secrets.wrong_key, secrets.wrong_token, secrets.wrong_admin, key, token, admin):
            scene.ask("GET", path, shown=shown)
            scene.ask("POST", path, body, shown=shown)
    scene.ask("POST", "/v1/direct", {"model": "tiny:1b", "endpoint": CHAT, "body_sha256": "0" * 64}, shown=key)
    question = {"hmac": f"v1:d1:1:{'0' * 32}:{secrets.wrong_key}", "node": "first", "endpoint": CHAT}
    scene.ask("POST", "/api/provider/validate_hmac", {**question, "body_sha256": "0" * 64}, shown=token)
    _register(scene, token)
    for path in ("/api/hubs", "/api/nodes", "/api/nodes/first", "/api/requests", "/api/dead", "/api/queues"):
        scene.ask("GET", path, shown=admin)
    for path in ("/api/registry", "/api/keys", "/api/keys/desk", "/api/tokens", "/openapi.json", "/health"):
        scene.ask("GET", path, shown=admin)
    scene.join("stranger", secrets.wrong_token, scene.grid.engines[0].url, wait=False)
    assert scene.grid.providers["stranger"].wait(15) != 0
    scene.look("after all that was asked")

    assert scene.ask("DELETE", "/api/tokens/next", shown=admin).status < 300
    scene.broker.kill()
    until(lambda: scene.ask("POST", CHAT, body, shown=key).status == 503, 20, "the broker is missed")
    scene.ask("POST", CHAT, body, shown=secrets.wrong_key)
    scene.broker.start()
    until(lambda: scene.ask("POST", CHAT, body, shown=key).status == 200, 30, "the grid serves again")
    scene.look("after the broker was away")
    for process in (*scene.grid.providers.values(), *scene.grid.hubs.values()):
        process.stop()


def _register(scene: Scene, token: str) -> None:
    """Join as a provider does, so that a broker user's password is known here."""
    wish = {"name": "third", "models": ["tiny:1b"], "slots": 1, "engine": {"kind": "openai"}, "instance": "i"}
    assert scene.ask("POST", "/api/provider/register", wish, shown=scene.secrets.wrong_token).status == 401
    answer = Call(
        scene.hub,
        json.dumps(wish).encode(),
        path="/api/provider/register",
        headers={"authorization": f"Bearer {token}"},
    ).finish()
    assert answer.status == 200, answer.text
    scene.secrets.made["password of a node"] = answer.json["password"]
    assert scene.secrets.broker not in answer.text  # what it must tell are its own password and the signing keys
    scene.ask("POST", "/api/provider/register", {**wish, "instance": "another"}, shown=scene.secrets.token)


@pytest.mark.parametrize("said", ["{}", "Bearer {}", "redis://hub:{}@127.0.0.1", "a {} b"])
def test_the_search_finds_a_secret_that_is_there(said: str) -> None:
    secret = new("ghub-")
    assert leaks({"a log": said.format(secret), "another": said}, {"key": secret}) == ["key in a log"]


def test_the_search_finds_a_secret_in_disguise() -> None:
    secret = new()
    for hidden in (
        base64.b64encode(f"Basic hub:{secret}".encode()).decode(),
        base64.b64encode(f"hub:{secret}!".encode()).decode(),
        base64.b64encode(f"{secret}@".encode()).decode(),
        f"…{secret[5:-5]}…",
        quote(secret),
    ):
        assert leaks({"a log": hidden}, {"key": secret}) == ["key in a log"], hidden
    assert leaks({"a log": new()}, {"key": secret}) == []
