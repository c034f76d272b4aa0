"""Looks at the broker: is it there, does it keep what it is told, who may do what, and what time is it there."""

import time

from common.broker.broker import Broker, connect
from common.broker.clock import BrokerClock
from common.broker.facts import BrokerFacts, read_facts
from common.broker.users import BrokerUsers
from common.errors import BrokerDenied, BrokerError, BrokerRefused, SettingsError
from ghub.checking.findings import Finding
from ghub.checking.looking import bounded
from ghub.doctor.surroundings import Surroundings
from ghub.up.broker import without_password

CLOCKS_APART_S = 5.0
"""Deadlines are in the broker's time, so clocks may differ; but HMACs of direct calls 30 s in the future are refused,
and times that people read in logs should fit."""


async def look_at_broker(surroundings: Surroundings, prefix: str) -> dict[str, Finding]:
    """All that is to be said of it; one finding if it does not answer."""
    url = surroundings.broker_url
    if url is None:
        return {"broker": Finding.skip("none is named here: set GHUB_REDIS_URL to have it looked at")}
    try:
        broker = connect(url, prefix=prefix, client_name="ghub-doctor")
    except SettingsError as exc:
        return {"broker": Finding.fail(str(exc), f"see {surroundings.broker_source}")}
    shown = without_password(url)
    try:
        facts = await read_facts(broker)
        return {
            "broker": Finding.ok(f"{facts.product} {facts.version} at {shown}, of {surroundings.broker_source}"),
            "persistence": _persistence(facts),
            "memory": _memory(facts),
            "acl": await bounded(_acl(broker)),
            "clock": await bounded(_clock(broker)),
        }
    except BrokerDenied as exc:
        return {
            "broker": Finding.fail(f"{shown}: {exc}", f"user and password are those of {surroundings.broker_source}")
        }
    except BrokerError as exc:
        advice = f"is it running, and the address of {surroundings.broker_source} right?"
        return {"broker": Finding.fail(f"{shown}: {exc}", advice)}
    finally:
        await broker.aclose()


def _persistence(facts: BrokerFacts) -> Finding:
    if facts.has_log:
        return Finding.ok("it writes a log of all that it is told (appendonly)")
    if facts.keeps_nothing:
        return Finding.warn(
            "it keeps nothing on disk: a restart loses what waits, client keys, tokens and usage", "set appendonly yes"
        )
    if facts.has_log is None:
        return Finding.skip("it does not tell (appendonly)")
    return Finding.warn("it saves now and then only: a crash loses what came since", "set appendonly yes")


def _memory(facts: BrokerFacts) -> Finding:
    if not facts.eviction:
        return Finding.skip("it does not tell (maxmemory-policy)")
    if facts.eviction == "noeviction":
        return Finding.ok("it evicts nothing (noeviction)")
    return Finding.fail(
        f"it evicts keys when its memory is full ({facts.eviction}): answers would vanish",
        "set maxmemory-policy noeviction",
    )


async def _acl(broker: Broker) -> Finding:
    users = BrokerUsers(broker)
    if await users.is_open_to_all():
        return Finding.warn(
            "whoever reaches it needs no password",
            "give it one (requirepass, or ACL SETUSER default off), or keep others out",
        )
    try:
        made = len(await users.users())
    except BrokerRefused as exc:
        return Finding.warn("hubs cannot make users for providers with this one", str(exc))
    return Finding.ok(f"a password is needed; hubs may make users, and made {made} for providers")


async def _clock(broker: Broker) -> Finding:
    clock = BrokerClock(broker)
    await clock.sync()
    apart_s = clock.now_ms() / 1000 - time.time()
    text = f"this machine and the broker are {abs(apart_s):.2f} s apart"
    if abs(apart_s) > CLOCKS_APART_S:
        return Finding.warn(text, "let both keep time by NTP (timedatectl set-ntp true)")
    return Finding.ok(text)
