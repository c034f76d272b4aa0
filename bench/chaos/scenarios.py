"""The named runs: a grid, a load, a plan of faults, and what must be true afterwards."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.chaos import plans
from bench.chaos.client import Ask, Manner
from bench.chaos.faults import Action, Part
from bench.chaos.load import Wishes
from bench.chaos.plans import Plan
from bench.chaos.report import Demands
from bench.chaos.shape import BrokerKind

MIXED: Mapping[Manner, float] = {
    Manner.PLAIN: 4,
    Manner.RESUMING: 2,
    Manner.ATTACHING: 1,
    Manner.WHOLE: 1,
    Manner.SLOW: 1,
    Manner.LEAVING: 1,
}
STREAMS: Mapping[Manner, float] = {Manner.PLAIN: 3, Manner.RESUMING: 1}
RESUMABLE: Mapping[Manner, float] = {Manner.PLAIN: 1, Manner.RESUMING: 1, Manner.ATTACHING: 1}
STOCK: Mapping[Manner, float] = {Manner.PLAIN: 3, Manner.WHOLE: 1}
"""What clients do that know nothing of this project."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run."""

    name: str
    about: str
    plan: Plan
    demands: Demands = field(default_factory=Demands)
    manners: Mapping[Manner, float] = field(default_factory=lambda: STREAMS)
    tokens: int = 300
    heartbeat_s: float = 2.0
    broker: BrokerKind = BrokerKind.FORGETFUL
    env: Mapping[str, str] = field(default_factory=dict)
    is_steady: bool = False
    """Clients ask again and again, for as many minutes as the command says."""
    is_poisoned: bool = False
    """One more request kills whichever engine runs it; engines that die are started again."""
    is_keyed: bool = False
    """Clients show a key with limits."""
    has_front: bool = False
    """Clients ask a `ghub connect`."""
    counts_generations: bool = False
    """As many generations may begin as there are requests."""

    def wishes(self, gap_ms: float, tokens: int | None = None) -> Wishes:
        """What its clients ask for."""
        return Wishes(tokens or self.tokens, gap_ms, self.manners)


def poison(number: int, gap_ms: float) -> Ask:
    """The request that kills its engine before that says a word."""
    return Ask(number, Manner.PLAIN, tokens=50, gap_ms=gap_ms, double={"exit_after": 0})


QUICK_S = 0.5
NO_ERRORS = Demands(errors=0)
HASTY_DRAIN = {"GHUB_PROVIDER_DRAIN_TIMEOUT_S": "3"}
"""Less than an answer takes: what runs is handed over in the middle."""

