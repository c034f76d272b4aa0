"""Membership of a grid: a provider that knows a hub and a token is given all the rest, and keeps it up to date."""

import asyncio
import random
from collections.abc import Callable, Collection

import structlog
from pydantic import SecretStr

from common.broker.broker import UserAndPassword
from common.errors import BrokerDenied, BrokerError, LaneMissing, SettingsError
from common.registration import Registration, RegistrationRequest
from common.signing import SigningKeys
from common.streams.jobs import LaneName, near_lane
from common.tasks import backoff_s, wait_or_stop
from common.types import ModelId, NodeId
from provider.errors import HubError, HubRefused, HubUnreachable, NameTaken, RegistrationRefused
from provider.membership.hub_client import HubClient

log = structlog.get_logger()

RETRY_FIRST_S, RETRY_MOST_S = 0.2, 5.0
CALM_S = 10.0
"""A renewal that is asked for within this of the last one waits, longer each time: the last has not helped."""
REVOKED_RETRY_S = 30.0
"""How often a provider whose token is no longer taken asks whether it is again."""
NAME_LOOK_S = 0.5
NAME_WAIT_S = 8.0
"""How long a name may be another process' at the start: its former self may have died without a word."""
KEY_WAIT_S = 5.0
KEY_GAP_S = 1.0
"""Between two renewals for the sake of keys, whatever their ids."""
KEY_AGAIN_S = 10.0
"""A key id that the hub did not know either is not asked for again within this: forged jobs must not stop the rest."""
MOST_STRANGE_KEYS = 100
TELL_AGAIN_S = 60.0


