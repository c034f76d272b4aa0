"""A registered provider's credential as an attacker would use it, and as a provider does, on every kind of broker."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from common.broker.acl import MAX_MODELS, nameable, provider_rules
from common.broker.broker import connect
from common.broker.users import BrokerUsers
from common.errors import BrokerRefused, RulesError
from common.keys import Keys
from common.types import Lane, ModelId, NodeId
from docs.security_table import BEGIN, PAGE, with_table
from tests.contract import acl_cases as cases
from tests.contract.acl_cases import KEYS, LANE, MODEL, NODE, allows, make_user
from tests.contract.conftest import Servers
from tests.support.brokers import KINDS, BrokerProcess

HARD_NAMES = [
    "*",
    "m?",
    "[a-z]",
    "[^x]",
    "a\\b",
    "^",
    "{x}",
    "org/model:70b-instruct.q4_K",
    "modèle-✓",
    "-@all",
    "#~%&>@",
]
UNNAMEABLE = ["a b", "a\tb", "a\nb", "a\0b", 'a"b', "a'b", "a(b", "a)", "a\N{NO-BREAK SPACE}b", "a\x7fb"]


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, servers: Servers) -> BrokerProcess:
    return servers.of(request.param)


@pytest.fixture
def admin(server: BrokerProcess) -> Iterator[redis.Redis]:
    """Who may do all. When a test ends, the users it made are gone."""
    with server.client() as client:
        yield client
        for user in client.acl_users():
            if user != "default":
                client.acl_deluser(user)


@pytest.fixture
def grid(admin: redis.Redis) -> redis.Redis:
    """The keys of a grid that has worked, with a job that waits in each of two lanes and a user for alice."""
    for script in cases.SCRIPTS:
        admin.script_load(cases.script_text(script))
    for lane in (LANE, cases.FOREIGN_LANE, cases.RETRY, cases.OWN_LANE, cases.FOREIGN_OWN_LANE):
        admin.xgroup_create(lane, "providers", "0", mkstream=True)
        admin.xadd(lane, {"v": "1"}, id="1-1")
    for stream in (cases.REPLY, KEYS.doorbell(cases.HUB), KEYS.control(NODE), KEYS.control(NodeId("bob")), KEYS.dead):
        admin.xadd(stream, {"open": "1"}, id="0-1")
    for node in (NODE, cases.FOREIGN):
        admin.hset(KEYS.node(node), "state", "busy")
    admin.zadd(cases.INDEX, {"r": 1})
    admin.sadd(KEYS.lanes, "interactive:tiny:1b")
    make_user(admin, MODEL)
    return admin


def as_user(server: BrokerProcess, user: str = f"{KEYS.prefix}provider:{NODE}") -> redis.Redis:
    once = Retry(NoBackoff(), 0)
    return redis.Redis(
        port=server.port, username=user, password=cases.PASSWORD, decode_responses=True, protocol=2, retry=once
    )


def answer_to(client: redis.Redis, command: list[str]) -> str:
    """What the broker says, errors too."""
    try:
        return str(client.execute_command(*command))
    except redis.RedisError as exc:
        return f"{type(exc).__name__}: {exc}"


def is_refusal(answer: str) -> bool:
    if "enable-debug-command" in answer or "enable-module-command" in answer:
        return True  # servers that have locked these for everyone look no further
    return answer.startswith("NoPermissionError") or "ACL failure" in answer or "The user executing" in answer


def everything(admin: redis.Redis) -> dict[str, object]:
    """All that an attacker could have changed."""
    with redis.Redis(port=admin.connection_pool.connection_kwargs["port"], protocol=2) as raw:
        keys = {key.decode(): raw.dump(key) for key in raw.keys("*")}
    return {**keys, "users": admin.acl_list(), "maxmemory": admin.config_get("maxmemory")}


# what an attacker would try


def test_every_command_outside_its_job_is_refused_and_changes_nothing(server: BrokerProcess, grid: redis.Redis) -> None:
    before = everything(grid)
    with as_user(server) as attacker:
        answers = {
            f"{case.what}: {' '.join(case.command)}": answer_to(attacker, case.arguments) for case in cases.MAY_NOT
        }
    assert {tried: answer for tried, answer in answers.items() if not is_refusal(answer)} == {}
    assert everything(grid) == before


@pytest.mark.parametrize("script", ["publish_job", "requeue_job", "move_job"])
def test_a_hub_s_script_publishes_nothing_even_with_keys_that_it_may_name(
    server: BrokerProcess, grid: redis.Redis, script: str
) -> None:
    """EVALSHA is allowed on its own lanes and their indexes; what the script does there is refused all the same."""
    keys = {
        "publish_job": [LANE, cases.INDEX, cases.RETRY_INDEX, LANE],
        "move_job": [LANE, cases.RETRY, cases.RETRY_INDEX, cases.INDEX],
        "requeue_job": [LANE, cases.RETRY, cases.RETRY_INDEX, cases.RETRY_INDEX, cases.INDEX],
    }[script]
    given = {
        "publish_job": ["providers", "9", "r9", "1000", "interactive:tiny:1b", "0", "v", "1"],
        "move_job": ["providers", "1-1", "r9", "1000", "interactive:tiny:1b"],
        "requeue_job": ["providers", "1-1", "r9", "1000", "retry:tiny:1b", "v", "1"],
    }[script]
    with as_user(server) as attacker:
        command = ["EVALSHA", cases.digest_of(script), str(len(keys)), *keys, *given]
        assert is_refusal(answer_to(attacker, command))
    for lane in (LANE, cases.RETRY):
        assert {entry for entry, _ in grid.xrange(lane)} <= {"1-1"}


def test_a_model_s_name_is_never_taken_for_a_pattern(admin: redis.Redis) -> None:
    for name in HARD_NAMES:
        user = make_user(admin, name)
        assert allows(admin, user, "XACK", KEYS.lane(Lane.RETRY, ModelId(name)), "providers", "1-1"), name
        for other in {MODEL, "m1", "a", "x", "ab", f"x:{name}", f"{name}:x", *HARD_NAMES} - {name}:
            lane = KEYS.lane(Lane.RETRY, ModelId(other))
            assert not allows(admin, user, "XACK", lane, "providers", "1-1"), (name, other)


def test_a_prefix_is_never_taken_for_a_pattern(admin: redis.Redis) -> None:
    rules = provider_rules(Keys("g*:"), NODE, [MODEL])
    admin.execute_command("ACL", "SETUSER", "wild", "reset", "on", *rules)
    for prefix, expected in {"g*:": True, "ghub:": False, "g:": False}.items():
        keys = Keys(prefix)
        assert allows(admin, "wild", "HGETALL", keys.node(NODE)) is expected
        assert allows(admin, "wild", "XACK", keys.lane(Lane.RETRY, MODEL), "providers", "1-1") is expected
        assert allows(admin, "wild", "EXISTS", cases.REPLY.replace("ghub:", prefix)) is expected


def test_names_that_no_rule_can_hold_are_left_out() -> None:
    models = [ModelId(name) for name in [*UNNAMEABLE, MODEL, *HARD_NAMES, MODEL]]
    assert nameable(models) == (MODEL, *HARD_NAMES)
    for name in UNNAMEABLE:
        with pytest.raises(RulesError):
            provider_rules(KEYS, NODE, [ModelId(name)])
    with pytest.raises(RulesError):
        provider_rules(Keys("a(b:"), NODE, [MODEL])


@pytest.mark.parametrize("kind", KINDS)
def test_rules_that_the_server_saved_and_read_again_allow_the_same(kind: str, tmp_path: Path) -> None:
    """A file is parsed in another way than a command: a name that ends a rule early would allow more from then on."""
    (tmp_path / "users.acl").touch()
    broker = BrokerProcess(kind, tmp_path, "--aclfile", str(tmp_path / "users.acl"))
    try:
        with broker.client() as admin:
            user = make_user(admin, MODEL, *HARD_NAMES)
            before = admin.acl_getuser(user)
            admin.execute_command("ACL", "SAVE")
            admin.execute_command("ACL", "LOAD")
            assert admin.acl_getuser(user) == before
    finally:
        broker.stop()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_broker_that_knows_no_users_is_told_with_the_setting_that_helps(kind: str, tmp_path: Path) -> None:
    broker = BrokerProcess(kind, tmp_path, "--rename-command", "ACL", "")
    hub = connect(broker.url, prefix="ghub:", client_name="hub")
    try:
        with pytest.raises(BrokerRefused, match="GHUB_HUB_ACL=print"):
            await BrokerUsers(hub).set_user(NODE, [MODEL], [])
    finally:
        await hub.aclose()
        broker.stop()


# what a provider needs


def test_every_command_of_its_job_is_answered(server: BrokerProcess, grid: redis.Redis) -> None:
    del grid
    with as_user(server) as provider:
        answers = {f"{case.what} {case.command}": answer_to(provider, case.arguments) for case in cases.MAY}
    assert {tried: answer for tried, answer in answers.items() if "Error" in answer} == {}


def test_a_node_of_500_models_claims_over_all_its_lanes(server: BrokerProcess, admin: redis.Redis) -> None:
    models = [f"some-model-of-many-{number}:7b-instruct-q4_K_M" for number in range(500)]
    lanes = [KEYS.lane(lane, ModelId(model)) for lane in Lane for model in models]
    pipe = admin.pipeline(transaction=False)
    for lane in lanes:
        pipe.xgroup_create(lane, "providers", "0", mkstream=True)
    pipe.execute()
    admin.xadd(lanes[-1], {"v": "1"}, id="1-1")
    admin.script_load(cases.script_text("claim_jobs"))
    began_at = time.monotonic()
    make_user(admin, *models)
    with as_user(server) as provider:
        command = ["EVALSHA", cases.digest_of("claim_jobs"), str(len(lanes)), *lanes, "providers", NODE, "1"]
        assert provider.execute_command(*command) == [lanes[-1], [["1-1", ["v", "1"]]]]
    assert time.monotonic() - began_at < 5, "the broker does nothing else meanwhile"


def test_more_models_than_a_broker_can_bear_are_left_out() -> None:
    models = [ModelId(f"m{number}") for number in range(MAX_MODELS + 5)]
    assert nameable(models) == tuple(models[:MAX_MODELS])


def test_a_node_without_models_may_take_no_job(admin: redis.Redis) -> None:
    user = make_user(admin)
    assert not allows(admin, user, "XACK", LANE, "providers", "1-1")
    assert allows(admin, user, "HSET", KEYS.node(NODE), "state", "idle")


def test_a_grid_in_another_database_can_be_reached(admin: redis.Redis) -> None:
    rules = provider_rules(KEYS, NODE, [MODEL], database=3)
    admin.execute_command("ACL", "SETUSER", "elsewhere", "reset", "on", *rules)
    assert allows(admin, "elsewhere", "SELECT", "3")


# the table in the documents


def test_the_table_in_the_documents_is_what_the_broker_says(admin: redis.Redis) -> None:
    page = PAGE.read_text()
    assert BEGIN in page
    assert with_table(page, cases.table(admin)) == page, "run: uv run python -m docs.security_table"
    assert [case.what for case in cases.MAY_NOT if f"| {case.what} |" not in page] == []
