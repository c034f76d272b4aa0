"""Membership: when a provider registers, what it makes of each answer, and that trouble at its hub hurts nobody."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from common.errors import BrokerDenied, BrokerUnavailable, LaneMissing
from common.registration import Registration, RegistrationRequest
from common.report import EngineReport
from common.signing import SigningKeys
from provider.errors import HubRefused, HubUnreachable, NameTaken, RegistrationRefused
from provider.membership import membership
from provider.membership.hub_client import HubClient
from provider.membership.membership import Membership
from provider.settings import ProviderSettings, ReportSettings
from tests.support.ports import free_port
from tests.unit.engine_server import Said, Server, serving

REGISTER = "/api/provider/register"
SECRET = "0123456789abcdef"
GIVEN: dict[str, Any] = {
    "node": "desk",
    "heartbeat_s": 2,
    "prefix": "ghub:",
    "redis_url": "redis://127.0.0.1:6379/0",
    "username": "ghub:provider:desk",
    "password": "first-password",
    "signing_keys": [f"k1:{SECRET}"],
    "renew_s": 3600,
}


def refusal(status: int, code: str, message: str = "no") -> Said:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return Said({"error": error}, status)


WRONG_TOKEN = refusal(401, "invalid_token")


@dataclass
class Story:
    """A provider's membership and its hub, as a test has them."""

    hub: Server
    membership: Membership
    models: list[str]
    slots: list[int]
    """The one number of them."""
    events: list[str]
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    waits: list[str] = field(default_factory=list)

    @property
    def asked(self) -> list[dict[str, Any]]:
        return [orjson.loads(one.body) for one in self.hub.asked]

    async def join(self) -> Registration | None:
        return await self.membership.join(self.stop, self.waits.append)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.005)


@asynccontextmanager
async def story(answer: object = GIVEN, own_keys: str = "") -> AsyncIterator[Story]:
    """A provider that has not joined yet, at a hub that answers so."""
    models, slots, events = ["tiny:1b"], [4], list[str]()
    async with serving({REGISTER: answer}) as server:
        settings = ProviderSettings(name="desk", hub_url=server.url, token="t", report=ReportSettings(timeout_s=5))
        async with HubClient(settings) as hub:
            one = Membership(
                hub,
                lambda: RegistrationRequest(
                    name="desk", models=tuple(models), slots=slots[0], engine=EngineReport(kind="ollama")
                ),
                own_keys=SigningKeys.parse(SecretStr(own_keys)),
                on_renewed=lambda: events.append("renewed"),
                on_revoked=lambda: events.append("revoked"),
                on_moved=lambda: events.append("moved"),
            )
            yield Story(server, one, models, slots, events)


@asynccontextmanager
async def member(own_keys: str = "", **given: Any) -> AsyncIterator[Story]:
    """A provider that has joined and keeps its membership."""
    async with story({**GIVEN, **given}, own_keys) as told:
        await told.join()
        running = asyncio.create_task(told.membership.run())
        try:
            yield told
            assert not running.done()
        finally:
            running.cancel()
            await asyncio.wait([running])


