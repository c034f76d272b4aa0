"""The nodes that have joined with a token: lets them in, renews them, cuts them off."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from common.broker.clock import BrokerClock
from common.errors import BrokerRefused
from common.records.credentials import Credentials, ProviderToken
from common.records.memberships import Member, Memberships
from common.records.registry import Registry
from common.registration import Registration, RegistrationRequest
from common.signing import SigningKeys
from common.streams.jobs import JobLanes, lanes_of, near_lane
from common.types import ModelId, NodeId
from hub.access.broker_access import BrokerAccess
from hub.access.credential_table import CredentialTable
from hub.access.provider_tokens import NAME as FIXED_TOKENS
from hub.asking import asking_broker
from hub.errors import BrokerAway, Conflict, Forbidden, NotFound, RequestFailed, Unauthorized
from hub.settings import HubSettings

log = structlog.get_logger()

MOST_MEMBERS = 10_000
"""Whoever holds a provider's token can invent names."""


@dataclass(frozen=True, slots=True)
class MemberBooks:
    """Where it is written who may be a member, who is, and who lives."""

    credentials: Credentials
    table: CredentialTable
    memberships: Memberships
    registry: Registry
    lanes: JobLanes


class Members:
    """Every change of membership goes through here. A name belongs to the token that registered it first."""

    def __init__(
        self, books: MemberBooks, access: BrokerAccess, clock: BrokerClock, settings: HubSettings, prefix: str
    ) -> None:
        self._books = books
        self._access = access
        self._clock = clock
        self._settings = settings
        self._prefix = prefix
        keys = SigningKeys.parse(settings.signing_key).keys
        self._signing_keys = tuple(f"{name}:{secret.decode()}" for name, secret in keys)

    async def register(
        self, request: RegistrationRequest, token: ProviderToken, reached_as: str | None
    ) -> Registration:
        """Make a node a member, or renew it.

        Args:
            request: what it asks for.
            token: the one it showed.
            reached_as: the host under which it reaches this hub.

        Raises:
            Conflict: `node_taken`, the name is another token's; `name_taken`, a live process holds it: try again later.
            Unauthorized: the token was revoked meanwhile.
            RequestFailed: 503, a setting is missing, there are too many members, or the broker is away or refuses.
        """
        with self._asking("register"):
            return await self._register(request, token, reached_as)

    async def members(self) -> list[Member]:
        """Every member, there or gone; BrokerAway if nobody can tell."""
        with self._asking("members"):
            return await self._books.memberships.members()

    async def check_own(self, node: NodeId, token: ProviderToken) -> None:
        """Let a token speak for a node that it registered, or that nobody did.

        Raises:
            Forbidden: the node is another token's.
            BrokerAway: nobody can tell.
        """
        with self._asking("membership"):
            member = await self._books.memberships.member(node)
        if member is not None and member.token != token.id:
            raise Forbidden(f"the node {node!r} was registered with another token", code="node_of_another_token")

    async def acl_line(self, node: NodeId) -> str:
        """The rules of a member's broker user, for the broker's operator.

        Raises:
            NotFound: it is no member.
            RequestFailed: 503, there is no admin token to derive passwords from, or the broker is away.
        """
        member = await self._member(node)
        return self._access.line(node, member.token, member.models)

    async def cut_off(self, node: NodeId) -> bool:
        """End a node's membership: its access, its entry and its jobs are gone at once. Its token stays good.

        Returns:
            Whether it was cut off the broker too; only where hubs manage the broker's users.

        Raises:
            NotFound: it is no member.
            RequestFailed: 503, the broker is away or refuses; hubs take its jobs from it nevertheless if they can.
        """
        await self._member(node)
        with self._asking("cut_off"):
            await self._expel(node)
        return self._access.is_cut_here

    async def revoke(self, token: ProviderToken) -> list[NodeId]:
        """Let a token in no more, and cut off its nodes, which are returned.

        Raises:
            Conflict: the token stands in a setting, and can only be taken out there.
            BrokerAway: some of it may be done.
        """
        if self._books.table.is_fixed(token):
            raise Conflict(f"this token stands in {FIXED_TOKENS}: take it out there, and start the hubs again")
        with self._asking("revoke"):
            # first the token: a node that registers meanwhile finds it gone when all else is done
            await self._books.credentials.remove_token(token.digest)
            await self._books.table.refresh()
            members = await self._books.memberships.members()
            nodes = [member.node for member in members if member.token == token.id]
            for node in nodes:
                await self._expel(node)
            # whose token a forgotten member showed can no longer be told
            await self._access.sweep({member.node for member in members})
        log.warning("token_revoked", token=token.id, name=token.name, nodes=nodes)
        return nodes

    async def _register(
        self, request: RegistrationRequest, token: ProviderToken, reached_as: str | None
    ) -> Registration:
        node, books = NodeId(request.name), self._books
        await self._check_token(token)
        before = await books.memberships.member(node)
        await self._check_name(request, token, before)
        asked = tuple(ModelId(model) for model in request.models)
        models = self._access.grantable(asked)
        if len(models) < len(set(asked)):
            left_out = sorted(set(asked) - set(models))
            log.warning("models_left_out", node=node, models=left_out[:20], hint="no rule of the broker can name them")
        await books.lanes.ensure([*lanes_of(models), *([near_lane(node)] if models else [])])
        renewed = before if before and (before.token, before.instance) == (token.id, request.instance) else None
        access = await self._access.grant(node, token.id, models, renewed, reached_as)
        now_ms = self._clock.now_ms()
        member = Member(node, token.id, models, now_ms, request.instance, access.password_sha256)
        await books.memberships.enter(member)
        try:
            await self._check_token(token)  # who revoked it meanwhile may not have found this member
        except Unauthorized:
            await self._expel(node)
            raise
        if renewed is None or renewed.models != models:
            log.info("node_registered", node=node, token=token.id, models=len(models), slots=request.slots)
        return Registration(
            node=node,
            heartbeat_s=self._settings.heartbeat_s,
            prefix=self._prefix,
            redis_url=access.url,
            username=access.username,
            password=access.password,
            models=models,
            signing_keys=self._signing_keys,
            has_near_lane=bool(models),
            renew_s=self._settings.registration_renew_s,
        )

    async def _check_token(self, token: ProviderToken) -> None:
        """Raise Unauthorized if another hub has revoked the token a moment ago."""
        await self._books.table.refresh()
        if token.digest not in self._books.table.tokens:
            raise Unauthorized("this token has been revoked")

    async def _check_name(self, request: RegistrationRequest, token: ProviderToken, before: Member | None) -> None:
        """Raise Conflict if the name is not this process's to take."""
        node, books = NodeId(request.name), self._books
        lease_s = math.ceil(self._settings.lease_ms / 1000)
        if before is None and await books.memberships.count() >= MOST_MEMBERS:
            raise RequestFailed("the grid has as many registered nodes as it may", status=503, code="too_many_nodes")
        tokens = {known.id for known in books.table.tokens.values()}
        if before is not None and before.token != token.id and before.token in tokens:
            raise Conflict(
                f"the name {node!r} was registered with another token: use that one, revoke it (ghub token list shows "
                "which it is), or choose another --name",
                code="node_taken",
                param="name",
            )
        live = await books.registry.node(node)
        is_just_taken = (
            before is not None
            and before.instance != request.instance
            and self._clock.now_ms() - before.registered_at < self._settings.heartbeat_s * 1000
        )
        if is_just_taken or (live is not None and live.instance != request.instance):
            raise Conflict(
                f"another provider named {node!r} is running; choose another name",
                code="name_taken",
                param="name",
                retry_after_s=lease_s,
            )

    async def _expel(self, node: NodeId) -> None:
        try:
            await self._access.withdraw(node)  # first: else it could write its entry again
        finally:
            await self._books.memberships.expel(node, self._clock.now_ms())
        log.warning("node_cut_off", node=node)

    async def _member(self, node: NodeId) -> Member:
        with self._asking("membership"):
            member = await self._books.memberships.member(node)
        if member is None:
            raise NotFound(f"no node {node!r} has registered with a token")
        return member

    @contextmanager
    def _asking(self, doing: str) -> Iterator[None]:
        """As `asking_broker`, but who is let in here hears what the broker refuses."""
        with asking_broker(doing, self._settings.retry_after_s):
            try:
                yield
            except BrokerRefused as exc:
                log.warning("broker_unavailable", doing=doing, error=str(exc))
                raise BrokerAway(f"the broker refuses: {exc}", retry_after_s=self._settings.retry_after_s) from exc
