"""What requests leave behind in a broker."""

import redis

from tests.support.processes import until

LANES = "ghub:{jobs}:"
WAITING = f"{LANES}waiting:"


def lanes(client: redis.Redis, model: str = "") -> list[str]:
    """Every job lane there is, or those of one model."""
    return sorted(key for key in keys(client) if _is_lane(key) and key.endswith(model))


def jobs(client: redis.Redis, model: str = "") -> int:
    """Jobs in all lanes, waiting or claimed."""
    return sum(int(client.xlen(lane)) for lane in lanes(client, model))


def pending(client: redis.Redis, model: str = "") -> int:
    """Jobs in all lanes that are claimed."""
    return sum(int(client.xpending(lane, "providers")["pending"]) for lane in lanes(client, model))


def waiting(client: redis.Redis) -> int:
    """Jobs in all lanes that nobody has claimed."""
    return jobs(client) - pending(client)


def indexed(client: redis.Redis, model: str = "") -> int:
    """Requests in all waiting indexes; just after a claim they lag a little behind the lanes."""
    return sum(int(client.zcard(key)) for key in keys(client) if key.startswith(WAITING) and key.endswith(model))


def replies(client: redis.Redis) -> list[str]:
    """Every reply there is."""
    return [key for key in keys(client) if key.startswith("ghub:reply:")]


def immortal(client: redis.Redis) -> list[str]:
    """Keys without a TTL that are no lanes."""
    return [key for key in keys(client) if client.ttl(key) == -1 and not _is_lane(key)]


def entries_added(client: redis.Redis) -> int:
    """Jobs that ever were in a lane."""
    return sum(int(client.xinfo_stream(lane)["entries-added"]) for lane in lanes(client))


def is_at_rest(client: redis.Redis, model: str = "") -> bool:
    """Whether no job, no claim and no place in a queue is left, of one model or of all."""
    return jobs(client, model) == pending(client, model) == indexed(client, model) == 0


def until_at_rest(client: redis.Redis, within_s: float, model: str = "") -> None:
    """Wait until nothing is left."""
    until(lambda: is_at_rest(client, model), within_s, lambda: told(client))


def told(client: redis.Redis) -> str:
    """What is there, for a failing test."""
    counts = f"jobs {jobs(client)}, pending {pending(client)}, indexed {indexed(client)}"
    return f"{counts}, keys {sorted(keys(client))}"


def keys(client: redis.Redis) -> list[str]:
    """Every key."""
    return [str(key) for key in client.scan_iter(count=1000)]


def _is_lane(key: str) -> bool:
    return key.startswith(LANES) and not key.startswith(WAITING) and key != f"{LANES}lanes"
