"""A broker in this process, for what needs no server: fakeredis, whose connections have no socket for a line."""

from collections.abc import Sequence

import fakeredis
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from common.broker.broker import Broker
from common.broker.line import Answer, Command, ConnectedAnewError, Line
from common.keys import Keys


def fake_broker(server: fakeredis.FakeServer | None = None) -> Broker:
    server = server or fakeredis.FakeServer()
    # as common.broker.broker does; with RESP3 its scripts would even see other shapes than those of a server
    client = fakeredis.FakeAsyncRedis(server=server, protocol=2)
    return Broker(client, Keys(), lambda **_: ClientLine(client), lambda: fake_broker(server))


class ClientLine(Line):
    """A line through a client of redis-py's."""

    renewals = 1

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def ask(self, commands: Sequence[Command], *, since: int | None = None) -> list[Answer]:
        """Say these one behind the other; see `Line`."""
        if since is not None and since != self.renewals:
            raise ConnectedAnewError
        pipe = Pipeline(self._client.connection_pool, {}, transaction=False, shard_hint=None)
        for command in commands:
            pipe.execute_command(*command)
        answers: list[Answer] = await pipe.execute(raise_on_error=False)
        return answers

    async def aclose(self) -> None:
        """Nothing: the client is closed by its owner."""
