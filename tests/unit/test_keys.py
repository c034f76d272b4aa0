"""Key names: each subject has its own, what goes together shares a Cluster slot, and foreign keys are told apart."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

import common.keys
from common.keys import Keys
from common.streams.jobs import LaneName, lanes_of
from common.types import HubId, Lane, ModelId, NodeId, RequestId
from tests.support.processes import PROJECT

KEYS = Keys()
NASTY_MODELS = [
    "{other}",
    "}{",
    "{}",
    "a{b}c",
    "interactive:tiny",
    "retry:",
    "waiting:batch:m",
    "lanes",
    "hf.co/org/Model-GGUF:Q4_K_M",
    "two words",
    "line\nbreak",
    "glob*?[a-z]^",
    "back\\slash",
    "naïve-模型-🦙",
    '"; DROP TABLE',
    " ",
]
MODELS = st.text(min_size=1, max_size=30).map(ModelId)
WORDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
HUBS = WORDS.map(HubId)
REQUESTS = WORDS.map(RequestId)
PREFIXES = st.from_regex(r"[^{}\s]{1,12}", fullmatch=True)


class TestSlots:
    @pytest.mark.parametrize("model", NASTY_MODELS)
    def test_all_lanes_of_all_models_share_the_slot_of_the_jobs(self, model: str) -> None:
        slots = {key_slot(key.encode()) for key in job_keys(KEYS, ModelId(model))}
        assert slots == {key_slot(b"jobs")}

    @given(PREFIXES, MODELS)
    def test_whatever_the_prefix_and_the_model(self, prefix: str, model: ModelId) -> None:
        assert {key_slot(key.encode()) for key in job_keys(Keys(prefix), model)} == {key_slot(b"jobs")}

    @given(HUBS, REQUESTS, REQUESTS)
    def test_a_hub_has_its_doorbell_and_all_its_replies_in_one_slot(
        self, hub: HubId, one: RequestId, two: RequestId
    ) -> None:
        keys = [KEYS.doorbell(hub), KEYS.reply(hub, one), KEYS.reply(hub, two)]
        assert {key_slot(key.encode()) for key in keys} == {key_slot(hub.encode())}

    def test_hubs_spread_over_the_shards(self) -> None:
        slots = {key_slot(KEYS.reply(HubId(f"hub-{n}"), RequestId("1")).encode()) for n in range(100)}
        assert len(slots) > 90


class TestNames:
    def test_every_subject_has_its_own_key(self) -> None:
        models = [ModelId(model) for model in NASTY_MODELS]
        lanes = [key for model in models for key in job_keys(KEYS, model)[:-1]]
        others = [KEYS.lanes, KEYS.nodes, KEYS.dead, KEYS.node(NodeId("n")), KEYS.hub(HubId("n"))]
        others += [KEYS.control(NodeId("n")), KEYS.request(RequestId("n")), KEYS.doorbell(HubId("n"))]
        others += [KEYS.reply(HubId("n"), RequestId("n"))]
        assert len({*lanes, *others}) == len(lanes) + len(others)

    @given(st.lists(st.tuples(st.sampled_from(Lane), MODELS), unique=True, max_size=6))
    def test_no_two_lanes_share_a_key(self, names: list[tuple[Lane, ModelId]]) -> None:
        keys = {key for name in names for key in (KEYS.lane(*name), KEYS.waiting(*name))}
        assert len(keys) == 2 * len(names)

    @given(PREFIXES, WORDS)
    def test_all_stay_under_the_prefix(self, prefix: str, word: str) -> None:
        keys = Keys(prefix)
        made = [*job_keys(keys, ModelId(word)), keys.nodes, keys.dead, keys.node(NodeId(word)), keys.hub(HubId(word))]
        made += [keys.reply(HubId(word), RequestId(word)), keys.doorbell(HubId(word)), keys.control(NodeId(word))]
        assert all(key.startswith(prefix) for key in [*made, keys.request(RequestId(word))])

    @given(st.sampled_from(Lane), MODELS)
    def test_a_lane_name_is_read_back_whatever_the_model(self, lane: Lane, model: ModelId) -> None:
        assert LaneName.parse(str(LaneName(lane, model)).encode()) == LaneName(lane, model)

    def test_the_design_s_names_are_kept(self) -> None:
        """People and scripts look at these with redis-cli."""
        hub, request, node, model = HubId("h"), RequestId("r"), NodeId("n"), ModelId("m:1b")
        assert KEYS.lane(Lane.INTERACTIVE, model) == "ghub:{jobs}:interactive:m:1b"
        assert KEYS.lanes == "ghub:{jobs}:lanes"
        assert KEYS.request(request) == "ghub:request:r"
        assert KEYS.reply(hub, request) == "ghub:reply:{h}:r"
        assert KEYS.doorbell(hub) == "ghub:doorbell:{h}"
        assert (KEYS.node(node), KEYS.nodes) == ("ghub:node:n", "ghub:nodes")
        assert (KEYS.hub(hub), KEYS.control(node), KEYS.dead) == ("ghub:hub:h", "ghub:control:n", "ghub:dead")


class TestDoorbellOf:
    @given(PREFIXES, HUBS, REQUESTS)
    def test_finds_the_bell_of_the_hub_that_asked(self, prefix: str, hub: HubId, request: RequestId) -> None:
        keys = Keys(prefix)
        assert keys.doorbell_of(keys.reply(hub, request)) == keys.doorbell(hub)

    @pytest.mark.parametrize(
        "key",
        [
            "",
            "ghub:nodes",
            "ghub:dead",
            "ghub:{jobs}:interactive:m",
            "ghub:doorbell:{h}",
            "ghub:control:n",
            "ghub:reply:h:r",
            "ghub:reply:{h}",
            "ghub:reply:{h}:",
            "ghub:reply:{}:r",
            "ghub:reply:{h:r",
            "ghub:reply:h}:r",
            "GHUB:reply:{h}:r",
            "other:reply:{h}:r",
            " ghub:reply:{h}:r",
            "reply:{h}:r",
        ],
    )
    def test_a_job_can_point_at_nothing_but_a_reply(self, key: str) -> None:
        """The provider writes where a job says: were this any key, a job could overwrite any."""
        with pytest.raises(ValueError, match="no reply key"):
            KEYS.doorbell_of(key)

    @given(st.text(max_size=40))
    def test_any_other_text_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="no reply key"):
            KEYS.doorbell_of(text)

    def test_a_refused_key_is_not_told_at_length(self) -> None:
        with pytest.raises(ValueError, match="no reply key") as refusal:
            KEYS.doorbell_of("x" * 100_000)
        assert len(str(refusal.value)) < 200


def test_claims_look_through_urgent_lanes_of_all_models_before_less_urgent_ones() -> None:
    names = lanes_of(ModelId(model) for model in ("b", "a"))
    assert [str(name) for name in names] == [
        "retry:b",
        "retry:a",
        "interactive:b",
        "interactive:a",
        "batch:b",
        "batch:a",
    ]


def job_keys(keys: Keys, model: ModelId) -> list[str]:
    """Every key of one model's jobs, the set of lanes last."""
    return [*(keys.lane(lane, model) for lane in Lane), *(keys.waiting(lane, model) for lane in Lane), keys.lanes]


def test_the_document_and_the_module_tell_of_the_same_keys() -> None:
    """What a limit's keys are called behind its head is told in the document alone."""

    def told(text: str) -> set[str]:
        names = [name for row in re.findall(r"^\| (`ghub:.*?) \|", text, re.MULTILINE) for name in row.split("`")[1::2]]
        return {name.partition("{<key id>}")[0] for name in names if name.startswith("ghub:")}

    assert told((PROJECT / "docs/keyspace.md").read_text()) == told(common.keys.__doc__ or "")
