"""What a registered provider may do at the broker: the rules of its user, as `ACL SETUSER` takes them.

Commands and keys are paired by selectors: one key pattern for all commands would let a node that may take jobs off a
lane also add to it. Scripts run with the same rights, whoever loaded them.

    at the root     ask the time, name the connection, in a cluster ask who has which slot: nothing that touches a key
    lanes           of its models, and its own: claim, settle; EVALSHA wants all keys of a script in one selector, so
                    their indexes stand with them
    replies         answer them; their names hold 128 random bits, and no command here lists keys
    doorbells, dead letters, changes of nodes    add
    own node        write, read, delete
    own orders      read
"""

import re
from collections.abc import Iterable, Sequence

from common.errors import RulesError
from common.keys import Keys
from common.types import HubId, Lane, ModelId, NodeId, RequestId

MAX_MODELS = 512
"""Most models of one user. The broker compares each key of a command with each rule: a claim over the 1,500 lanes of
500 models costs it 41 to 47 ms, and making a user of 4,096 models more than a second, in which it does nothing else."""
_ROOT = ("resetchannels", "-@all", "+ping", "+time", "+client|setname")
_CLUSTER = ("+cluster|slots", "+asking")
"""What it takes to find the servers of a cluster, and keys that are on their way to another one."""
_GLOB = re.compile(r"[*?\[\]\\^]")
_QUOTING = frozenset("\"'()")
"""What ends a key or a selector early when the server reads its rules again from a file: more would be allowed then."""


def user_name(keys: Keys, node: NodeId) -> str:
    """The broker user of a node; grids that share a broker have users of their own."""
    return f"{users_head(keys)}{node}"


def users_head(keys: Keys) -> str:
    """What the names of all users of this grid's nodes begin with."""
    return f"{keys.prefix}provider:"


def nameable(models: Iterable[ModelId]) -> tuple[ModelId, ...]:
    """Those of these models that rules can name, each once, as many as one user may have.

    Rules have no spaces (and a pattern instead of one would fit other models too); what quotes and parentheses mean to
    a server depends on whether it hears the rules or reads them from its file.
    """
    return tuple(model for model in dict.fromkeys(models) if _is_plain(model))[:MAX_MODELS]


def provider_rules(
    keys: Keys, node: NodeId, models: Iterable[ModelId], *, database: int = 0, in_cluster: bool = False
) -> tuple[str, ...]:
    """The arguments of ACL SETUSER behind the user's name, `reset on` and its password.

    Args:
        keys: the grid's key names.
        node: whose rules they are.
        models: whose jobs it may take, in all lanes.
        database: the broker's database; on any but 0 clients begin with SELECT.
        in_cluster: the broker is a cluster.

    Raises:
        RulesError: these models are not all `nameable`, or the prefix cannot stand in a rule.
    """
    models = tuple(models)
    if models != nameable(models):
        raise RulesError("too many models, or one whose name no rule of the broker can hold")
    if not _is_plain(keys.prefix):
        raise RulesError(f"no rule of the broker can hold the prefix {keys.prefix!r}")
    named = Keys(_literal(keys.prefix))
    literal = [ModelId(_literal(model)) for model in models]
    lanes = [one for model in literal for one in _merged([named.lane(lane, model) for lane in Lane])]
    waiting = [one for model in literal for one in _merged([named.waiting(lane, model) for lane in Lane])]
    replies = named.reply(HubId("*"), RequestId("*"))
    own = named.lane(Lane.INTERACTIVE, ModelId(""), node)
    take = [_selector("+evalsha +xreadgroup +xack +xdel +zrem", "~", [*lanes, own, *waiting])] if models else []
    root = (*_ROOT, *(("+select",) if database else ()), *(_CLUSTER if in_cluster else ()))
    return (
        *root,
        *take,
        _selector("+xadd +xrange +xrevrange +exists", "~", [replies]),
        _selector("+xadd", "%W~", [named.doorbell(HubId("*")), named.dead, named.changes]),
        _selector("+hset +hgetall +pexpire +del", "~", [named.node(node)]),
        _selector("+xread +xrevrange", "%R~", [named.control(node)]),
    )


def _selector(commands: str, sign: str, patterns: Iterable[str]) -> str:
    return f"(-@all {commands} {' '.join(sign + pattern for pattern in patterns)})"


def _merged(patterns: Iterable[str]) -> list[str]:
    """As few patterns as fit these, which differ in the names of lanes only: one for all that have the same length.

    It fits other words of that length too, which no lane is called by.
    """
    by_length: dict[int, list[str]] = {}
    for pattern in patterns:
        by_length.setdefault(len(pattern), []).append(pattern)
    return ["".join(map(_any_of, zip(*group, strict=True))) for group in by_length.values()]


def _any_of(chars: Sequence[str]) -> str:
    different = sorted({*chars})
    return different[0] if len(different) == 1 else f"[{''.join(different)}]"


def _literal(text: str) -> str:
    """A pattern that fits this text only."""
    return _GLOB.sub(r"\\\g<0>", text)


def _is_plain(text: str) -> bool:
    return text.isprintable() and not any(char.isspace() or char in _QUOTING for char in text)
