"""What a hub does for the requests of hubs that died, and that any number of them may do it at once."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace

import pytest

from common.broker.broker import Broker
from common.errors import BrokerUnavailable
from common.records.grid import HubRecord
from common.records.leftovers import Leftovers
from common.records.registry import Registry
from common.records.request_book import RequestBook
from common.streams.jobs import JobLanes
from common.streams.queues import Queues
from common.streams.requests import Requests
from common.types import HubId, RequestId
from common.wire import LAST_WORD
from hub.errors import BrokerAway
from hub.recovery.complaints import Complaints
from hub.recovery.endings import Endings
from hub.recovery.facts import Facts
from hub.recovery.orphans import HEARD_MS, Adopt, Orphans
from tests.contract.around import backstage
from tests.contract.story import HUB as DEAD
from tests.contract.story import KEYS, MODEL, NODE, TTLS, a_job, all_keys, claim_all, entries_of, hash_of, publish, raw
from tests.contract.test_registry import RECORD

HEIR, OTHER = HubId("hub-2"), HubId("hub-3")
R1 = RequestId("r1")


class Guards:
    """Takes requests over, or does not."""

    def __init__(self, *answers: bool | Exception) -> None:
        self.asked: list[tuple[RequestId, Facts]] = []
        self._answers = [*answers]

    async def adopt(self, request: RequestId, facts: Facts) -> bool:
        self.asked.append((request, facts))
        answer = self._answers.pop(0) if self._answers else True
        if isinstance(answer, Exception):
            raise answer
        return answer


async def orphans_of(
    broker: Broker,
    hub: HubId = HEIR,
    adopt: Adopt | None = None,
    endings: Endings | None = None,
    requests: Requests | None = None,
) -> Orphans:
    """What the reaper of a hub works with; it sees the nodes that are there now."""
    parts = {"requests": requests or Requests(broker, TTLS, hub), "endings": endings or Endings()}
    stage = backstage(broker, hub, **parts)
    await stage.view.refresh()
    adopt = adopt or Guards(False).adopt
    return Orphans(stage, KEYS, Leftovers(broker), RequestBook(broker), adopt, Complaints())


async def left_by_a_dead_hub(broker: Broker, name: str = "r1", **facts: str) -> None:
    """A request as its hub left it, with what it had written down of it; its job waits."""
    ticket = await publish(broker, name)
    known = {"lane": ticket.lane.lane.value, "entry": ticket.entry.decode(), "reply": a_job(name).reply}
    await raw(broker).hset(KEYS.request(RequestId(name)), mapping={**known, **facts})
    await Registry(broker).write_hub(HubRecord(DEAD, "", "", 0, 0, 1), 60_000)
    await raw(broker).delete(KEYS.hub(DEAD))


async def node_runs(broker: Broker, *names: str) -> None:
    await claim_all(broker)
    runs = tuple(map(RequestId, names))
    await Registry(broker).write_node(replace(RECORD, requests=runs, heartbeat_at=int(time.time() * 1000)), 60_000)


async def orders(broker: Broker) -> list[Mapping[bytes, bytes]]:
    return [fields for _, fields in await raw(broker).xrange(KEYS.control(NODE))]


async def open_keys(broker: Broker) -> set[str]:
    """Replies, lists of open requests, and waiting indexes that are not empty."""
    return {
        key for key in await all_keys(broker) if key.startswith(("ghub:reply:", "ghub:{open}:", "ghub:{jobs}:wait"))
    }


async def jobs_left(broker: Broker) -> int:
    loads = await Queues(broker).loads(sorted(await JobLanes(broker).known()))
    return sum(load.waiting + load.running for load in loads.values())


class TestPlainRequests:
    async def test_one_that_waits_is_gone_without_a_trace_and_told_as_lost(self, broker: Broker) -> None:
        await left_by_a_dead_hub(broker)
        await (await orphans_of(broker)).take_from(DEAD)
        assert await open_keys(broker) == set()
        assert await jobs_left(broker) == 0
        told = await hash_of(broker, KEYS.request(R1))
        assert (told["status"], told["error"], told["model"]) == ("failed", "hub_lost", MODEL)
        assert int(told["ended_at"]) > 0

    async def test_the_node_of_one_that_runs_is_told_to_stop(self, broker: Broker) -> None:
        await left_by_a_dead_hub(broker, status="streaming", node=NODE)
        await node_runs(broker, "r1")
        await (await orphans_of(broker)).take_from(DEAD)
        assert await orders(broker) == [{b"op": b"cancel", b"id": b"r1"}]
        assert await open_keys(broker) == set()

    async def test_a_node_is_told_though_the_dead_hub_had_not_heard_of_its_claim(self, broker: Broker) -> None:
        await left_by_a_dead_hub(broker, entry="")
        await node_runs(broker, "r1")
        await (await orphans_of(broker)).take_from(DEAD)
        assert [order[b"id"] for order in await orders(broker)] == [b"r1"]

    async def test_a_node_that_is_gone_itself_is_told_nothing(self, broker: Broker) -> None:
        await left_by_a_dead_hub(broker, status="claimed", node="long-gone", entry="")
        await (await orphans_of(broker)).take_from(DEAD)
        assert not [key for key in await all_keys(broker) if key.startswith("ghub:control:")]

    async def test_one_that_had_ended_keeps_its_end(self, broker: Broker) -> None:
        await left_by_a_dead_hub(broker, status="done", ended_at="7")
        await (await orphans_of(broker)).take_from(DEAD)
        told = await hash_of(broker, KEYS.request(R1))
        assert (told["status"], told["ended_at"], "error" in told) == ("done", "7", False)
        assert await open_keys(broker) == set()

    async def test_one_of_which_nothing_is_known_any_more_leaves_no_reply(self, broker: Broker) -> None:
        await left_by_a_dead_hub(broker)
        await raw(broker).delete(KEYS.request(R1))
        await (await orphans_of(broker)).take_from(DEAD)
        assert a_job("r1").reply not in await all_keys(broker)
        assert KEYS.request(R1) not in await all_keys(broker)

    @pytest.mark.parametrize("told", ["ghub:keys", "", "ghub:reply:{hub-1}:r2", "ghub:reply:{}:r1", "\x00"])
    async def test_no_other_key_is_deleted_because_a_hash_calls_it_the_reply(self, broker: Broker, told: str) -> None:
        await raw(broker).sadd(KEYS.keys, "somebody")
        await publish(broker, "r2")
        await raw(broker).srem(KEYS.open_requests(DEAD), "r2")
        await left_by_a_dead_hub(broker, reply=told)
        await (await orphans_of(broker)).take_from(DEAD)
        keys = await all_keys(broker)
        assert {KEYS.keys, a_job("r2").reply} <= keys
        assert a_job("r1").reply not in keys

    @pytest.mark.parametrize("odd", [{"lane": "express"}, {"entry": "x"}, {"status": "dancing"}, {"node": "\x00"}])
    async def test_facts_that_make_no_sense_do_not_keep_it_open(self, broker: Broker, odd: dict[str, str]) -> None:
        await left_by_a_dead_hub(broker, **odd)
        orphans = await orphans_of(broker)
        await orphans.take_from(DEAD)
        assert not {a_job("r1").reply, KEYS.open_requests(DEAD), KEYS.open_requests(HEIR)} & await all_keys(broker)
        assert [*orphans.taken] == []

    async def test_one_that_cannot_be_read_keeps_none_of_the_others_open(self, broker: Broker) -> None:
        for name in ("r1", "r2", "r3"):
            await left_by_a_dead_hub(broker, name)
        await raw(broker).delete(KEYS.request(RequestId("r2")))
        await raw(broker).set(KEYS.request(RequestId("r2")), "text")
        orphans = await orphans_of(broker)
        await orphans.take_from(DEAD)
        assert [*orphans.taken] == ["r2"]
        assert await Leftovers(broker).open_of(HEIR) == ["r2"]
        await raw(broker).delete(KEYS.request(RequestId("r2")))
        await orphans.deal()
        assert [*orphans.taken] == []
        assert await open_keys(broker) - {"ghub:{jobs}:waiting:interactive:tiny:1b"} == set()


class TestRequestsThatCanBeResumed:
    async def test_another_hub_goes_on_with_it_and_nothing_of_it_is_touched(self, broker: Broker) -> None:
        await left_by_a_dead_hub(broker, status="streaming", node=NODE, resumable="1")
        await node_runs(broker, "r1")
        guards = Guards()
        orphans = await orphans_of(broker, adopt=guards.adopt)
        await orphans.take_from(DEAD)
        ((request, facts),) = guards.asked
        assert (request, facts["status"], facts["reply"]) == ("r1", "streaming", a_job("r1").reply)
        assert await Leftovers(broker).open_of(HEIR) == ["r1"]
        assert (await orders(broker), await jobs_left(broker), [*orphans.taken]) == ([], 1, [])
        assert a_job("r1").reply in await all_keys(broker)

    @pytest.mark.parametrize("trouble", [BrokerUnavailable("away"), BrokerAway("away")], ids=type)
    async def test_where_the_broker_was_away_it_is_tried_again(self, broker: Broker, trouble: Exception) -> None:
        await left_by_a_dead_hub(broker, resumable="1")
        guards = Guards(trouble)
        orphans = await orphans_of(broker, adopt=guards.adopt)
        with pytest.raises(BrokerUnavailable):
            await orphans.take_from(DEAD)
        assert [*orphans.taken] == await Leftovers(broker).open_of(HEIR) == ["r1"]
        await orphans.deal()
        assert ([*orphans.taken], len(guards.asked)) == ([], 2)

    async def test_if_the_taker_dies_too_the_next_one_finds_it_there(self, broker: Broker) -> None:
        await left_by_a_dead_hub(broker, resumable="1")
        dying = await orphans_of(broker, adopt=Guards(BrokerUnavailable("away")).adopt)
        with pytest.raises(BrokerUnavailable):
            await dying.take_from(DEAD)
        guards = Guards()
        await (await orphans_of(broker, OTHER, guards.adopt)).take_from(HEIR)
        assert [request for request, _ in guards.asked] == ["r1"]
        assert await Leftovers(broker).open_of(OTHER) == ["r1"]

    @pytest.mark.parametrize("refusal", [False, ValueError("nonsense")], ids=str)
    async def test_one_that_cannot_be_gone_on_with_is_ended(self, broker: Broker, refusal: bool | Exception) -> None:
        await left_by_a_dead_hub(broker, resumable="1")
        await (await orphans_of(broker, adopt=Guards(refusal).adopt)).take_from(DEAD)
        assert await open_keys(broker) == {a_job("r1").reply}
        assert await jobs_left(broker) == 0
        ((entry_id, entry),) = await entries_of(broker, a_job("r1").reply)
        assert entry_id == str(LAST_WORD)
        assert entry.error is not None
        assert entry.error.code == (await hash_of(broker, KEYS.request(R1)))["error"] == "hub_lost"
        assert 0 < await raw(broker).pttl(a_job("r1").reply) <= HEARD_MS

    async def test_the_answer_of_one_that_had_ended_stays_for_who_comes_back(self, broker: Broker) -> None:
        await left_by_a_dead_hub(broker, resumable="1", status="done")
        guards = Guards()
        await (await orphans_of(broker, adopt=guards.adopt)).take_from(DEAD)
        assert a_job("r1").reply in await all_keys(broker)
        assert (guards.asked, await Leftovers(broker).open_of(HEIR)) == ([], [])


class TestRequestsThatHadEnded:
    """This hub has ended them, and the broker has forgotten it: a replica took over."""

    @pytest.mark.parametrize("facts", [{}, {"resumable": "1"}], ids=["plain", "resumable"])
    async def test_nobody_works_on_them_once_more(self, broker: Broker, facts: dict[str, str]) -> None:
        await left_by_a_dead_hub(broker, status="streaming", node=NODE, **facts)
        await claim_all(broker)
        now_s = 0.0
        endings = Endings(lambda: now_s)
        endings.note(R1, {"status": "done", "completion_tokens": 5}, None)
        now_s = 60.0
        guards = Guards()
        orphans = await orphans_of(broker, adopt=guards.adopt, endings=endings)
        await orphans.take_from(DEAD)
        assert (guards.asked, await Leftovers(broker).open_of(HEIR), await jobs_left(broker)) == ([], [], 0)
        written = await hash_of(broker, KEYS.request(R1))
        assert (written["status"], written["completion_tokens"]) == ("done", "5")
        told = [entry.error.code for _, entry in await entries_of(broker, a_job("r1").reply) if entry.error]
        assert told == (["hub_lost"] if facts else []), "who comes back for the answer hears that it is lost"


async def test_those_that_wait_are_called_off_before_a_running_one_frees_its_slot(broker: Broker) -> None:
    """Else the node that is told to stop takes one of them, for nobody."""
    for name in ("running", "also-running", *(f"waiting-{number}" for number in range(20))):
        is_running = not name.startswith("waiting")
        await left_by_a_dead_hub(broker, name, status="streaming" if is_running else "queued", node=NODE)
        if is_running:
            await claim_all(broker)

    left: list[int] = []

    class Watched(Requests):
        async def call_off(self, request, reply, ticket, node):  # type: ignore[no-untyped-def]
            if not request.startswith("waiting"):
                left.append(await jobs_left(broker))
            await super().call_off(request, reply, ticket, node)

    orphans = await orphans_of(broker, requests=Watched(broker, TTLS, HEIR))
    await orphans.take_from(DEAD)
    assert left == [2, 2]


async def test_several_hubs_at_once_deal_with_each_request_once(broker: Broker) -> None:
    names = [f"r{number}" for number in range(30)]
    for number, name in enumerate(names):
        await left_by_a_dead_hub(broker, name, status="streaming", node=NODE, resumable=str(number % 2))
    await node_runs(broker, *names)
    guards = Guards()
    reapers = [await orphans_of(broker, hub, guards.adopt) for hub in (HEIR, OTHER) * 2]
    await asyncio.gather(*(one.take_from(DEAD) for one in reapers))
    assert sorted(order[b"id"].decode() for order in await orders(broker)) == sorted(names[::2])
    assert sorted(request for request, _ in guards.asked) == sorted(names[1::2])
    assert await Leftovers(broker).open_of(DEAD) == []