class TestJoin:
    async def test_what_the_hub_gives_is_what_counts(self) -> None:
        async with story() as told:
            registration = await told.join()
            assert registration is not None
            assert registration.redis_url == GIVEN["redis_url"]
            assert told.membership.credentials() == ("ghub:provider:desk", "first-password")
            assert told.membership.signing == SigningKeys((("k1", SECRET.encode()),))
            assert set(told.membership.models) == {"tiny:1b"}
            assert told.hub.asked[0].headers["Authorization"] == "Bearer t"
            assert told.asked[0]["models"] == ["tiny:1b"]

    async def test_models_that_the_hub_leaves_out_are_not_served(self) -> None:
        async with story({**GIVEN, "models": []}) as told:
            await told.join()
            assert set(told.membership.models) == set()

    async def test_a_key_that_was_set_here_counts_in_place_of_the_hub_s(self) -> None:
        async with story(own_keys="mine:fedcba9876543210") as told:
            await told.join()
            assert [name for name, _ in told.membership.signing.keys] == ["mine"]

    async def test_a_hub_in_trouble_is_asked_again(self) -> None:
        async with story(refusal(503, "broker_away", "the broker does not answer")) as told:
            joining = asyncio.create_task(told.join())
            await told.until(lambda: len(told.waits) == 1)
            assert "the broker does not answer" in told.waits[0]
            told.hub.answers[REGISTER] = GIVEN
            assert await asyncio.wait_for(joining, 5) is not None

    async def test_a_stop_ends_the_wait(self) -> None:
        async with story(Said(status=503)) as told:
            joining = asyncio.create_task(told.join())
            await told.until(lambda: len(told.waits) == 1)
            told.stop.set()
            assert await asyncio.wait_for(joining, 1) is None

    @pytest.mark.parametrize(
        "answer", [WRONG_TOKEN, refusal(409, "node_taken"), Said(b"404 page not found", 404), refusal(400, "bad")]
    )
    async def test_a_no_that_asking_again_cannot_change_ends_it(self, answer: Said) -> None:
        async with story(answer) as told:
            with pytest.raises(RegistrationRefused, match=f"^{told.hub.url} does not let 'desk' in: "):
                await told.join()
            assert len(told.hub.asked) == 1

    async def test_a_name_is_waited_for_as_long_as_its_holder_may_be_dead(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(membership, "NAME_LOOK_S", 0.02)
        async with story(refusal(409, "name_taken", "another one is running")) as told:
            joining = asyncio.create_task(told.join())
            await told.until(lambda: len(told.waits) == 2)
            told.hub.answers[REGISTER] = GIVEN
            assert await asyncio.wait_for(joining, 5) is not None

    async def test_and_no_longer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(membership, "NAME_WAIT_S", 0.05)
        async with story(refusal(409, "name_taken", "another one is running")) as told:
            with pytest.raises(NameTaken, match=r"another one is running.*choose a --name"):
                await asyncio.wait_for(told.join(), 5)

    @pytest.mark.parametrize(
        "answer", [{}, {**GIVEN, "redis_url": None}, Said(b"<html>"), {**GIVEN, "signing_keys": ["k1:short"]}]
    )
    async def test_an_answer_that_is_no_registration_is_refused_without_showing_it(self, answer: object) -> None:
        async with story(answer) as told:
            with pytest.raises(HubRefused) as refused:
                await told.join()
            assert "first-password" not in str(refused.value)
            assert refused.value.__cause__ is None or "first-password" not in str(refused.value.__cause__)

    async def test_secrets_are_in_no_log(self) -> None:
        with capture_logs() as logs:
            async with member() as told:
                await told.membership.mend(BrokerDenied("no"), 5)
        assert SECRET not in str(logs)
        assert "first-password" not in str(logs)


class TestRenewal:
    async def test_it_is_renewed_when_its_time_has_come(self) -> None:
        async with member(renew_s=0.1) as told:
            await told.hub.asked_again(REGISTER, 1)

    async def test_a_new_model_is_registered_at_once_and_then_told(self) -> None:
        async with member() as told:
            told.models.append("other:2b")
            await told.membership.refresh()
            await told.until(lambda: told.events == ["renewed", "renewed"])
            assert set(told.membership.models) == {"tiny:1b", "other:2b"}

    async def test_so_is_another_number_of_slots(self) -> None:
        async with member() as told:
            told.slots[:] = [8]
            await told.membership.refresh()
            await told.until(lambda: [one["slots"] for one in told.asked] == [4, 8])

    async def test_another_order_of_models_is_no_reason(self) -> None:
        async with member() as told:
            told.models.append("other:2b")
            await told.membership.refresh()
            await told.until(lambda: len(told.events) == 2)
            told.models.reverse()
            await told.membership.refresh()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await told.hub.asked_again(REGISTER, 1)

    async def test_nothing_new_is_no_reason(self) -> None:
        async with member() as told:
            await told.membership.refresh()
            told.models.append("other:2b")
            await told.membership.refresh()
            await told.until(lambda: len(told.events) == 2)
            assert len(told.asked) == 2

    async def test_a_hub_that_is_away_is_asked_again_and_what_was_given_stays(self) -> None:
        async with member() as told:
            told.hub.answers[REGISTER] = Said(status=502)
            told.models.append("other:2b")
            await told.membership.refresh()
            await told.hub.asked_again(REGISTER, 2)
            assert told.membership.credentials()[1] == "first-password"
            assert set(told.membership.models) == {"tiny:1b"}
            told.hub.answers[REGISTER] = GIVEN
            await told.until(lambda: "other:2b" in told.membership.models)

    @pytest.mark.parametrize("error", [BrokerDenied("WRONGPASS"), LaneMissing("NOGROUP")])
    async def test_a_broker_that_has_forgotten_us_is_a_reason_at_once(self, error: Exception) -> None:
        async with member() as told:
            told.hub.answers[REGISTER] = {**GIVEN, "password": "second-password"}
            async with asyncio.timeout(5):
                await told.membership.mend(error, 60)  # type: ignore[arg-type]  # both are
            assert told.membership.credentials()[1] == "second-password"

    async def test_a_broker_that_is_away_is_none(self) -> None:
        async with member() as told:
            await told.membership.mend(BrokerUnavailable("away"), 0.01)
            assert len(told.asked) == 1

    async def test_who_waits_for_a_renewal_waits_no_longer_than_it_wants(self) -> None:
        async with member() as told:
            told.hub.answers[REGISTER] = Said(is_late=True)
            async with asyncio.timeout(5):
                await told.membership.mend(BrokerDenied("NOPERM"), 0.05)

    async def test_a_crowd_that_asks_is_one_call(self) -> None:
        async with member() as told:
            async with asyncio.timeout(10):
                await asyncio.gather(*(told.membership.mend(BrokerDenied("NOPERM"), 60) for _ in range(50)))
            assert len(told.asked) == 2

    async def test_renewals_that_do_not_help_come_ever_more_slowly(self) -> None:
        async with member() as told:
            loop = asyncio.get_running_loop()
            pauses = []
            for _ in range(4):
                began = loop.time()
                await told.membership.mend(BrokerDenied("NOPERM"), 60)
                pauses.append(loop.time() - began)
            assert pauses[3] > 0.4 > pauses[0]

    @pytest.mark.parametrize("news", [{"prefix": "lab:"}, {"heartbeat_s": 9}, {"username": None, "password": None}])
    async def test_another_grid_than_before_is_told(self, news: dict[str, object]) -> None:
        async with member() as told:
            told.hub.answers[REGISTER] = {**GIVEN, "models": ["other:1b"], **news}
            await told.membership.mend(BrokerDenied("NOPERM"), 0.1)
            await told.until(lambda: "moved" in told.events)
            assert told.membership.credentials()[1] == "first-password"
            assert told.membership.models == {"tiny:1b"}, "nothing of the other grid counts"


class TestKeys:
    async def test_a_key_that_is_not_known_is_asked_for(self) -> None:
        async with member() as told:
            told.hub.answers[REGISTER] = {**GIVEN, "signing_keys": [f"k2:{SECRET}", f"k1:{SECRET}"]}
            async with asyncio.timeout(5):
                await told.membership.learn_key("k2")
            assert [name for name, _ in told.membership.signing.keys] == ["k2", "k1"]

    async def test_one_that_the_hub_does_not_know_either_is_not_asked_for_again_at_once(self) -> None:
        async with member() as told:
            await told.membership.learn_key("forged")
            async with asyncio.timeout(10):
                for _ in range(100):
                    await told.membership.learn_key("forged")
            assert len(told.asked) == 2

    async def test_nor_after_the_gap_that_other_keys_must_keep(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(membership, "KEY_GAP_S", 0)
        async with member() as told:
            async with asyncio.timeout(10):
                for _ in range(100):
                    await told.membership.learn_key("forged")
            assert len(told.asked) == 2

    async def test_forged_jobs_of_many_keys_are_one_question_in_a_while(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(membership, "KEY_GAP_S", 60)
        async with member() as told:
            async with asyncio.timeout(10):
                for n in range(100):
                    await told.membership.learn_key(f"forged-{n}")
            assert len(told.asked) == 2

    async def test_where_a_key_was_set_nobody_is_asked(self) -> None:
        async with member(own_keys="mine:fedcba9876543210") as told:
            async with asyncio.timeout(2):
                await told.membership.learn_key("k2")
            assert len(told.asked) == 1


class TestRevocation:
    async def test_a_token_that_is_taken_back_is_told_once_and_asked_for_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(membership, "REVOKED_RETRY_S", 0.05)
        with capture_logs() as logs:
            async with member() as told:
                told.hub.answers[REGISTER] = WRONG_TOKEN
                await told.membership.mend(BrokerDenied("WRONGPASS"), 0.01)
                await told.hub.asked_again(REGISTER, 3)
                assert told.events == ["renewed", "revoked"]
                told.hub.answers[REGISTER] = GIVEN
                await told.until(lambda: told.events == ["renewed", "revoked", "renewed"])
        assert [one["event"] for one in logs].count("token_revoked") == 1

    async def test_a_revoked_provider_is_in_no_hurry(self) -> None:
        async with member() as told:
            told.hub.answers[REGISTER] = WRONG_TOKEN
            await told.membership.mend(BrokerDenied("WRONGPASS"), 0.01)
            await told.until(lambda: "revoked" in told.events)
            for _ in range(20):
                await told.membership.mend(BrokerDenied("WRONGPASS"), 0.01)
            assert len(told.asked) == 2
            assert not told.membership.models


async def test_a_hub_that_is_not_there_is_unreachable() -> None:
    settings = ProviderSettings(name="desk", hub_url=f"http://127.0.0.1:{free_port()}", token="t")
    request = RegistrationRequest(name="desk", engine=EngineReport(kind="ollama"))
    async with HubClient(settings) as hub:
        with pytest.raises(HubUnreachable):
            await hub.register(request)
