"""The broker's users for registered providers.

They live in the memory of one server: one that restarts without an ACL file has forgotten them, and so has a replica
that takes over; nodes then register again.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from redis import exceptions as rx
from redis.asyncio import ConnectionPool, Redis

from common.acl import provider_rules, user_name, users_head
from common.broker import Broker, broker_errors
from common.errors import BrokerRefused
from common.streams.scripts import load_provider_scripts
from common.types import ModelId, NodeId

_WHO = frozenset({"username", "password", "credential_provider"})
_HINT = "with GHUB_HUB_ACL=print its operator makes them, with GHUB_HUB_ACL=off all providers share one URL"


def password_digest(password: str) -> str:
    """The sha256 of a password in hex, as the broker keeps it."""
    return hashlib.sha256(password.encode()).hexdigest()


class BrokerUsers:
    """Makes and deletes users. Raises BrokerUnavailable or BrokerRefused from every method.

    BrokerRefused names the setting that helps where the broker, as many managed ones, lets nobody make users.
    """

    def __init__(self, broker: Broker) -> None:
        self._commands = broker.commands
        self._keys = broker.keys
        self._database = int(broker.commands.connection_pool.connection_kwargs.get("db") or 0)

    def name(self, node: NodeId) -> str:
        """What a node's user is called."""
        return user_name(self._keys, node)

    def rules(self, node: NodeId, models: Sequence[ModelId], digests: Sequence[str]) -> tuple[str, ...]:
        """All that follows `ACL SETUSER` for a node whose passwords have these sha256 digests.

        Raises:
            RulesError: see `provider_rules`.
        """
        passwords = [f"#{digest}" for digest in digests]
        rules = provider_rules(self._keys, node, models, database=self._database)
        return (self.name(node), "reset", "on", *passwords, *rules)

    async def set_user(self, node: NodeId, models: Sequence[ModelId], digests: Sequence[str]) -> None:
        """Make a node's user or renew it; connections that it has open stay.

        Raises:
            RulesError: see `provider_rules`.
        """
        rules = self.rules(node, models, digests)
        await self._ask("ACL SETUSER", *rules)

    async def delete_user(self, node: NodeId) -> bool:
        """Delete a node's user, which cuts its connections at once; False if there was none."""
        return bool(await self._ask("ACL DELUSER", self.name(node)))

    async def users(self) -> list[NodeId]:
        """The nodes of this grid that have a user, in name order."""
        head = users_head(self._keys)
        names: list[str] = await self._ask("ACL USERS")
        return sorted(NodeId(name.removeprefix(head)) for name in names if name.startswith(head))

    async def is_allowed(self, node: NodeId, command: Sequence[str | bytes]) -> bool:
        """Whether a node's user may run a command; the broker only says so and does nothing."""
        return await self._ask("ACL DRYRUN", self.name(node), *command) in (b"OK", True)

    async def is_open_to_all(self) -> bool:
        """Whether the grid's keys can be reached without a password: then no user of its own keeps anybody out."""
        pool = self._commands.connection_pool
        facts = {name: value for name, value in pool.connection_kwargs.items() if name not in _WHO}
        stranger = Redis.from_pool(ConnectionPool(connection_class=pool.connection_class, **facts))
        try:
            with broker_errors():
                # Not EXISTS: where anyone may look, the broker of `ghub up` lets everybody count and time keys.
                await stranger.get(self._keys.credentials)
        except BrokerRefused:
            return False
        else:
            return True
        finally:
            await stranger.aclose()

    async def load_scripts(self) -> None:
        """Have the broker know the scripts that providers run: they may run them, not load them."""
        with broker_errors():
            await load_provider_scripts(self._commands)

    async def _ask(self, *command: str | bytes) -> Any:  # noqa: ANN401 - each command answers in its own way
        pipe = self._commands.pipeline(transaction=False)
        pipe.execute_command(*command)
        with _acl_errors():
            (answer,) = await pipe.execute(raise_on_error=False)  # an error raised there repeats the command
            if isinstance(answer, Exception):
                raise answer
        return answer


@contextmanager
def _acl_errors() -> Iterator[None]:
    """As `broker_errors`; a broker that has no such command, or not for us, is told apart."""
    with broker_errors():
        try:
            yield
        except rx.NoPermissionError as exc:
            raise BrokerRefused(f"the broker lets this hub manage no users ({exc}): {_HINT}") from exc
        except rx.ResponseError as exc:
            said = str(exc)
            if "unknown" in said.lower() and "command" in said.lower():
                raise BrokerRefused(f"the broker knows no ACL commands ({said[:200]}): {_HINT}") from exc
            if "modifier '(" in said:
                raise BrokerRefused(f"the broker takes no selectors, as Redis 7 and Valkey do: {_HINT}") from exc
            raise
