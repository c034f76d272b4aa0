"""What a registered provider's broker user may do and may not, as commands; docs/security.md shows them as a table."""

import hashlib
from typing import NamedTuple

import redis

from common.broker.acl import provider_rules, user_name
from common.broker.scripts import Script
from common.keys import Keys
from common.types import HubId, Lane, ModelId, NodeId, RequestId

KEYS = Keys()
NODE, FOREIGN = NodeId("alice"), NodeId("bob")
MODEL, FOREIGN_MODEL = ModelId("tiny:1b"), ModelId("other:1b")
PASSWORD = "the-password-of-alice"
SCRIPTS = ("claim_jobs", "settle_job", "publish_job", "requeue_job", "withdraw_job", "move_job")
"""Those that hubs and providers of the lanes run; the broker knows them all once a grid has worked on it."""
LANE, FOREIGN_LANE = KEYS.lane(Lane.INTERACTIVE, MODEL), KEYS.lane(Lane.INTERACTIVE, FOREIGN_MODEL)
NAMESAKE_LANE = KEYS.lane(Lane.INTERACTIVE, ModelId(f"x:{MODEL}"))
RETRY = KEYS.lane(Lane.RETRY, MODEL)
OWN_LANE, FOREIGN_OWN_LANE = (KEYS.lane(Lane.INTERACTIVE, ModelId(""), node) for node in (NODE, FOREIGN))
INDEX, RETRY_INDEX = KEYS.waiting(Lane.INTERACTIVE, MODEL), KEYS.waiting(Lane.RETRY, MODEL)
HUB = HubId("hub-1")
REPLY = KEYS.reply(HUB, RequestId("0" * 32))


class Case(NamedTuple):
    """One thing to try; an argument `@name` stands for that script's digest."""

    what: str
    command: tuple[str, ...]

    @property
    def arguments(self) -> list[str]:
        """What is sent."""
        return [digest_of(one[1:]) if one.startswith("@") else one for one in self.command]


def digest_of(script: str) -> str:
    """What EVALSHA calls a script."""
    return hashlib.sha1(script_text(script).encode(), usedforsecurity=False).hexdigest()


def script_text(script: str) -> str:
    """A script's source."""
    return Script(script).text


def _case(what: str, *command: str) -> Case:
    return Case(what, command)


_GROUP = ("GROUP", "providers")
MAY = [
    _case("take jobs of its models", "XREADGROUP", *_GROUP, NODE, "COUNT", "1", "STREAMS", LANE, ">"),
    _case("take them by the hubs' script", "EVALSHA", "@claim_jobs", "1", LANE, "providers", NODE, "1"),
    _case("take jobs set aside for it", "XREADGROUP", *_GROUP, NODE, "STREAMS", OWN_LANE, ">"),
    _case("… together with others", "EVALSHA", "@claim_jobs", "2", OWN_LANE, LANE, "providers", NODE, "1"),
    _case("settle one of these", "EVALSHA", "@settle_job", "2", OWN_LANE, INDEX, "providers", "1-1", "r"),
    _case("read again what it took", "XREADGROUP", *_GROUP, NODE, "STREAMS", LANE, "0"),
    _case("… and what others took of its models", "XREADGROUP", *_GROUP, FOREIGN, "STREAMS", LANE, "0"),
    _case("settle a job", "EVALSHA", "@settle_job", "2", LANE, INDEX, "providers", "1-1", "r"),
    _case("acknowledge any job of its models", "XACK", LANE, "providers", "1-1"),
    _case("delete any job of its models", "XDEL", LANE, "1-1"),
    _case("take a request off the queue's index", "ZREM", INDEX, "r"),
    _case("answer a request whose id it knows", "XADD", REPLY, "NOMKSTREAM", "9-0", "data", "x"),
    _case("read that answer", "XRANGE", REPLY, "-", "+"),
    _case("… from its end", "XREVRANGE", REPLY, "+", "-", "COUNT", "1"),
    _case("see whether it is still wanted", "EXISTS", REPLY),
    _case("ring a hub's doorbell", "XADD", KEYS.doorbell(HUB), "NOMKSTREAM", "*", "ids", "r"),
    _case("write to the dead letters", "XADD", KEYS.dead, "*", "reason", "x"),
    _case("tell that a node has changed", "XADD", KEYS.changes, "*", "node", NODE),
    _case("write its own node", "HSET", KEYS.node(NODE), "state", "idle"),
    _case("read its own node", "HGETALL", KEYS.node(NODE)),
    _case("renew its own node", "PEXPIRE", KEYS.node(NODE), "6000"),
    _case("take its own node out", "DEL", KEYS.node(NODE)),
    _case("read its own orders", "XREAD", "STREAMS", KEYS.control(NODE), "0"),
    _case("find its last order", "XREVRANGE", KEYS.control(NODE), "+", "-", "COUNT", "1"),
    _case("ask the time", "TIME"),
    _case("ask whether the broker is there", "PING"),
    _case("name its connection", "CLIENT", "SETNAME", "x"),
]

