"""The named runs: a grid, a load, a plan of faults, and what must be true afterwards."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bench.chaos.client import Ask, Manner
from bench.chaos.faults import Action, Fault, Part
from bench.chaos.load import Wishes
from bench.chaos.report import Demands
from bench.chaos.site import HUBS, PROVIDERS, BrokerKind

MIDST_S = 1.0
"""After the last stream has heard its first token: when a single fault strikes."""
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
ROUND_S = 12.0
"""Between two faults of the random run, on average: most are over when the next one comes."""

Plan = Callable[[random.Random, float], list[Fault]]
"""Draws the faults of a run; one that goes on and on is so many seconds long."""


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


def _one(part: Part, action: Action, lasts_s: float) -> Plan:
    """One such fault in the midst of all streams; which of several it hits is drawn."""

    def draw(dice: random.Random, _length_s: float) -> list[Fault]:
        return [Fault(MIDST_S, part, action, _which(dice, part), lasts_s)]

    return draw


def _none(_dice: random.Random, _length_s: float) -> list[Fault]:
    return []


def _network(dice: random.Random, _length_s: float) -> list[Fault]:
    """Each way in which a line can fail, one after the other."""
    first_s = MIDST_S
    return [
        Fault(first_s, Part.NETWORK, Action.HALF_CLOSE, 0, 0),
        Fault(first_s + 2, Part.NETWORK, Action.CUT, 0, dice.uniform(1, 2)),
        Fault(first_s + 6, Part.NETWORK, Action.STALL, 0, dice.uniform(2, 4)),
    ]


def _cluster_kill(nth: int) -> Plan:
    """A master dies: that of the jobs (0), or of a hub's replies (1)."""
    return lambda _dice, _length_s: [Fault(MIDST_S, Part.BROKER, Action.KILL, nth, 2)]


def _slots_move(_dice: random.Random, _length_s: float) -> list[Fault]:
    """The jobs move to another master, then a hub's replies, then the jobs once more."""
    return [Fault(MIDST_S + number, Part.BROKER, Action.MOVE, nth, 0) for number, nth in enumerate((0, 1, 0))]


def _upgrade(_dice: random.Random, _length_s: float) -> list[Fault]:
    """Every hub, every provider, every server of the broker, one after the other."""
    parts = [(Part.HUB, nth) for nth in range(HUBS)] + [(Part.PROVIDER, nth) for nth in range(PROVIDERS)]
    return [Fault(0, part, Action.RESTART, nth, 0) for part, nth in [*parts, (Part.BROKER, 0)]]


def _broker_then_hub(dice: random.Random, _length_s: float) -> list[Fault]:
    """What the broker forgot must be there again when another hub needs it."""
    return [
        Fault(MIDST_S, Part.BROKER, Action.KILL, 0, 2),
        Fault(MIDST_S + 6, Part.HUB, Action.KILL, _which(dice, Part.HUB), 8),
    ]


def _random(dice: random.Random, length_s: float) -> list[Fault]:
    """Everything at random, for so long; now and then two at once."""
    plan: list[Fault] = []
    at_s = 2.0
    while at_s < length_s - 5:
        part, action, least_s, most_s = dice.choice(MENU)
        plan.append(Fault(at_s, part, action, _which(dice, part), dice.uniform(least_s, most_s)))
        at_s += dice.uniform(0.3, 1.7) * ROUND_S
    return _apart(plan)


def _apart(plan: list[Fault]) -> list[Fault]:
    """Without those that hit a part which an earlier one has not left yet: it cannot be killed when it is down."""
    kept: list[Fault] = []
    free_at_s: dict[tuple[Part, int], float] = {}
    for fault in plan:
        what = (fault.part, fault.nth)
        if fault.at_s >= free_at_s.get(what, 0):
            kept.append(fault)
            free_at_s[what] = fault.at_s + fault.lasts_s + 5
    return kept


def _which(dice: random.Random, part: Part) -> int:
    count = {Part.PROVIDER: PROVIDERS, Part.ENGINE: PROVIDERS, Part.HUB: HUBS}.get(part, 1)
    return dice.randrange(count)


MENU = (
    (Part.PROVIDER, Action.KILL, 1, 10),
    (Part.PROVIDER, Action.STOP, 1, 20),
    (Part.HUB, Action.KILL, 1, 8),
    (Part.HUB, Action.STOP, 1, 8),
    (Part.ENGINE, Action.KILL, 1, 8),
    (Part.ENGINE, Action.STOP, 1, 8),
    (Part.BROKER, Action.KILL, 0.5, 5),
    (Part.BROKER, Action.STOP, 0.5, 5),
    (Part.NETWORK, Action.CUT, 0.5, 5),
    (Part.NETWORK, Action.STALL, 0.5, 8),
    (Part.NETWORK, Action.HALF_CLOSE, 0, 0),
)
QUICK_S = 0.5
NO_ERRORS = Demands(errors=0)
HASTY_DRAIN = {"GHUB_PROVIDER_DRAIN_TIMEOUT_S": "3"}
"""Less than an answer takes: what runs is handed over in the middle."""

