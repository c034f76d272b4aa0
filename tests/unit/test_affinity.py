"""Who is near: how conversations are recognised, and which node a job is set aside for."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.records.grid import NodeRecord
from common.signing import SigningKeys
from common.types import KeyId, ModelId, NodeId, NodeState, RequestId
from common.wire import Job
from hub.affinity.affinity import LOOKED_AT, ModelNodes, choose_warm
from hub.affinity.free_slots import SAID_LATE_S, FreeSlots
from hub.affinity.opening import MOST_WINDOWS, NEWEST, WINDOW_BYTES, Opening, opening_of
from hub.affinity.rota import CROWD, LATE_S, LOOKED_AT_MOST, Rota
from hub.affinity.rota import LOOKED_AT as LOOKED_AT_ROOM
from tests.support import golden

SIGNING = SigningKeys((("k1", b"a-secret-of-the-grid"),))
MODEL = ModelId("llama3.2:1b")
OTHERS = SigningKeys()
ME, OTHER = KeyId("me"), KeyId("other")
IDLE = replace(golden.NODE, state=NodeState.IDLE, reasons=(), requests=(), near=1)
R1, R2 = RequestId("1" * 32), RequestId("2" * 32)


def job(body: bytes, endpoint: str = "/v1/chat/completions", model: ModelId = MODEL) -> Job:
    return replace(golden.JOBS[0], body=body, endpoint=endpoint, model=model)


def talk(*said: str) -> bytes:
    """A chat as OpenAI's SDK sends it."""
    return orjson.dumps({"messages": [{"role": "user", "content": text} for text in said], "model": MODEL})


def opening(
    body: bytes, key: KeyId | None = ME, signing: SigningKeys = SIGNING, min_bytes: int = 2048, **fields: Any
) -> Opening | None:
    return opening_of(job(body, **fields), key, signing, min_bytes)


def marks(body: bytes, **options: Any) -> Sequence[str]:
    found = opening(body, **options)
    assert found is not None
    return found.marks


LONG = "all work and no play " * 500


def texts(least: int, most: int) -> st.SearchStrategy[str]:
    """Long ones out of few choices: of many Hypothesis gives up now and then."""
    return st.builds(
        lambda seed, letters, size: "".join(Random(seed).choices(letters, k=size)),
        st.integers(0),
        st.text(min_size=1, max_size=30),
        st.integers(least, most),
    )


class TestOpenings:
    @given(texts(3000, 20_000), texts(0, 9000))
    def test_a_follow_up_is_asked_for_by_what_was_kept_of_the_turn_before(self, first: str, then: str) -> None:
        before, after = opening(talk(first)), opening(talk(first, "an answer", then))
        assert before is not None
        assert after is not None
        common = len(before.marks) - 1  # the last window may end behind the first turn
        assert list(before.marks[:common]) == list(after.marks[:common])

    def test_what_is_asked_finds_the_longest_of_what_was_kept(self) -> None:
        before, after = opening(talk(LONG)), opening(talk(LONG, "yes", LONG[:5000]))
        assert before is not None
        assert after is not None
        kept = set(before.to_keep())
        found = [mark for mark in after.to_ask() if mark in kept]
        assert found[0] == before.marks[-1]

    def test_little_is_kept_and_asked_of_however_long_a_conversation(self) -> None:
        found = opening(talk("x" * 10_000_000))
        assert found is not None
        assert len(found.marks) == MOST_WINDOWS - 1
        assert len(found.to_keep()) <= 9
        assert len(found.to_ask()) <= NEWEST + 9

    @pytest.mark.parametrize("size", [0, 10, 1000, 2000])
    def test_short_ones_are_all_the_same(self, size: int) -> None:
        assert opening(b'{"messages":"' + b"x" * (size - 13)) is None

    def test_from_the_least_length_on_they_count(self) -> None:
        body = b'{"messages":' + b"x" * (2 * WINDOW_BYTES - 11)
        assert len(marks(body)) == 1
        assert opening(body, min_bytes=2049) is None
        assert len(marks(body, min_bytes=1)) == 2

    @pytest.mark.parametrize(
        "other", [{"key": OTHER}, {"key": None}, {"model": ModelId("m")}, {"signing": SigningKeys()}]
    )
    def test_clients_models_and_grids_have_nothing_in_common(self, other: dict[str, Any]) -> None:
        assert set(marks(talk(LONG))).isdisjoint(marks(talk(LONG), **other))

    def test_digests_tell_nothing(self) -> None:
        assert all(len(mark) == 24 and int(mark, 16) >= 0 for mark in marks(talk(LONG)))

    @pytest.mark.parametrize(
        ("endpoint", "member", "counts"),
        [
            ("/v1/chat/completions", "messages", True),
            ("/api/chat", "messages", True),
            ("/v1/messages", "messages", True),
            ("/v1/completions", "prompt", True),
            ("/api/generate", "prompt", True),
            ("/v1/responses", "input", True),
            ("/v1/embeddings", "input", False),
            ("/api/embed", "input", False),
            ("/v1/messages/count_tokens", "messages", False),
            ("/v1/chat/completions", "prompt", False),
        ],
    )
    def test_each_api_has_its_conversation_in_its_own_place(self, endpoint: str, member: str, *, counts: bool) -> None:
        bodies = [orjson.dumps({"model": name, member: LONG, "n": 1}) for name in ("short", "a-longer-name")]
        found = [opening(body, endpoint=endpoint) for body in bodies]
        assert [one is not None for one in found] == [counts] * 2
        if found[0] is not None and found[1] is not None:
            assert found[0].marks[:-1] == found[1].marks[:-1]

    @given(st.binary(max_size=5000))
    def test_whatever_the_body_it_has_an_opening_or_none(self, body: bytes) -> None:
        opening(b'"messages"' + body)


