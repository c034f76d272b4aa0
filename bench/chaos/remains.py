"""What a run leaves behind, of which there must be nothing once its clients are served."""

import asyncio
import time
from collections.abc import Iterator

import redis

from bench.chaos.site import ANSWER_KEEP_S, Site
from tests.support import leftovers

FINAL_STATES = {"done", "failed", "cancelled", "expired"}
MEANT_TO_STAY = ("ghub:key:", "ghub:keys", "ghub:credentials", "ghub:usage:")
LOOK_S = 0.5
LIMIT_S = 40
"""Until all is gone: leases, the time that ended answers stay, and a round of those who tidy up."""
SHOWN = 5
MOST_CHARS = 1000


async def remains(site: Site, limit_s: float = LIMIT_S, *, is_patient: bool = True) -> list[str]:
    """What is still there after the limit, in words; empty as soon as nothing is.

    An impatient look lets those ended answers be that can still be resumed, if they have not long to live.
    """
    end_s = time.monotonic() + limit_s
    while found := await asyncio.to_thread(_all, site, is_patient=is_patient):
        if time.monotonic() > end_s:
            return found
        await asyncio.sleep(LOOK_S)
    return []


def _all(site: Site, *, is_patient: bool) -> list[str]:
    try:
        with site.grid.redis() as client:
            found = [*_in_broker(client, is_patient=is_patient), *_in_nodes(site, client)]
    except redis.RedisError as exc:
        return [f"the broker does not answer: {exc}"]
    if count := site.open_generations():
        found.append(f"{count} generations")
    if not site.is_at_rest():
        found.append("a hub that does not work, or a provider that is not idle")
    return found


def _in_broker(client: redis.Redis, *, is_patient: bool) -> Iterator[str]:
    names = [name for name in leftovers.keys(client) if is_patient or not _is_kept(client, name)]
    for what, head in (
        ("reply", "ghub:reply:"),
        ("set of open requests", "ghub:{open}:"),
        ("book of limits", "ghub:limit:"),
        ("waiting index", leftovers.WAITING),
        ("idempotency key", "ghub:idempotency:"),
    ):
        if kept := [name for name in names if name.startswith(head)]:
            yield f"{len(kept)} of {what}: {', '.join(kept[:SHOWN])}"
    if replies := [name for name in names if name.startswith("ghub:reply:")]:
        ttl_s, newest = client.ttl(replies[0]), client.xrevrange(replies[0], count=3)
        yield f"the first of them for {ttl_s} s more, its newest entries: {newest}"[:MOST_CHARS]
    if jobs := leftovers.jobs(client):
        yield f"{jobs} jobs in lanes, {leftovers.pending(client)} of them claimed"
    if immortal := [name for name in leftovers.immortal(client) if not name.startswith(MEANT_TO_STAY)]:
        yield f"{len(immortal)} keys without a TTL: {', '.join(immortal[:SHOWN])}"
    open_requests = [name for name in names if name.startswith("ghub:request:") and not _is_over(client, name)]
    if open_requests:
        facts = client.hgetall(open_requests[0])
        yield f"{len(open_requests)} requests not over, as {open_requests[0]}: {facts}"


def _is_kept(client: redis.Redis, name: str) -> bool:
    """Whether this belongs to an answer that has ended and is kept for a while, for whoever resumes it."""
    if not name.startswith(("ghub:reply:", "ghub:idempotency:")):
        return False
    if not 0 <= client.ttl(name) <= ANSWER_KEEP_S:
        return False
    if name.startswith("ghub:idempotency:"):
        return True
    words = {word for _, entry in client.xrevrange(name, count=1) or () for word in entry or ()}
    return bool(words & {"end", "error"})


def _is_over(client: redis.Redis, name: str) -> bool:
    return client.hget(name, "status") in FINAL_STATES or not client.exists(name)


def _in_nodes(site: Site, client: redis.Redis) -> Iterator[str]:
    for node, running in site.nodes(client).items():
        if running:
            yield f"{node} says it runs {', '.join(running[:SHOWN])}"
    for name in [name for name in leftovers.keys(client) if name.startswith("ghub:hub:")]:
        if (count := client.hget(name, "open_requests")) not in ("0", None):
            yield f"{name} says {count!s} requests are open"