ALL = (
    Scenario(
        "provider-kill",
        "SIGKILL one of three providers",
        _one(Part.PROVIDER, Action.KILL, 12),
        Demands(errors=0, gap_p99_s=9),
    ),
    Scenario(
        "provider-kill-quick",
        "the same with heartbeat_s=0.5",
        _one(Part.PROVIDER, Action.KILL, 6),
        Demands(errors=0, gap_p99_s=3),
        heartbeat_s=QUICK_S,
    ),
    Scenario(
        "provider-stop",
        "SIGSTOP a provider for 20 s, then SIGCONT: a zombie wakes",
        _one(Part.PROVIDER, Action.STOP, 20),
        NO_ERRORS,
        tokens=600,
    ),
    Scenario("engine-kill", "SIGKILL an engine", _one(Part.ENGINE, Action.KILL, 6), NO_ERRORS),
    Scenario("engine-stop", "SIGSTOP an engine for 8 s", _one(Part.ENGINE, Action.STOP, 8), NO_ERRORS),
    Scenario(
        "broker-empty", "SIGKILL the broker; it is back empty 2 s later", _one(Part.BROKER, Action.KILL, 2), NO_ERRORS
    ),
    Scenario(
        "broker-appendonly",
        "SIGKILL the broker; it is back 2 s later with its file, of which the last second is gone",
        _one(Part.BROKER, Action.POWER_CUT, 2),
        NO_ERRORS,
        broker=BrokerKind.APPENDONLY,
    ),
    Scenario(
        "broker-sentinel",
        "SIGKILL the master; the sentinels make its replica the master",
        _one(Part.BROKER, Action.KILL, 2),
        NO_ERRORS,
        broker=BrokerKind.SENTINEL,
    ),
    Scenario(
        "cluster-kill-jobs",
        "SIGKILL the master of the cluster that has the jobs; its replica takes over",
        _cluster_kill(0),
        NO_ERRORS,
        broker=BrokerKind.CLUSTER,
    ),
    Scenario(
        "cluster-kill-replies",
        "the same with the master that has the replies of a hub",
        _cluster_kill(1),
        NO_ERRORS,
        broker=BrokerKind.CLUSTER,
    ),
    Scenario(
        "cluster-move",
        "slots that are in use move to other masters, key by key",
        _slots_move,
        NO_ERRORS,
        broker=BrokerKind.CLUSTER,
    ),
    Scenario(
        "broker-flush",
        "FLUSHALL: everything is gone and no connection breaks; errors may be, holes may not",
        _one(Part.BROKER, Action.FORGET, 0),
    ),
    Scenario("broker-stop", "SIGSTOP the broker for 8 s", _one(Part.BROKER, Action.STOP, 8), NO_ERRORS),
    Scenario(
        "hub-kill",
        "SIGKILL one of two hubs",
        _one(Part.HUB, Action.KILL, 12),
        Demands(errors=0, freed_s=5),
        manners=RESUMABLE,
    ),
    Scenario(
        "front-hub-kill",
        "SIGKILL one of two hubs, of clients that ask a `ghub connect` and know nothing of resuming",
        _one(Part.HUB, Action.KILL, 12),
        NO_ERRORS,
        manners=STOCK,
        has_front=True,
    ),
    Scenario(
        "upgrade-sentinel",
        "restart hubs, providers and the broker's servers, one after the other, behind a `ghub connect`",
        _upgrade,
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
        _upgrade,
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
        _one(Part.HUB, Action.KILL, 12),
        Demands(errors=0, freed_s=5),
        manners=RESUMABLE,
        is_keyed=True,
    ),
    Scenario(
        "broker-then-hub",
        "SIGKILL the broker, which is back empty; then SIGKILL a hub",
        _broker_then_hub,
        NO_ERRORS,
        manners=RESUMABLE,
    ),
    Scenario("hub-stop", "SIGSTOP a hub for 12 s, then SIGCONT", _one(Part.HUB, Action.STOP, 12), manners=RESUMABLE),
    Scenario(
        "network",
        "the line between a provider and the broker is half closed, cut, stalled",
        _network,
        NO_ERRORS,
        tokens=450,
    ),
    Scenario("clients", "clients that are slow, that go away, that want it whole", _none, NO_ERRORS, manners=MIXED),
    Scenario(
        "poison",
        "a prompt kills its engine each time",
        _none,
        Demands(errors=1, dead=1),
        is_poisoned=True,
    ),
    Scenario(
        "long",
        "generations longer than every timeout and every life of a key",
        _none,
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
    Scenario("random", "everything at random, for --minutes", _random, manners=MIXED, is_steady=True, tokens=200),
)
BY_NAME = {scenario.name: scenario for scenario in ALL}
