"""Which nodes have registered, and which were cut off. A membership outlives its node: the name stays its token's."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from common.broker.broker import Broker
from common.broker.errors import broker_errors
from common.broker.shapes import hashes_of
from common.records.registry import INDEX_TTL_MS
from common.types import ModelId, NodeId, TokenId

MEMBER_TTL_MS = 30 * INDEX_TTL_MS
"""How long a name stays its token's after the last registration, ms; as long as a node that was cut off is known."""


@dataclass(frozen=True, slots=True)
class Member:
    """A node that has registered."""

    node: NodeId
    token: TokenId
    models: tuple[ModelId, ...]
    """Whose jobs its broker user may take."""
    registered_at: int
    """Unix ms on the broker's clock; the last time."""
    instance: str = ""
    """Which process of that name."""
    password_sha256: str = ""
    """Of its broker user, if that is the hub's to choose: its next password can stand beside this one for a while."""

    def to_hash(self) -> dict[Any, Any]:
        """The fields of its hash."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return fields | {"models": orjson.dumps(self.models)}

    @classmethod
    def from_hash(cls, raw: Mapping[Any, Any]) -> "Member | None":
        """Read a hash; None if it is no member of a version that can be read here."""
        try:
            text = {name.decode(): value.decode() for name, value in raw.items()}
            return cls(
                node=NodeId(text["node"]),
                token=TokenId(text["token"]),
                models=tuple(ModelId(str(one)) for one in orjson.loads(text["models"])),
                registered_at=int(text["registered_at"]),
                instance=text.get("instance", ""),
                password_sha256=text.get("password_sha256", ""),
            )
        except (KeyError, ValueError, TypeError):
            return None


class Memberships:
    """The members of the grid. Raises BrokerUnavailable or BrokerRefused from every method."""

    def __init__(self, broker: Broker) -> None:
        self._commands = broker.commands
        self._line = broker.line
        self._keys = broker.keys
        self._index = broker.keys.members

    async def member(self, node: NodeId) -> Member | None:
        """A node's membership; None if nobody has registered it."""
        with broker_errors():
            return Member.from_hash(await self._commands.hgetall(self._keys.member(node)))

    async def members(self) -> list[Member]:
        """Every member, in name order."""
        with broker_errors():
            names: Any = await self._commands.zrange(self._index, 0, -1)
            nodes = [NodeId(name.decode(errors="replace")) for name in sorted(names)]
            hashes = await hashes_of(self._line, [self._keys.member(node) for node in nodes])
        return [member for raw in hashes if (member := Member.from_hash(raw)) is not None]

    async def count(self) -> int:
        """How many members there are; some may have run out."""
        with broker_errors():
            return int(await self._commands.zcard(self._index))

    async def enter(self, member: Member) -> None:
        """Make a node a member, or renew it. The registry looks at it from now on, whatever its node may write."""
        key = self._keys.member(member.node)
        pipe = self._commands.pipeline(transaction=False)
        pipe.hset(key, mapping=member.to_hash())
        pipe.pexpire(key, MEMBER_TTL_MS)
        pipe.zadd(self._index, {member.node: member.registered_at})
        pipe.zremrangebyscore(self._index, "-inf", member.registered_at - MEMBER_TTL_MS)
        pipe.pexpire(self._index, MEMBER_TTL_MS)
        pipe.zrem(self._keys.revoked, member.node)
        pipe.zadd(self._keys.nodes, {member.node: member.registered_at})
        pipe.pexpire(self._keys.nodes, INDEX_TTL_MS)
        with broker_errors():
            await pipe.execute()

    async def expel(self, node: NodeId, now_ms: int) -> None:
        """A member no more: every hub takes its jobs from it at its next look."""
        pipe = self._commands.pipeline(transaction=False)
        pipe.zadd(self._keys.revoked, {node: now_ms})
        pipe.zremrangebyscore(self._keys.revoked, "-inf", now_ms - MEMBER_TTL_MS)
        pipe.pexpire(self._keys.revoked, MEMBER_TTL_MS)
        pipe.delete(self._keys.node(node))
        pipe.zrem(self._keys.nodes, node)
        pipe.delete(self._keys.member(node))
        pipe.zrem(self._index, node)
        with broker_errors():
            await pipe.execute()
