"""The broker's users for registered providers.

They live in the memory of each server: one that restarts without an ACL file has forgotten them, and so has a replica
that takes over from the one server of a broker; nodes then register again. In a cluster every server is told.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from redis import exceptions as rx

from common.broker.acl import provider_rules, user_name, users_head
from common.broker.broker import Broker
from common.broker.errors import broker_errors, raise_first
from common.broker.scripts import provider_scripts
from common.errors import BrokerRefused
from common.types import ModelId, NodeId

_HINT = "with GHUB_HUB_ACL=print its operator makes them, with GHUB_HUB_ACL=off all providers share one URL"


def password_digest(password: str) -> str:
    """The sha256 of a password in hex, as the broker keeps it."""
    return hashlib.sha256(password.encode()).hexdigest()


class BrokerUsers:
    """Makes and deletes users. Raises BrokerUnavailable or BrokerRefused from every method.

    BrokerRefused names the setting that helps where the broker, as many managed ones, lets nobody make users.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
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
        in_cluster = self._broker.cluster is not None
        rules = provider_rules(self._keys, node, models, database=self._database, in_cluster=in_cluster)
        return (self.name(node), "reset", "on", *passwords, *rules)

    async def set_user(self, node: NodeId, models: Sequence[ModelId], digests: Sequence[str]) -> None:
        """Make a node's user or renew it; connections that it has open stay.

        Raises:
            RulesError: see `provider_rules`.
        """
        rules = self.rules(node, models, digests)
        await self._ask("ACL", "SETUSER", *rules)

    async def delete_user(self, node: NodeId) -> bool:
        """Delete a node's user, which cuts its connections at once; False if there was none."""
        return any(await self._ask("ACL", "DELUSER", self.name(node)))

    async def users(self) -> list[NodeId]:
        """The nodes of this grid that have a user, in name order."""
        head = users_head(self._keys)
        names = {name.decode() for some in await self._ask("ACL", "USERS") for name in some}
        return sorted(NodeId(name.removeprefix(head)) for name in names if name.startswith(head))

    async def is_open_to_all(self) -> bool:
        """Whether the grid's keys can be reached without a password: then no user of its own keeps anybody out."""
        stranger = self._broker.as_stranger()
        try:
            with broker_errors():
                # Not EXISTS: where anyone may look, the broker of `ghub up` lets everybody count and time keys.
                await stranger.commands.get(self._keys.credentials)
        except BrokerRefused:
            return False
        else:
            return True
        finally:
            await stranger.aclose()

    async def load_scripts(self) -> None:
        """Have the broker know the scripts that providers run: they may run them, not load them."""
        with broker_errors():
            for text in provider_scripts():
                raise_first(await self._broker.everywhere("SCRIPT", "LOAD", text))

    async def _ask(self, *command: str | bytes) -> list[Any]:
        """What every server of the broker answers: its users are its own."""
        with _acl_errors():
            answers = await self._broker.everywhere(*command)
            raise_first(answers)
        return answers


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
