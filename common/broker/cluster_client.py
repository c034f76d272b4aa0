"""redis-py's commands for a cluster, said on a line of ours."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from redis import exceptions as rx
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.client import Pipeline

from common.broker.cluster_line import slots_of
from common.broker.line import Answer, Command, Line

_READS = frozenset(
    {
        *("EXISTS", "GET", "HGET", "HGETALL", "HLEN", "HMGET", "MEMORY", "PTTL", "SCARD", "SISMEMBER", "SMEMBERS"),
        *("TTL", "TYPE", "XINFO", "XLEN", "XPENDING", "XRANGE", "XREVRANGE", "ZCARD", "ZRANGE", "ZRANK", "ZSCORE"),
    }
)
"""Commands that may overtake each other."""


class ClusterClient(Redis):
    """Speaks on a line instead of connections of its own.

    A pipeline that writes keeps its order, also where its keys are at different servers; one that only reads asks all
    servers at once. There are no transactions.
    """

    def __init__(self, line: Line, pool: ConnectionPool) -> None:
        super().__init__(connection_pool=pool)
        self._line = line

    async def execute_command(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - redis-py's own
        """Say one command; what redis-py makes of the answer."""
        (answer,) = await self._line.ask((_words(args),))
        return self.shaped(args[0], answer, options)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:  # noqa: FBT001
        """Several commands in as few round trips as may be."""
        if transaction:
            raise rx.RedisClusterException("no transactions here")
        return _LinePipeline(self, shard_hint)

    async def say(self, commands: Sequence[Command]) -> list[Answer]:
        """The answers to these, in order."""
        if all(command[0] in _READS for command in commands):
            return await self._line.ask(commands)
        by_slot = groupby(zip(slots_of(commands), commands, strict=True), key=itemgetter(0))
        return await self._line.ask_in_turn(*([command for _, command in some] for _, some in by_slot))

    async def aclose(self, close_connection_pool: bool | None = None) -> None:  # noqa: FBT001
        """Close the line."""
        await self._line.aclose()
        await super().aclose(close_connection_pool)

    def shaped(self, name: str, answer: Answer, options: Mapping[str, Any]) -> Answer:
        """What redis-py makes of an answer; a refusal is raised."""
        if isinstance(answer, Exception):
            raise answer
        read = self.response_callbacks.get(name)
        told = {option: value for option, value in options.items() if option != "keys"}  # those are for its cache
        return answer if read is None else read(answer, **told)


class _LinePipeline(Pipeline):
    def __init__(self, client: ClusterClient, shard_hint: str | None) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction=False, shard_hint=shard_hint)
        self._client = client

    async def execute(self, raise_on_error: bool = True) -> list[Any]:  # noqa: FBT001
        stack, self.command_stack = self.command_stack, []
        if not stack:
            return []
        shaped: list[Any] = []
        answers = await self._client.say([_words(args) for args, _ in stack])
        for (args, options), answer in zip(stack, answers, strict=True):
            try:
                shaped.append(self._client.shaped(str(args[0]), answer, options))
            except rx.ResponseError as exc:
                shaped.append(exc)
        if raise_on_error:
            self.raise_first_error(stack, shaped)
        return shaped


def _words(args: Sequence[Any]) -> Command:
    """A command as it goes out: redis-py writes the two words of some names as one."""
    name, *rest = args
    return (*str(name).upper().split(), *rest)
