"""What strikes when: the plans of faults that runs draw."""

import random
from collections.abc import Callable

from bench.chaos.faults import Action, Fault, Part
from bench.chaos.site import HUBS, PROVIDERS

MIDST_S = 1.0
"""After the last stream has heard its first token: when a single fault strikes."""
ROUND_S = 12.0
"""Between two faults of the random run, on average: most are over when the next one comes."""

Plan = Callable[[random.Random, float], list[Fault]]
"""Draws the faults of a run; one that goes on and on is so many seconds long."""

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
"""What may strike at random, and how long it lasts, s."""


def one(part: Part, action: Action, lasts_s: float) -> Plan:
    """One such fault in the midst of all streams; which of several it hits is drawn."""

    def draw(dice: random.Random, _length_s: float) -> list[Fault]:
        return [Fault(MIDST_S, part, action, _which(dice, part), lasts_s)]

    return draw


def none(_dice: random.Random, _length_s: float) -> list[Fault]:
    """No fault."""
    return []


def network(dice: random.Random, _length_s: float) -> list[Fault]:
    """Each way in which a line can fail, one after the other."""
    first_s = MIDST_S
    return [
        Fault(first_s, Part.NETWORK, Action.HALF_CLOSE, 0, 0),
        Fault(first_s + 2, Part.NETWORK, Action.CUT, 0, dice.uniform(1, 2)),
        Fault(first_s + 6, Part.NETWORK, Action.STALL, 0, dice.uniform(2, 4)),
    ]


def cluster_kill(nth: int) -> Plan:
    """A master dies: that of the jobs (0), or of a hub's replies (1)."""
    return lambda _dice, _length_s: [Fault(MIDST_S, Part.BROKER, Action.KILL, nth, 2)]


def slots_move(_dice: random.Random, _length_s: float) -> list[Fault]:
    """The jobs move to another master, then a hub's replies, then the jobs once more."""
    return [Fault(MIDST_S + number, Part.BROKER, Action.MOVE, nth, 0) for number, nth in enumerate((0, 1, 0))]


def upgrade(_dice: random.Random, _length_s: float) -> list[Fault]:
    """Every hub, every provider, every server of the broker, one after the other."""
    parts = [(Part.HUB, nth) for nth in range(HUBS)] + [(Part.PROVIDER, nth) for nth in range(PROVIDERS)]
    return [Fault(0, part, Action.RESTART, nth, 0) for part, nth in [*parts, (Part.BROKER, 0)]]


def broker_then_hub(dice: random.Random, _length_s: float) -> list[Fault]:
    """What the broker forgot must be there again when another hub needs it."""
    return [
        Fault(MIDST_S, Part.BROKER, Action.KILL, 0, 2),
        Fault(MIDST_S + 6, Part.HUB, Action.KILL, _which(dice, Part.HUB), 8),
    ]


def random_faults(dice: random.Random, length_s: float) -> list[Fault]:
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