class TestFreeSlots:
    def test_what_a_node_says_counts(self) -> None:
        slots = FreeSlots()
        assert slots.of(IDLE) == 4
        assert slots.of(replace(IDLE, requests=(R1,))) == 3
        assert slots.of(replace(IDLE, state=NodeState.BUSY, slots=1, requests=(R1,))) == 0

    @pytest.mark.parametrize("state", [NodeState.PAUSED, NodeState.DRAINING])
    def test_a_node_that_takes_no_work_has_none(self, state: NodeState) -> None:
        assert FreeSlots().of(replace(IDLE, state=state)) == 0
        assert FreeSlots().of(replace(IDLE, reasons=("gpu-busy",))) == 0

    def test_one_that_others_use_has_none(self) -> None:
        assert FreeSlots().of(replace(IDLE, state=NodeState.BUSY, requests=(R1,))) == 0

    def test_what_this_hub_knows_counts_before_the_node_says_it(self) -> None:
        slots, busy = FreeSlots(), replace(IDLE, slots=1)
        slots.take(R1, busy.node)
        assert slots.of(busy) == 0
        assert slots.of(replace(busy, slots=2, requests=(R1,))) == 1, "it is the same request"
        slots.leave(R1)
        assert slots.of(busy) == 1

    def test_what_ended_here_is_over_though_its_node_still_says_it(self) -> None:
        now = 100.0
        slots, busy = FreeSlots(lambda: now), replace(IDLE, slots=1, state=NodeState.BUSY, requests=(R1,))
        slots.take(R1, busy.node)
        slots.end(R1)
        assert slots.of(busy) == 1
        now += SAID_LATE_S + 1
        assert slots.of(busy) == 0, "it says so for too long"

    def test_a_request_is_at_one_node(self) -> None:
        slots, one, other = FreeSlots(), replace(IDLE, slots=1), replace(IDLE, slots=1, node=NodeId("other"))
        slots.take(R1, one.node)
        slots.take(R1, other.node)
        assert [slots.of(node) for node in (one, other)] == [1, 0]
        slots.end(R2)
        assert slots.of(other) == 0


class TestWarm:
    def node(self, name: str, **fields: Any) -> NodeRecord:
        return replace(IDLE, node=NodeId(name), **{"loaded": (), **fields})

    def chosen(self, *nodes: NodeRecord) -> str | None:
        near = choose_warm(ModelNodes.sort(nodes, MODEL, 0), FreeSlots())
        return None if near is None else near.node

    def test_where_all_are_the_same_nobody_is_near(self) -> None:
        assert self.chosen(self.node("a"), self.node("b")) is None
        assert self.chosen(self.node("a", loaded=(MODEL,)), self.node("b", loaded=(MODEL,))) is None
        assert self.chosen() is None

    def test_the_one_with_the_model_loaded_is_near(self) -> None:
        assert self.chosen(self.node("a"), self.node("b", loaded=(MODEL,)), self.node("c")) == "b"

    def test_of_several_that_with_the_most_free_slots(self) -> None:
        warm = [self.node(f"n{slots}", loaded=(MODEL,), slots=slots) for slots in (1, 7, 3)]
        assert self.chosen(self.node("cold"), *warm) == "n7"

    def test_one_of_a_former_version_cannot_be_meant(self) -> None:
        assert self.chosen(self.node("a"), self.node("b", loaded=(MODEL,), near=0)) is None

    def test_one_without_a_free_slot_is_not_meant_nor_compared_with(self) -> None:
        cold, warm = self.node("cold"), self.node("warm", loaded=(MODEL,))
        full: dict[str, Any] = {"state": NodeState.BUSY, "requests": (R1, R2), "slots": 2}
        assert self.chosen(cold, replace(warm, **full)) is None
        assert self.chosen(replace(cold, **full), warm) is None

    def test_of_very_many_one_is_found(self) -> None:
        nodes = [self.node(f"n{n}", loaded=(MODEL,) if n % 2 else ()) for n in range(100 * LOOKED_AT)]
        assert self.chosen(*nodes) is not None