class Membership:
    """Registers, and registers anew: now and then, when models change, and when the broker has forgotten this node.

    Args:
        hub: where.
        describe: says what to ask for, as things stand.
        own_keys: signing keys that were set here; they count in place of the hub's.
        on_renewed: called after each registration that brought other models or ended a revocation.
        on_revoked: called once when the token is no longer taken.
        on_moved: called when the hub names another grid than the one this process works for.
    """

    def __init__(
        self,
        hub: HubClient,
        describe: Callable[[], RegistrationRequest],
        *,
        own_keys: SigningKeys,
        on_renewed: Callable[[], None],
        on_revoked: Callable[[], None],
        on_moved: Callable[[], None],
    ) -> None:
        self._hub = hub
        self._describe = describe
        self._own_keys = own_keys
        self._on_renewed = on_renewed
        self._on_revoked = on_revoked
        self._on_moved = on_moved
        self._registration: Registration | None = None
        self._asked: RegistrationRequest | None = None
        self._keys = SigningKeys()
        self._models: frozenset[ModelId] = frozenset()
        self.changed = asyncio.Event()
        self._wanted = asyncio.Event()
        self._renewed = asyncio.Event()
        self._is_revoked = False
        self._strange_keys: dict[str, float] = {}
        self._next_key_at_s = float("-inf")
        self._was_refused: bool | None = None
        """What the last trouble was; None: there is none."""
        self._tell_at_s = 0.0

    @property
    def is_member(self) -> bool:
        """Yes: what hubs keep for their members is not written by this one."""
        return True

    @property
    def models(self) -> Collection[ModelId]:
        """Those that the hub has let it take jobs of."""
        return self._models

    @property
    def near(self) -> LaneName | None:
        """Its own, where the hub that it registered at last made one and let it read that."""
        now = self._registration
        return near_lane(NodeId(now.node)) if now is not None and now.has_near_lane and self._models else None

    @property
    def signing(self) -> SigningKeys:
        """The keys that were set here, else those that the hub named last."""
        return self._own_keys or self._keys

    def credentials(self) -> UserAndPassword:
        """User and password at the broker, as they are now; both empty where its URL holds all there is."""
        now = self._registration
        return ("", "") if now is None else (now.username or "", now.password or "")

    async def join(self, stop: asyncio.Event, on_wait: Callable[[str], None]) -> Registration | None:
        """Register for the first time, trying until a hub answers; None if told to stop before.

        Args:
            stop: when to give up.
            on_wait: told in one line what is waited for.

        Raises:
            RegistrationRefused: the hub does not take this token, or not for this name; or it is no hub that can.
            NameTaken: another provider with this name goes on living.
        """
        loop = asyncio.get_running_loop()
        give_up_at_s: float | None = None
        for pause in backoff_s(RETRY_FIRST_S, RETRY_MOST_S):
            wait_s = pause
            try:
                return await self._register()
            except HubUnreachable as exc:
                on_wait(f"waiting for the hub: {exc}")
                log.warning("hub_unavailable", doing="register", error=str(exc), retry_in_s=round(pause, 2))
            except RegistrationRefused as exc:
                if exc.code != "name_taken":
                    raise
                give_up_at_s = give_up_at_s or loop.time() + max(NAME_WAIT_S, 1.5 * (exc.retry_after_s or 0))
                if loop.time() > give_up_at_s:
                    raise NameTaken(f"{exc}; choose a --name") from exc
                on_wait(str(exc))
                wait_s = min(pause, NAME_LOOK_S)
            if await wait_or_stop(stop, wait_s):
                return None
        return None

    async def run(self) -> None:
        """Renew until cancelled: never more than one call at a time."""
        loop = asyncio.get_running_loop()
        waits = backoff_s(RETRY_FIRST_S, RETRY_MOST_S)
        renewed_at_s = float("-inf")
        while True:
            if self._is_revoked:
                await asyncio.sleep(_jittered(REVOKED_RETRY_S))
            elif await wait_or_stop(self._wanted, _jittered(self._renew_s)):
                if loop.time() - renewed_at_s > CALM_S:
                    waits = backoff_s(RETRY_FIRST_S, RETRY_MOST_S)
                else:
                    await asyncio.sleep(next(waits))
            self._wanted.clear()
            renewed_at_s = loop.time()
            if not await self._renew():
                self._wanted.set()

    async def refresh(self) -> None:
        """Have it renewed if this provider has other models or slots than it said; the renewal is not waited for."""
        if self._asked is None or _gist(self._describe()) != _gist(self._asked):
            self._wanted.set()

    async def mend(self, error: BrokerError, within_s: float) -> None:
        """Register anew if the broker does not know this node, or a lane is not there; else just wait."""
        if isinstance(error, BrokerDenied | LaneMissing):
            self._wanted.set()
            await wait_or_stop(self._renewed, within_s)
        else:
            await asyncio.sleep(within_s)

    async def learn_key(self, key_id: str) -> None:
        """Register anew, since a job was signed with a key that came after the last time."""
        now_s = asyncio.get_running_loop().time()
        if self._own_keys or now_s < max(self._next_key_at_s, self._strange_keys.get(key_id, 0)):
            return
        self._next_key_at_s = now_s + KEY_GAP_S
        if len(self._strange_keys) >= MOST_STRANGE_KEYS:
            self._strange_keys.clear()
        self._strange_keys[key_id] = now_s + KEY_AGAIN_S
        self._wanted.set()
        await wait_or_stop(self._renewed, KEY_WAIT_S)

    @property
    def _renew_s(self) -> float:
        return max(1.0, self._registration.renew_s) if self._registration else 1.0

    async def _renew(self) -> bool:
        """Register once more; False if that is to be tried again soon."""
        try:
            await self._register()
        except RegistrationRefused as exc:
            if exc.is_revocation:
                self._revoke(exc)
                return True
            self._tell(exc)
            return False
        except HubError as exc:
            self._tell(exc)
            return False
        return True

    async def _register(self) -> Registration:
        request = self._describe()
        answer = await self._hub.register(request)
        keys = _keys_of(answer)
        if self._registration is not None and _place(answer) != _place(self._registration):
            log.error("grid_moved", hint="the hub names another broker, prefix or heartbeat than before")
            self._on_moved()
            return answer
        models = frozenset(ModelId(model) for model in (request.models if answer.models is None else answer.models))
        has_news = models != self._models or self._is_revoked
        if has_news and (refused := set(request.models) - models):
            log.warning("models_refused", models=sorted(refused), hint="the hub lets this provider serve the others")
        self._registration, self._asked, self._keys, self._models = answer, request, keys, models
        self._is_revoked, self._was_refused = False, None
        log.debug("registered", node=answer.node, models=sorted(models), keys=[name for name, _ in keys.keys])
        if has_news:
            self.changed.set()
        self._renewed.set()  # for those who wait now
        self._renewed.clear()
        if has_news:
            self._on_renewed()
        return answer

    def _revoke(self, error: RegistrationRefused) -> None:
        if not self._is_revoked:
            self._is_revoked, self._models = True, frozenset()
            log.error("token_revoked", error=str(error), hint="it is asked for again now and then")
            self._on_revoked()

    def _tell(self, error: HubError) -> None:
        """Log trouble when it begins or changes, and now and then: a hub may be away for days."""
        now_s = asyncio.get_running_loop().time()
        is_refused = isinstance(error, RegistrationRefused)
        if is_refused is not self._was_refused or now_s >= self._tell_at_s:
            self._was_refused, self._tell_at_s = is_refused, now_s + TELL_AGAIN_S
            log.warning("registration_refused" if is_refused else "hub_unavailable", doing="register", error=str(error))


def _jittered(seconds: float) -> float:
    """A little less at random: nodes that were started together are not to register together for ever."""
    return seconds * random.uniform(0.8, 1.0)  # noqa: S311 - jitter, not a secret


def _gist(request: RegistrationRequest) -> tuple[object, ...]:
    """What a hub must hear at once; the order of models says only which are loaded."""
    return frozenset(request.models), request.slots


def _place(registration: Registration) -> tuple[object, ...]:
    """What cannot change under a running process."""
    has_user = registration.password is not None
    return registration.redis_url, registration.prefix, registration.heartbeat_s, has_user


def _keys_of(registration: Registration) -> SigningKeys:
    try:
        return SigningKeys.parse(SecretStr(",".join(registration.signing_keys)), "the hub's signing keys")
    except SettingsError as exc:
        raise HubRefused(str(exc)) from exc