ALL = (
    Scenario(
        "provider-kill",
        "SIGKILL one of three providers",
        plans.one(Part.PROVIDER, Action.KILL, 12),
        Demands(errors=0, gap_p99_s=9),
    ),
    Scenario(
        "provider-kill-quick",
        "the same with heartbeat_s=0.5",
        plans.one(Part.PROVIDER, Action.KILL, 6),
        Demands(errors=0, gap_p99_s=3),
        heartbeat_s=QUICK_S,
    ),
    Scenario(
        "provider-stop",
        "SIGSTOP a provider for 20 s, then SIGCONT: a zombie wakes",
        plans.one(Part.PROVIDER, Action.STOP, 20),
        NO_ERRORS,
        tokens=600,
    ),
    Scenario("engine-kill", "SIGKILL an engine", plans.one(Part.ENGINE, Action.KILL, 6), NO_ERRORS),
    Scenario("engine-stop", "SIGSTOP an engine for 8 s", plans.one(Part.ENGINE, Action.STOP, 8), NO_ERRORS),
    Scenario(
        "broker-empty",
        "SIGKILL the broker; it is back empty 2 s later",
        plans.one(Part.BROKER, Action.KILL, 2),
        NO_ERRORS,
    ),
    Scenario(
        "broker-appendonly",
        "SIGKILL the broker; it is back 2 s later with its file, of which the last second is gone",
        plans.one(Part.BROKER, Action.POWER_CUT, 2),
        NO_ERRORS,
        broker=BrokerKind.APPENDONLY,
    ),
    Scenario(
        "broker-sentinel",
        "SIGKILL the master; the sentinels make its replica the master",
        plans.one(Part.BROKER, Action.KILL, 2),
        NO_ERRORS,
        broker=BrokerKind.SENTINEL,
    ),
    Scenario(
        "cluster-kill-jobs",
        "SIGKILL the master of the cluster that has the jobs; its replica takes over",
        plans.cluster_kill(0),
        NO_ERRORS,
        broker=BrokerKind.CLUSTER,
    ),
    Scenario(
        "cluster-kill-replies",
        "the same with the master that has the replies of a hub",
        plans.cluster_kill(1),
        NO_ERRORS,
        broker=BrokerKind.CLUSTER,
    ),
    Scenario(
        "cluster-move",
        "slots that are in use move to other masters, key by key",
        plans.slots_move,
        NO_ERRORS,
        broker=BrokerKind.CLUSTER,
    ),
    Scenario(
        "broker-flush",
        "FLUSHALL: everything is gone and no connection breaks; errors may be, holes may not",
        plans.one(Part.BROKER, Action.FORGET, 0),
    ),
    Scenario("broker-stop", "SIGSTOP the broker for 8 s", plans.one(Part.BROKER, Action.STOP, 8), NO_ERRORS),
    Scenario(
        "hub-kill",
        "SIGKILL one of two hubs",
        plans.one(Part.HUB, Action.KILL, 12),
        Demands(errors=0, freed_s=5),
        manners=RESUMABLE,
    ),
    Scenario(
        "front-hub-kill",
        "SIGKILL one of two hubs, of clients that ask a `ghub connect` and know nothing of resuming",
        plans.one(Part.HUB, Action.KILL, 12),
        NO_ERRORS,
        manners=STOCK,
        has_front=True,
    ),
    Scenario(
        "upgrade-sentinel",
        "restart hubs, providers and the broker's servers, one after the other, behind a `ghub connect`",
        plans.upgrade,
        NO_ERRORS,
        manners=STOCK,
        broker=BrokerKind.SENTINEL,
        is_steady=True,
        has_front=True,
        env=HASTY_DRAIN,
    ),
    Scenario(
        "upgrade-cluster",
        "the same with a cluster",
        plans.upgrade,
        NO_ERRORS,
        manners=STOCK,
        broker=BrokerKind.CLUSTER,
        is_steady=True,
        has_front=True,
        env=HASTY_DRAIN,
    ),
    Scenario(
        "hub-kill-keyed",
        "the same, of clients with a key whose limits are kept in books",
        plans.one(Part.HUB, Action.KILL, 12),
        Demands(errors=0, freed_s=5),
        manners=RESUMABLE,
        is_keyed=True,
    ),
    Scenario(
        "broker-then-hub",
        "SIGKILL the broker, which is back empty; then SIGKILL a hub",
        plans.broker_then_hub,
        NO_ERRORS,
        manners=RESUMABLE,
    ),
    Scenario(
        "hub-stop", "SIGSTOP a hub for 12 s, then SIGCONT", plans.one(Part.HUB, Action.STOP, 12), manners=RESUMABLE
    ),
    Scenario(
        "network",
        "the line between a provider and the broker is half closed, cut, stalled",
        plans.network,
        NO_ERRORS,
        tokens=450,
    ),
    Scenario(
        "clients", "clients that are slow, that go away, that want it whole", plans.none, NO_ERRORS, manners=MIXED
    ),
    Scenario(
        "poison",
        "a prompt kills its engine each time",
        plans.none,
        Demands(errors=1, dead=1),
        is_poisoned=True,
    ),
    Scenario(
        "long",
        "generations longer than every timeout and every life of a key",
        plans.none,
        NO_ERRORS,
        tokens=600,
        env={
            "GHUB_HUB_REPLY_TTL_S": "5",
            "GHUB_HUB_REQUEST_TTL_S": "10",
            "GHUB_HUB_RESUME_WINDOW_S": "5",
            "GHUB_HUB_QUEUE_TIMEOUT_S": "5",
            "GHUB_PROVIDER_TOKEN_TIMEOUT_S": "5",
            "GHUB_PROVIDER_FIRST_TOKEN_TIMEOUT_S": "5",
        },
        counts_generations=True,
    ),
    Scenario(
        "random", "everything at random, for --minutes", plans.random_faults, manners=MIXED, is_steady=True, tokens=200
    ),
)
BY_NAME = {scenario.name: scenario for scenario in ALL}