class TestTurns:
    MANY = tuple(replace(IDLE, node=NodeId(f"n{number:02}"), slots=2) for number in range(2 * CROWD))

    def named(self, rota: Rota, nodes: Sequence[NodeRecord], times: int, slots: FreeSlots | None = None) -> list[str]:
        slots = slots or FreeSlots()
        found = [rota.choose(MODEL, nodes, slots) for _ in range(times)]
        return [node.node for node in found if node is not None]

    def test_each_of_many_is_named_once_before_one_is_named_again(self) -> None:
        named = self.named(Rota(), self.MANY, len(self.MANY))
        assert sorted(named) == sorted(node.node for node in self.MANY)

    def test_of_few_nobody_is_named(self) -> None:
        assert self.named(Rota(), self.MANY[: CROWD - 1], 5) == []

    def test_one_that_has_all_of_its_slots_free_comes_before_one_that_has_some(self) -> None:
        slots, nodes = FreeSlots(), self.MANY[:CROWD]
        for number, node in enumerate(nodes[: LOOKED_AT_ROOM - 1]):
            slots.take(RequestId(f"{number:032}"), node.node)
        free = {node.node for node in nodes[LOOKED_AT_ROOM - 1 :]}
        assert set(self.named(Rota(), nodes, 3 * CROWD, slots)) == free

    def test_full_ones_and_those_of_former_versions_are_passed_over(self) -> None:
        nodes = [replace(node, near=number % 2) for number, node in enumerate(self.MANY)]
        nodes[1::4] = [replace(node, state=NodeState.PAUSED) for node in nodes[1::4]]
        assert set(self.named(Rota(), nodes, len(nodes))) == {node.node for node in nodes[3::4]}

    def test_where_none_is_seen_to_be_free_the_next_look_is_at_others(self) -> None:
        many = [
            replace(IDLE, node=NodeId(f"p{number}"), state=NodeState.PAUSED) for number in range(4 * LOOKED_AT_MOST)
        ]
        named = self.named(Rota(), [*many, self.MANY[-1]], 5)
        assert set(named) == {self.MANY[-1].node}
        assert len(named) == 1, "where it is soon seen again is a matter of chance, but not at once"

    def test_one_that_is_passed_over_for_another_with_more_room_keeps_its_turn(self) -> None:
        slots, rota = FreeSlots(), Rota()
        (first,) = self.named(rota, self.MANY, 1)
        others = [node.node for node in self.MANY if node.node != first]
        for number, name in enumerate(others):
            slots.take(RequestId(f"{number:032}"), NodeId(name))
        named = self.named(rota, self.MANY, len(self.MANY), slots)
        assert set(named) >= set(others)

    def test_nodes_that_come_and_go_leave_the_others_in_their_order(self) -> None:
        rota = Rota()
        before = self.named(rota, self.MANY, len(self.MANY))
        fewer = self.MANY[:-4]
        gone = {node.node for node in self.MANY[-4:]}
        assert self.named(rota, fewer, len(fewer)) == [name for name in before if name not in gone]
        assert {*self.named(rota, self.MANY, len(self.MANY))} == {node.node for node in self.MANY}

    def test_one_that_let_a_job_lie_is_passed_over_for_a_while(self) -> None:
        now_s = 100.0
        rota = Rota(lambda: now_s)
        rota.late(self.MANY[3].node)
        assert self.MANY[3].node not in self.named(rota, self.MANY, 2 * len(self.MANY))
        now_s += LATE_S
        assert self.MANY[3].node in self.named(rota, self.MANY, len(self.MANY))