MAY_NOT = [
    _case("publish a job for its own model", "XADD", LANE, "*", "v", "1"),
    _case("publish a job for another model", "XADD", FOREIGN_LANE, "*", "v", "1"),
    _case(
        "publish by the hubs' script",
        *("EVALSHA", "@publish_job", "4", LANE, INDEX, KEYS.lanes, LANE),
        *("providers", "9", "r", "1000", "interactive:tiny:1b", "0", "v", "1"),
    ),
    _case(
        "requeue by the hubs' script",
        *("EVALSHA", "@requeue_job", "5", LANE, RETRY, RETRY_INDEX, KEYS.lanes, INDEX),
        *("providers", "1-1", "r", "1000", "retry:tiny:1b", "v", "1"),
    ),
    _case("set a job aside for itself", "XADD", OWN_LANE, "*", "v", "1"),
    _case("set a job aside for another node", "XADD", FOREIGN_OWN_LANE, "*", "v", "1"),
    _case(
        "move a job by the hubs' script",
        *("EVALSHA", "@move_job", "4", OWN_LANE, LANE, INDEX, KEYS.lanes),
        *("providers", "1-1", "r", "1000", "interactive:tiny:1b"),
    ),
    _case("take jobs set aside for another node", "XREADGROUP", *_GROUP, NODE, "STREAMS", FOREIGN_OWN_LANE, ">"),
    _case("… by the hubs' script", "EVALSHA", "@claim_jobs", "1", FOREIGN_OWN_LANE, "providers", NODE, "1"),
    _case("… or drop them", "XDEL", FOREIGN_OWN_LANE, "1-1"),
    _case("take jobs of another model", "XREADGROUP", *_GROUP, NODE, "STREAMS", FOREIGN_LANE, ">"),
    _case("… by the hubs' script", "EVALSHA", "@claim_jobs", "1", FOREIGN_LANE, "providers", NODE, "1"),
    _case("… together with its own", "EVALSHA", "@claim_jobs", "2", LANE, FOREIGN_LANE, "providers", NODE, "9"),
    _case("take jobs of a model called x:tiny:1b", "XREADGROUP", *_GROUP, NODE, "STREAMS", NAMESAKE_LANE, ">"),
    _case("read another model's lane", "XRANGE", FOREIGN_LANE, "-", "+"),
    _case("… as a stream", "XREAD", "STREAMS", FOREIGN_LANE, "0"),
    _case("drop another model's jobs", "XDEL", FOREIGN_LANE, "1-1"),
    _case("read its own lane without taking", "XRANGE", LANE, "-", "+"),
    _case("… as a stream", "XREAD", "STREAMS", LANE, "0"),
    _case("count its own lane", "XLEN", LANE),
    _case("see who works on what", "XPENDING", LANE, "providers"),
    _case("take over others' jobs", "XAUTOCLAIM", LANE, "providers", NODE, "0", "0"),
    _case("… one by one", "XCLAIM", LANE, "providers", NODE, "0", "1-1"),
    _case("delete a lane", "DEL", LANE),
    _case("… later", "PEXPIRE", LANE, "1"),
    _case("… in the background", "UNLINK", LANE),
    _case("trim a lane", "XTRIM", LANE, "MAXLEN", "0"),
    _case("make a group", "XGROUP", "CREATE", LANE, "mine", "0"),
    _case("drop the group", "XGROUP", "DESTROY", LANE, "providers"),
    _case("look into a lane", "XINFO", "STREAM", LANE),
    _case("rename a lane", "RENAME", LANE, RETRY),
    _case("copy a lane", "COPY", LANE, REPLY),
    _case("copy by sorting", "SORT", INDEX, "STORE", KEYS.node(NODE)),
    _case("add to the queue's index", "ZADD", INDEX, "1", "r"),
    _case("read the queue's index", "ZRANGE", INDEX, "0", "-1"),
    _case("dump a reply", "DUMP", REPLY),
    _case("restore a key", "RESTORE", KEYS.node(NODE), "0", "x"),
    _case("move keys to another server", "MIGRATE", "192.0.2.1", "6379", LANE, "0", "10"),
    _case("take keys apart", "OBJECT", "ENCODING", LANE),
    _case("delete a reply", "DEL", REPLY),
    _case("follow a reply", "XREAD", "STREAMS", REPLY, "0"),
    _case("hear a hub's doorbell", "XREAD", "STREAMS", KEYS.doorbell(HUB), "0"),
    _case("hear which nodes have changed", "XREAD", "STREAMS", KEYS.changes, "0"),
    _case("forget what was told of changes", "DEL", KEYS.changes),
    _case("read the dead letters", "XRANGE", KEYS.dead, "-", "+"),
    _case("read a request", "HGETALL", KEYS.request(RequestId("0" * 32))),
    _case("read another node", "HGETALL", KEYS.node(FOREIGN)),
    _case("write another node", "HSET", KEYS.node(FOREIGN), "state", "paused"),
    _case("take another node out", "DEL", KEYS.node(FOREIGN)),
    _case("list nodes", "ZRANGE", KEYS.nodes, "0", "-1"),
    _case("invent nodes", "ZADD", KEYS.nodes, "1", "mallory"),
    _case("read another node's orders", "XREAD", "STREAMS", KEYS.control(FOREIGN), "0"),
    _case("give orders to another node", "XADD", KEYS.control(FOREIGN), "*", "op", "drain"),
    _case("give orders to itself", "XADD", KEYS.control(NODE), "*", "op", "resume"),
    _case("pose as a hub", "HSET", KEYS.hub(HUB), "open_requests", "0"),
    _case("change its membership", "HSET", KEYS.member(NODE), "token", "x"),
    _case("read a membership", "HGETALL", KEYS.member(NODE)),
    _case("undo that it was cut off", "ZREM", KEYS.revoked, NODE),
    _case("make a client key", "HSET", KEYS.key("0" * 64), "name", "x"),
    _case("list client keys", "SMEMBERS", KEYS.keys),
    _case("make a provider token", "HSET", KEYS.token("0" * 64), "name", "x"),
    _case("list provider tokens", "SMEMBERS", KEYS.tokens),
    _case("list lanes", "SMEMBERS", KEYS.lanes),
    _case("list keys", "KEYS", "*"),
    _case("… in steps", "SCAN", "0"),
    _case("guess keys", "RANDOMKEY"),
    _case("count keys", "DBSIZE"),
    _case("change the database", "SELECT", "1"),
    _case("swap databases", "SWAPDB", "0", "1"),
    _case("read settings of the broker", "CONFIG", "GET", "*"),
    _case("change settings of the broker", "CONFIG", "SET", "maxmemory", "1"),
    _case("empty the broker", "FLUSHALL"),
    _case("empty a database", "FLUSHDB"),
    _case("run a script of its own", "EVAL", "return 1", "0"),
    _case("… that only reads", "EVAL_RO", "return 1", "0"),
    _case("load a script", "SCRIPT", "LOAD", "return 1"),
    _case("forget all scripts", "SCRIPT", "FLUSH"),
    _case("load functions", "FUNCTION", "LOAD", "#!lua name=x\n"),
    _case("call functions", "FCALL", "x", "0"),
    _case("subscribe", "SUBSCRIBE", "news"),
    _case("subscribe to patterns", "PSUBSCRIBE", "*"),
    _case("publish a message", "PUBLISH", "news", "x"),
    _case("watch all commands", "MONITOR"),
    _case("list users", "ACL", "LIST"),
    _case("ask who it is", "ACL", "WHOAMI"),
    _case("make users", "ACL", "SETUSER", "mallory", "on", "nopass", "+@all", "~*"),
    _case("widen its own rules", "ACL", "SETUSER", user_name(KEYS, NODE), "+@all", "~*"),
    _case("delete users", "ACL", "DELUSER", "default"),
    _case("list connections", "CLIENT", "LIST"),
    _case("cut connections", "CLIENT", "KILL", "TYPE", "normal"),
    _case("stop all connections", "CLIENT", "PAUSE", "10"),
    _case("ask the server about itself", "INFO"),
    _case("read the slow log", "SLOWLOG", "GET"),
    _case("debug", "DEBUG", "SLEEP", "0"),
    _case("stop the broker", "SHUTDOWN", "NOSAVE"),
    _case("make it a replica", "REPLICAOF", "192.0.2.1", "6379"),
    _case("copy all as a replica does", "PSYNC", "?", "-1"),
    _case("save to disk", "SAVE"),
    _case("load a module", "MODULE", "LOAD", "/tmp/x.so"),
    _case("begin a transaction", "MULTI"),
]


def make_user(admin: redis.Redis, *models: str, node: NodeId = NODE) -> str:
    """Make a node's user as hubs do; its name."""
    name = user_name(KEYS, node)
    rules = provider_rules(KEYS, node, [ModelId(model) for model in models])
    admin.execute_command("ACL", "SETUSER", name, "reset", "on", f">{PASSWORD}", *rules)
    return name


def allows(admin: redis.Redis, user: str, *command: str) -> bool:
    """Whether the broker would let a user do this."""
    return admin.execute_command("ACL", "DRYRUN", user, *command) in ("OK", True)


def table(admin: redis.Redis) -> str:
    """What the broker says of each case, as Markdown."""
    user = make_user(admin, MODEL)
    lines = ["| | command | |", "|---|---|---|"]
    for case in (*MAY, *MAY_NOT):
        shown = " ".join(one.replace("@", "") if one.startswith("@") else one for one in case.command)
        verdict = "yes" if allows(admin, user, *case.arguments) else "no"
        lines.append(f"| {case.what} | `{shown.strip()}` | {verdict} |".replace("\n", " "))
    return "\n".join(lines)
