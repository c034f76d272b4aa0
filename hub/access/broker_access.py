"""How a registered node gets at the broker, in each of the modes of `GHUB_HUB_ACL`."""

import hashlib
import hmac
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import structlog

from common.broker.acl import nameable
from common.broker.users import BrokerUsers, password_digest
from common.records.memberships import Member
from common.registration import AclMode
from common.types import ModelId, NodeId, TokenId
from hub.access.broker_address import broker_url_for
from hub.errors import RequestFailed
from hub.settings import HubSettings

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, repr=False)
class Access:
    """What a node shows the broker; without user and password the URL holds all there is."""

    url: str
    username: str | None = None
    password: str | None = None
    password_sha256: str = ""


class BrokerAccess:
    """Gives nodes access and takes it away. Raises BrokerUnavailable or BrokerRefused."""

    def __init__(self, settings: HubSettings, users: BrokerUsers) -> None:
        self._settings = settings
        self._users = users
        self._told: dict[NodeId, str] = {}
        """The last rules of each node that were logged."""
        self._has_looked = False

    @property
    def is_cut_here(self) -> bool:
        """Whether the hub itself can cut a node off the broker."""
        return self._settings.acl is AclMode.ON

    def grantable(self, models: Sequence[ModelId]) -> tuple[ModelId, ...]:
        """Those of these models whose jobs a node can be let take."""
        return tuple(dict.fromkeys(models)) if self._settings.acl is AclMode.OFF else nameable(models)

    async def grant(
        self, node: NodeId, token: TokenId, models: Sequence[ModelId], before: Member | None, reached_as: str | None
    ) -> Access:
        """Let a node at the broker.

        Args:
            node: which.
            token: the one it showed.
            models: whose jobs it may take; all `grantable`.
            before: what it was if it renews; its password stays good beside the new one, for connections under way.
            reached_as: the host under which it reaches this hub.

        Raises:
            RequestFailed: 503, this hub lacks a setting that the mode needs.
        """
        url = self._url(reached_as)
        await self._users.load_scripts()  # a server that was restarted has none
        await self._warn_once()
        match self._settings.acl:
            case AclMode.OFF:
                return Access(url)
            case AclMode.ON:
                password = secrets.token_urlsafe(32)
                digests = [password_digest(password), *([before.password_sha256] if before else [])]
                await self._users.set_user(node, models, [digest for digest in digests if digest])
                return Access(url, self._users.name(node), password, digests[0])
            case AclMode.PRINT:
                password = self._derived_password(node, token)
                line = self.line(node, token, models)
                if self._told.get(node) != line:
                    log.warning("acl_rules", node=node, rules=line, hint="run this at every server of the broker")
                    self._told[node] = line
                return Access(url, self._users.name(node), password)

    def line(self, node: NodeId, token: TokenId, models: Sequence[ModelId]) -> str:
        """What the broker's operator must run in redis-cli for a node in the mode `print`; it holds no secret.

        Raises:
            RequestFailed: 503, there is no admin token that passwords could be derived from.
        """
        digest = password_digest(self._derived_password(node, token))
        return " ".join(["ACL", "SETUSER", *self._users.rules(node, models, [digest])])

    async def withdraw(self, node: NodeId) -> None:
        """Take a node's access away, where the hub can; its connections end at once."""
        match self._settings.acl:
            case AclMode.ON:
                await self._users.delete_user(node)
            case AclMode.PRINT:
                self._told.pop(node, None)
                rules = f"ACL DELUSER {self._users.name(node)}"
                log.warning("acl_rules", node=node, rules=rules, hint="until this is run it can use the broker")
            case AclMode.OFF:
                log.warning("broker_access_stays", node=node, hint="change the broker's password to cut it off")

    async def sweep(self, members: Collection[NodeId]) -> None:
        """Delete the users of nodes that are members no more: the broker's memory outlives that of who they belong to.

        One that is just joining may be among them; it registers again.
        """
        if self._settings.acl is not AclMode.ON:
            return
        for node in set(await self._users.users()) - set(members):
            await self._users.delete_user(node)
            log.warning("broker_user_swept", node=node)

    async def _warn_once(self) -> None:
        if self._has_looked or self._settings.acl is AclMode.OFF:
            return
        self._has_looked = True
        if await self._users.is_open_to_all():
            hint = "its default user needs no password: users of their own keep nobody from anything; turn it off"
            log.warning("broker_open_to_all", hint=hint)

    def _url(self, reached_as: str | None) -> str:
        shared = self._settings.acl is AclMode.OFF
        if self._settings.provider_redis_url is not None:
            return broker_url_for(self._settings.provider_redis_url, None, shared=shared, is_own=False)
        return broker_url_for(self._settings.redis_url, reached_as, shared=shared)

    def _derived_password(self, node: NodeId, token: TokenId) -> str:
        """The same at every hub and each time, so that nobody has to keep it."""
        if self._settings.admin_token is None:
            raise RequestFailed(
                "this hub has no admin token, which GHUB_HUB_ACL=print makes passwords from: set GHUB_HUB_ADMIN_TOKEN",
                status=503,
                code="admin_token_not_set",
            )
        key = self._settings.admin_token.get_secret_value().encode()
        return hmac.new(key, f"broker-user\0{node}\0{token}".encode(), hashlib.sha256).hexdigest()
